/** The commands as a person types them against a lab that runs: drain, stop and resume, apply, audit; real WireGuard throughout. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join, relative } from "node:path";
import { after, before, describe, it } from "node:test";
import { reflexClient } from "../../drivers/balancer/reflex-client.ts";
import { NO_RETRY, UnixHttpClient } from "../../drivers/http-unix.ts";
import { netnsHypervisor } from "../../drivers/hypervisor/netns.ts";
import { dialProcess } from "../../drivers/identity/dial.ts";
import { openDataKeyRegistry } from "../../drivers/store/data-keys.ts";
import { openTransit } from "../../drivers/vault/transit.ts";
import { openVault, type Vault } from "../../drivers/vault/vault.ts";
import { LabClient } from "../../lab/lab-client.ts";
import { felt } from "../../lab/measure.ts";
import { operatorIdentity } from "../../lab/operator.ts";
import { awaitGone, awaitWhole, busiestEndpoint, sessionsOf, settledTraffic } from "../../lab/trial.ts";
import type { ClientsRevoked, EndpointRevoked, KeysRotated } from "../../models/keys.ts";
import type { RollStatus } from "../../models/roll.ts";
import type { DrainFinished, SwarmStatus } from "../../models/swarm-messages.ts";
import { Connection, connectionFile, localSockets } from "../../setup/connection.ts";
import type { Check } from "../../setup/examine.ts";
import { paths } from "../../setup/paths.ts";
import { eventually } from "../support/eventually.ts";
import { historiesOf } from "../support/lab-histories.ts";
import { identitiesOf, loggedFromNow } from "../support/lab-identities.ts";
import { coreWriters, crash, crashFiles, LeakScan, openFiles, type Secret } from "../support/leak-scan.ts";

const MAIN = join(import.meta.dirname, "..", "..", "cli", "main.ts");
const CLIENTS = 6;
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

describe("the commands against a running lab", () => {
  let home: string;
  let env: NodeJS.ProcessEnv;
  /** Public key of the client that is put out. */
  let clientOut: string | undefined;

  const foreshift = (...args: string[]): Promise<Ran> =>
    new Promise((resolve) => {
      execFile(process.execPath, [MAIN, ...args], { env, maxBuffer: OUTPUT_BYTES_MAX }, (error, stdout, stderr) => {
        resolve({ code: typeof error?.code === "number" ? error.code : error === null ? 0 : -1, stdout, stderr });
      });
    });
  const status = async (): Promise<SwarmStatus> => {
    const ran = await foreshift("swarm", "get", "lab", "--json");
    assert.equal(ran.code, 0, ran.stderr);
    return JSON.parse(ran.stdout) as SwarmStatus;
  };

  before(async () => {
    home = await mkdtemp(join(tmpdir(), "foreshift-commands-"));
    // Everything that is ever logged, for the search of secrets.
    env = { ...process.env, FORESHIFT_HOME: home, FORESHIFT_BIN: paths().bin, FORESHIFT_DEBUG: "1" };
    delete env.TEMPORAL_ADDRESS;
    delete env.DATABASE_URL;
    const { code, stderr } = await foreshift("lab", "up", "--clients", String(CLIENTS), "--json");
    assert.equal(code, 0, stderr);
  });

  after(async () => {
    await foreshift("lab", "down");
    await rm(home, { recursive: true, force: true });
    await rm(paths(env).run, { recursive: true, force: true });
  });

  it("drains an endpoint onto the others; their clients notice nothing", async () => {
    const { balancer, lab, close } = await instruments();
    try {
      const endpoint = await busiestEndpoint(balancer);
      const others = (await balancer.health()).map((member) => member.endpoint).filter((name) => name !== endpoint);
      const held = new Set((await sessionsOf(balancer, endpoint)).map(({ publicKey }) => publicKey));
      await lab.resetTraffic();
      const { code, stdout, stderr } = await foreshift("endpoint", "drain", endpoint, "-s", "lab", "--wait", "--json");
      assert.equal(code, 0, `${stdout}${stderr}`);
      const result = JSON.parse(stdout) as DrainFinished;
      assert.deepEqual([result.outcome, result.sessionsMoved], ["drained", held.size]);
      const homes = (await balancer.sessions())
        .filter(({ publicKey }) => held.has(publicKey))
        .map((session) => session.endpoint);
      assert.equal(homes.length, held.size);
      for (const name of homes) assert.ok(others.includes(name), `${name} is one of ${others.join()}`);
      const cost = felt(await settledTraffic(lab));
      assert.ok(cost.packetsSent > 0);
      assert.deepEqual([cost.packetsLost, cost.packetsDuplicated, cost.tcpBroken], [0, 0, 0]);
      const audit = await foreshift("audit", "--endpoint", endpoint, "--json");
      const actions = (JSON.parse(audit.stdout) as { action: string }[]).map(({ action }) => action);
      for (const action of ["drain", "pin sessions", "retire sessions", "terminate the machine"])
        assert.ok(actions.includes(action), `${action} is not in ${actions.join()}`);
    } finally {
      await close();
    }
  });

  it("refuses changes while automation is stopped, and takes them again when it is resumed", async () => {
    const endpoint = (await status()).endpoints.find(({ phase }) => phase === "active")?.endpoint ?? "";
    const stopped = await foreshift("stop", "--reason", "the test looks");
    assert.equal(stopped.code, 0, stopped.stderr);
    const refused = await foreshift("endpoint", "replace", endpoint, "-s", "lab");
    assert.equal(refused.code, 65);
    assert.match(refused.stderr, /Automation is stopped for lab, so nothing was done\n {2}Run `foreshift resume`/);
    assert.equal((await status()).stopped?.reason, "the test looks");
    assert.equal((await foreshift("resume")).code, 0);
    assert.equal((await status()).stopped, undefined);
  });

  it("takes a changed swarm file, and refuses a wrong one by field", async () => {
    const { spec } = await status();
    assert.ok(spec !== undefined);
    const file = join(home, "swarm.json");
    const apply = async (wanted: object) => {
      await writeFile(file, JSON.stringify(wanted), { mode: 0o600 });
      return await foreshift("swarm", "apply", "-f", file);
    };
    const wrong = await apply({ ...spec, endpoints: { ...spec.endpoints, cuont: 2 } });
    assert.equal(wrong.code, 65);
    assert.match(wrong.stderr, /endpoints\.?.*cuont/s);
    const taken = await apply({ ...spec, thresholds: { ...spec.thresholds, coolDownMs: 12_345 } });
    assert.equal(taken.code, 0, taken.stderr);
    assert.match(taken.stdout, /Swarm lab is updated/);
    assert.equal((await status()).spec?.thresholds.coolDownMs, 12_345);
  });

  it("plans the next two days once five minutes were measured, and says so before", async () => {
    const planned = await foreshift("swarm", "plan", "lab");
    if (planned.code === 0) assert.match(planned.stdout, /Sessions of lab in the next 48 hours, .*following it/s);
    else assert.match(planned.stderr, /the plan of lab.*no sessions were measured for five minutes yet/s);
    const unknown = await foreshift("swarm", "plan", "nobody");
    assert.equal(unknown.code, 65, unknown.stderr);
  });

  it("rolls an image out to the whole swarm under traffic, and no packet is lost", { timeout: 240_000 }, async () => {
    const { spec } = await status();
    assert.ok(spec !== undefined);
    const file = join(home, "rolled.json");
    // Health is judged elsewhere (test/workflows/roll.test.ts): here machines compete for the CPU with whatever else runs.
    const rollout = { ...spec.rollout, bakeMs: 1_000, worseShareMax: 1 };
    await writeFile(file, JSON.stringify({ ...spec, rollout, budget: { ...spec.budget, windowMs: 1_000 } }), { mode: 0o600 });
    assert.equal((await foreshift("swarm", "apply", "-f", file)).code, 0);
    const wrong = await foreshift("swarm", "roll", "lab", "--image", "Not An Image");
    assert.deepEqual([wrong.code, /--image is not valid: got "?Not An Image/.test(wrong.stderr)], [65, true], wrong.stderr);
    const none = await foreshift("swarm", "roll", "lab", "--pause");
    assert.deepEqual([none.code, /No image is being rolled out in swarm lab/.test(none.stderr)], [65, true], none.stderr);
    const { hypervisor: socketPath } = localSockets(paths(env).run);
    const lab = new LabClient(socketPath);
    const hypervisor = netnsHypervisor({ socketPath });
    try {
      const before = (await hypervisor.list("lab")).map(({ name }) => name);
      await lab.resetTraffic();
      const { code, stdout, stderr } = await foreshift("swarm", "roll", "lab", "--image", "v2", "--wait", "--json");
      assert.equal(code, 0, `${stdout}${stderr}`);
      assert.equal((JSON.parse(stdout) as RollStatus).phase, "rolled");
      const cost = felt(await settledTraffic(lab));
      assert.ok(cost.packetsSent > 0);
      assert.deepEqual([cost.packetsLost, cost.packetsDuplicated, cost.tcpBroken], [0, 0, 0]);
      const after = await hypervisor.list("lab");
      assert.deepEqual([...new Set(after.map(({ image }) => image))], ["v2"]);
      assert.deepEqual(
        after.filter(({ name }) => before.includes(name)),
        [],
        "every machine is another one",
      );
      assert.match((await foreshift("swarm", "get", "lab")).stdout, /Rollout of v2, asked for by .*: rolled\./);
    } finally {
      await Promise.all([lab.close(), hypervisor.close()]);
    }
  });

  it("rotates every client's preshared key, and nobody notices", async () => {
    const lab = new LabClient(localSockets(paths(env).run).hypervisor);
    try {
      await lab.resetTraffic();
      const { code, stdout, stderr } = await foreshift("keys", "rotate", "-s", "lab", "-k", "preshared", "--wait", "--json");
      assert.equal(code, 0, `${stdout}${stderr}`);
      const rotated = JSON.parse(stdout) as KeysRotated;
      assert.deepEqual([rotated.outcome, rotated.done, rotated.skipped], ["rotated", CLIENTS, 0], rotated.text);
      const cost = felt(await settledTraffic(lab));
      assert.ok(cost.packetsSent > 0);
      assert.deepEqual([cost.packetsLost, cost.tcpBroken], [0, 0]);
      const told = await foreshift("keys", "status", "-s", "lab");
      assert.match(told.stdout, /preshared +rotated +6 of 6/);
    } finally {
      await lab.close();
    }
  });

  it("replaces every certificate under traffic: no connection is cut, and everybody has the old ones on their list", async () => {
    const { around, balancer, collector, lab, close } = await instruments();
    try {
      await awaitWhole(around, { count: 3, ghosts: 1 });
      const members = (await balancer.health()).map(({ endpoint }) => endpoint);
      const owners = [...members, "collector", "control", "hypervisor", "reflex"];
      const before = await identitiesOf(home);
      const old = owners.map((name) => before.get(name)?.serial ?? `${name} has none`);
      const streams = await metricOf(collector, "foreshift_session_streams");
      const logged = await loggedFromNow(home);
      await lab.resetTraffic();
      const { code, stdout, stderr } = await foreshift("keys", "rotate", "-s", "lab", "-k", "certificates", "--wait", "--json");
      assert.equal(code, 0, `${stdout}${stderr}`);
      const rotated = JSON.parse(stdout) as KeysRotated;
      assert.deepEqual([rotated.outcome, rotated.done, rotated.skipped], ["rotated", owners.length, 0], rotated.text);
      assert.doesNotMatch(rotated.text, /were ended/);
      const after = await identitiesOf(home);
      const replaced = [...before.keys()].filter((name) => after.get(name)?.serial !== before.get(name)?.serial);
      assert.deepEqual(replaced.toSorted(), owners.toSorted());
      await eventually(
        "the list is everywhere",
        async () => {
          const now = await identitiesOf(home);
          return owners.every((name) => old.every((serial) => now.get(name)?.revoked.has(serial)));
        },
        20_000,
      );
      const list = (await identitiesOf(home)).get("collector")?.revoked;
      for (const name of owners) assert.ok(list?.has(after.get(name)?.serial ?? "") === false, name);
      // A ghost stands still: it comes anew when it wakes.
      const streaming = async () => (await metricOf(collector, "foreshift_session_streams")) >= streams - 1;
      await eventually("every stream stands", streaming, 20_000);
      assert.doesNotMatch(await logged(), /"event":"connection-ended"/);
      const cost = felt(await settledTraffic(lab));
      assert.ok(cost.packetsSent > 0);
      assert.deepEqual([cost.packetsLost, cost.tcpBroken], [0, 0]);
    } finally {
      await close();
    }
  });

  it("puts a client out: off every endpoint within two seconds, and nothing of it comes through", async () => {
    const lab = new LabClient(localSockets(paths(env).run).hypervisor);
    try {
      const [client] = (await lab.describe()).peers;
      clientOut = client?.publicKey;
      const address = client?.innerAddresses[0] ?? "";
      const args = ["-s", "lab", "-c", address, "-r", "a lost laptop", "--json"];
      const { code, stdout, stderr } = await foreshift("keys", "revoke", ...args);
      assert.equal(code, 0, `${stdout}${stderr}`);
      const { endpoints, keysDestroyed, publicKeys } = JSON.parse(stdout) as ClientsRevoked;
      assert.deepEqual([publicKeys, keysDestroyed], [[client?.publicKey], true]);
      assert.ok(endpoints.length > 0);
      for (const { endpoint, outAfterMs } of endpoints)
        assert.ok(outAfterMs !== undefined && outAfterMs < 2_000, `${endpoint}: out after ${outAfterMs} ms`);
      await lab.resetTraffic();
      const { clients } = await settledTraffic(lab);
      const received = (publicKey: string | undefined) =>
        clients.filter((one) => one.publicKey === publicKey).reduce((sum, { up }) => sum + up.received, 0);
      assert.equal(received(client?.publicKey), 0);
      const unknown = await foreshift("keys", "revoke", "-s", "lab", "-c", "10.66.99.99", "-r", "nobody");
      assert.deepEqual([unknown.code, /No client of swarm lab/.test(unknown.stderr)], [65, true], unknown.stderr);
    } finally {
      await lab.close();
    }
  });

  it("puts an endpoint out, and a ghost that somebody wakes all the same; their machines end and others come", async () => {
    const { around, balancer, collector, hypervisor, lab, close } = await instruments();
    try {
      await awaitWhole(around, { count: 3, ghosts: 1 });
      const ghost = (await hypervisor.list("lab")).find(({ state }) => state === "suspended")?.name ?? "";
      const endpoint = await busiestEndpoint(balancer);
      const held = await identitiesOf(home);
      // Stopped, nobody ends their machines, so that it is seen what they can do.
      assert.equal((await foreshift("stop", "--reason", "the test looks at who is out")).code, 0);
      await lab.resetTraffic();
      for (const name of [ghost, endpoint]) {
        const args = ["-s", "lab", "-e", name, "-r", "a copied disk", "--json"];
        const { code, stdout, stderr } = await foreshift("keys", "revoke", ...args);
        assert.equal(code, 0, `${stdout}${stderr}`);
        const { outAfterMs, serials } = JSON.parse(stdout) as EndpointRevoked;
        assert.ok(outAfterMs !== undefined && outAfterMs < 2_000, `${name}: out after ${outAfterMs} ms`);
        assert.ok(serials.includes(held.get(name)?.serial ?? "none"), `${name}: ${serials.join()}`);
        if (name === ghost) {
          const before = await refusals(collector);
          await hypervisor.resume({ operation: "test/resume/revoked", name: ghost });
          await eventually("the ghost is turned away", async () => (await refusals(collector)) > before, 20_000);
          assert.ok((await balancer.health()).every((member) => member.endpoint !== ghost));
        }
      }
      await eventually("nothing lives on it", async () => (await sessionsOf(balancer, endpoint)).length === 0, 20_000);
      const left = (await balancer.health()).find((member) => member.endpoint === endpoint);
      assert.ok(left === undefined || left.ejected);
      const { clients } = await settledTraffic(lab);
      const broken = clients.filter(({ publicKey, tcp }) => publicKey !== clientOut && tcp.broken > 0);
      assert.deepEqual(broken, []);
      assert.equal((await foreshift("resume")).code, 0);
      for (const name of [ghost, endpoint]) await awaitGone(around, name);
      await awaitWhole(around, { count: 3, ghosts: 1 });
    } finally {
      await close();
    }
  });

  it("says that every process's identity lasts, that this person may log in, and that the clocks agree", async () => {
    const { stdout } = await foreshift("doctor", "--json");
    const { checks } = JSON.parse(stdout) as { checks: readonly Check[] };
    const found = new Map(checks.flatMap(({ name, source, state }) => (source === "identity" ? [[name, state]] : [])));
    const processes = ["collector", "control", "hypervisor", "operator", "reflex"];
    const expected = processes.flatMap((name) => [`${name} certificate`, `${name} revocations`]);
    for (const name of [...expected, "login at Vault", "clock"]) assert.equal(found.get(name), "ok", name);
  });

  it("has let no secret out: not to Temporal, the database, logs, processes or files", { timeout: 120_000 }, async () => {
    const said = `canary-${randomBytes(12).toString("hex")}`;
    assert.equal((await foreshift("stop", "--reason", said)).code, 0);
    assert.equal((await foreshift("resume")).code, 0);
    const wayIn = await foreshift("ui");
    assert.match(wayIn.stdout, /^http:\/\/127\.0\.0\.1:\d+\/enter\?ticket=/, wayIn.stderr);
    const { scan, kept } = await secretsOf(home);
    const histories = await historiesOf(home);
    const ids = [...histories.keys()];
    assert.ok(ids.includes("swarm/lab") && ids.some((id) => id.startsWith("drain/lab/")), ids.join());
    const shown = await foreshift("history", "swarm/lab", "--json");
    assert.equal(shown.code, 0, shown.stderr);
    const texts = [shown.stdout, ...histories.values()];
    for (const [at, text] of texts.entries())
      assert.doesNotMatch(
        text,
        /"refused": ?"(A sealed payload|Unknown encoding)/,
        `${ids[at - 1] ?? "swarm/lab"} is readable throughout`,
      );
    assert.ok(
      texts.some((text) => text.includes(said)),
      "what was said is read with the key",
    );
    const leaks = [
      ...scan.within("decoded histories", texts.join("\n")),
      ...(await scan.database(await databaseUrl(home))),
      ...(await scan.processes()),
      ...(await scan.files(home)),
      ...(await scan.files(paths(env).run)),
    ].filter(({ secret, place }) => kept.get(secret)?.test(relative(home, place)) !== true);
    assert.deepEqual(leaks, []);
    const spoken = new LeakScan([{ name: "what was said", value: said }]);
    const temporal = (await spoken.files(home)).filter(({ place }) => basename(place).startsWith("temporal.db"));
    assert.deepEqual(temporal, [], "Temporal's own database holds no word of it");
    assert.deepEqual(await openFiles(home), []);
    await assertScanFinds(scan, home);
  });

  it("writes no core and no report when a process crashes", async () => {
    await eventually("nobody would", async () => (await coreWriters(home)).length === 0);
    const folders = [await crash(home, /workers\/control\.ts/, "SIGSEGV"), await crash(home, /workers\/codec\.ts/, "SIGABRT")];
    for (const folder of folders) assert.deepEqual(await crashFiles(folder), []);
  });

  /** What one looks at the lab with. */
  async function instruments() {
    const sockets = localSockets(paths(env).run);
    const identity = await operatorIdentity(Connection.parse(JSON.parse(await readFile(connectionFile(home), "utf8"))));
    assert.ok(identity !== undefined);
    const balancer = reflexClient({ socketPath: sockets.reflex, dial: dialProcess(identity, "reflex") });
    const dial = dialProcess(identity, "collector");
    const collector = new UnixHttpClient({ socketPath: sockets.collector, name: "collector", dial });
    const hypervisor = netnsHypervisor({ socketPath: sockets.hypervisor });
    const lab = new LabClient(sockets.hypervisor);
    const all = [balancer, collector, hypervisor, lab];
    const close = async () => {
      await Promise.all(all.map((one) => one.close()));
      await identity.close();
    };
    const around = { lab, balancer, hypervisor, swarm: "lab" };
    return { around, balancer, collector, hypervisor, lab, close };
  }
});

/** The sum of a metric's values, whatever their labels. */
async function metricOf(collector: UnixHttpClient, name: string): Promise<number> {
  const { text } = await collector.exchange("GET", "/metrics", { timeoutMs: 10_000, retry: NO_RETRY });
  const lines = text.split("\n").filter((line) => line.startsWith(name));
  assert.ok(lines.length > 0, name);
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

/** Heartbeats and connections of those who are out. */
async function refusals(collector: UnixHttpClient): Promise<number> {
  const heartbeats = await metricOf(collector, 'foreshift_heartbeats_refused_total{why="revoked"}');
  return heartbeats + (await metricOf(collector, 'foreshift_connections_refused_total{why="identity"}'));
}

async function databaseUrl(home: string): Promise<string> {
  return (JSON.parse(await readFile(connectionFile(home), "utf8")) as { databaseUrl: string }).databaseUrl;
}

/** The lab's own secrets, taken from the vault as its administrator; `kept` names the files in which one may lie. */
async function secretsOf(home: string) {
  const keysFile = join("openbao", "keys.json");
  const { rootToken, unsealKey } = JSON.parse(await readFile(join(home, keysFile), "utf8")) as Record<string, string>;
  assert.ok(rootToken !== undefined && unsealKey !== undefined);
  const tokenFile = join("config", "operator-token");
  const operatorToken = (await readFile(join(home, tokenFile), "utf8")).trim();
  const rootFile = join(home, "root-token");
  await writeFile(rootFile, rootToken, { mode: 0o600 });
  const port = (await readFile(join(home, "ports", "openbao"), "utf8")).trim();
  const vault = openVault({ address: `http://127.0.0.1:${port}`, auth: { method: "token-file", tokenFile: rootFile } });
  const registry = openDataKeyRegistry({ databaseUrl: await databaseUrl(home) });
  try {
    const { privateKey = "" } = await vault.kv.read({ path: "swarms/lab/wireguard", version: 1 });
    const transit = openTransit(vault.calls, { mount: "transit", key: "payloads" });
    const { latest } = await transit.versions();
    const dataKeys = await registry.olderThan(latest + 1, 1_000);
    assert.ok(dataKeys.length >= 2, "control worker and command line have sealed with keys of their own");
    const opened = await Promise.all(
      dataKeys.map(async ({ id, wrapped }) => ({ name: `data key ${id}`, value: await transit.unwrap(wrapped) })),
    );
    const presharedPaths = await vault.kv.list("swarms/lab/peers");
    const preshared = await Promise.all(
      presharedPaths.map(async (name) => {
        const path = `swarms/lab/peers/${name}`;
        // Of a client that was put out, and of a rotation that is over, every version is destroyed.
        const living = (await vault.kv.metadata(path)).versions.filter(({ destroyed }) => !destroyed);
        const keys = await Promise.all(living.map(({ version }) => vault.kv.read({ path, version })));
        return keys.map(({ presharedKey = "" }) => ({
          name: `preshared key ${name}`,
          value: Buffer.from(presharedKey, "base64"),
        }));
      }),
    );
    assert.ok(preshared.flat().length > 0, "clients have preshared keys by now");
    const secrets: Secret[] = [
      { name: "swarm key", value: Buffer.from(privateKey, "base64") },
      ...(await presharedKeys(vault)),
      { name: "unseal key", value: unsealKey },
      { name: "root token", value: rootToken },
      { name: "operator token", value: operatorToken },
      { name: "database password", value: new URL(await databaseUrl(home)).password },
      ...opened,
      ...preshared.flat(),
    ];
    const kept = new Map([
      ["unseal key", /^openbao\/keys\.json$/],
      ["root token", /^openbao\/keys\.json$/],
      ["operator token", /^config\/operator-token$/],
      // The one secret that the processes' own files hold, and where set-up keeps it.
      ["database password", /^(config\/\w+\.json|postgres\.password)$/],
    ]);
    return { scan: new LeakScan(secrets), kept };
  } finally {
    await Promise.all([vault.close(), registry.close()]);
    await rm(rootFile);
  }
}

/** Of the clients that were rotated, but for the one that is out, whose keys are destroyed. */
async function presharedKeys({ kv }: Vault): Promise<readonly Secret[]> {
  const ids = await kv.list("swarms/lab/peers");
  const found = ids.map(async (id): Promise<readonly Secret[]> => {
    const path = `swarms/lab/peers/${id}`;
    const { currentVersion: version, versions } = await kv.metadata(path);
    if (versions.every(({ destroyed }) => destroyed)) return [];
    const { presharedKey = "" } = await kv.read({ path, version });
    return [{ name: `preshared key ${id}`, value: Buffer.from(presharedKey, "base64") }];
  });
  const secrets = (await Promise.all(found)).flat();
  assert.equal(secrets.length, CLIENTS - 1);
  return secrets;
}

/** A scan that finds nothing must be one that would: leaks are planted, and found. */
async function assertScanFinds(scan: LeakScan, home: string): Promise<void> {
  const secret = (await readFile(join(home, "config", "operator-token"), "utf8")).trim();
  const planted = join(home, "log", "core.4711");
  await writeFile(planted, `{"event":"oops","token":"${Buffer.from(`x${secret}`).toString("base64")}"}\n`, { mode: 0o644 });
  const child = spawn("sleep", ["60"], { env: { OOPS: secret }, stdio: "ignore" });
  try {
    assert.deepEqual(await crashFiles(join(home, "log")), [planted]);
    const found = [...(await scan.files(join(home, "log"))), ...(await scan.processes())].map(({ place }) => place);
    assert.ok(found.includes(planted) && found.includes(`environ of process ${child.pid}`), found.join());
  } finally {
    child.kill("SIGKILL");
    await rm(planted);
  }
}
