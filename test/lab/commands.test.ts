/**
 * The lab as a person has it, on one home: the main job end to end by `lab up --once`, twice, then a lab on what these left, and the
 * commands as they are typed against it: drain, stop and resume, apply, audit; real WireGuard throughout.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { access, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join, relative } from "node:path";
import { after, before, describe, it } from "node:test";
import { reflexClient } from "../../drivers/balancer/reflex-client.ts";
import { NO_RETRY, UnixHttpClient } from "../../drivers/http-unix.ts";
import { netnsHypervisor } from "../../drivers/hypervisor/netns.ts";
import { dialProcess } from "../../drivers/identity/dial.ts";
import { LabClient } from "../../lab/lab-client.ts";
import { operatorIdentity } from "../../lab/operator.ts";
import { awaitGone, awaitWhole, busiestEndpoint, sessionsOf, settledTraffic } from "../../lab/trial.ts";
import type { ClientsRevoked, EndpointRevoked, KeysRotated } from "../../models/keys.ts";
import { patienceWith } from "../../models/patience.ts";
import type { RollStatus } from "../../models/roll.ts";
import type { DrainFinished, SwarmStatus } from "../../models/swarm-messages.ts";
import { Connection, connectionFile, localSockets } from "../../setup/connection.ts";
import type { Check } from "../../setup/examine.ts";
import { paths } from "../../setup/paths.ts";
import { eventually } from "../support/eventually.ts";
import { historiesOf } from "../support/lab-histories.ts";
import { identitiesOf, loggedFromNow } from "../support/lab-identities.ts";
import { assertScanFinds, databaseUrl, secretsOf } from "../support/lab-secrets.ts";
import { assertStory } from "../support/lab-story.ts";
import { trafficFromNow } from "../support/lab-traffic.ts";
import { coreWriters, crash, crashFiles, LeakScan, openFiles } from "../support/leak-scan.ts";

const MAIN = join(import.meta.dirname, "..", "..", "cli", "main.ts");
const CLIENTS = 6;
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

let home: string;
let env: NodeJS.ProcessEnv;

before(async () => {
  home = await mkdtemp(join(tmpdir(), "foreshift-commands-"));
  // Everything that is ever logged, for the search of secrets.
  env = { ...process.env, FORESHIFT_HOME: home, FORESHIFT_BIN: paths().bin, FORESHIFT_DEBUG: "1" };
  delete env.TEMPORAL_ADDRESS;
  delete env.DATABASE_URL;
});

after(async () => {
  await rm(home, { recursive: true, force: true });
  await rm(paths(env).run, { recursive: true, force: true });
});

function foreshift(...args: string[]): Promise<Ran> {
  return run(args, env);
}

function run(args: readonly string[], environment: NodeJS.ProcessEnv): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], { env: environment, maxBuffer: OUTPUT_BYTES_MAX }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === "number" ? error.code : error === null ? 0 : -1, stdout, stderr });
    });
  });
}

for (const start of ["a fresh home", "the home of the lab before"]) {
  it(`the lab's story, on ${start}: moves sessions off a failing endpoint`, async () => {
    const { stdout, stderr } = await run(["lab", "up", "--once", "--json"], { ...env, FORESHIFT_DEBUG: "" });
    assertStory(stdout, stderr);
    await assert.rejects(access(connectionFile(home)), "what a lab wrote for others ends with it");
  });
}

describe("the commands against a lab on the home of the one before", () => {
  /** Public key of the client that is put out. */
  let clientOut: string | undefined;

  const status = async (): Promise<SwarmStatus> => {
    const ran = await foreshift("swarm", "get", "lab", "--json");
    assert.equal(ran.code, 0, ran.stderr);
    return JSON.parse(ran.stdout) as SwarmStatus;
  };

  before(async () => {
    const { code, stderr } = await foreshift("lab", "up", "--clients", String(CLIENTS), "--json");
    assert.equal(code, 0, stderr);
  });

  after(() => foreshift("lab", "down"));

  it("drains an endpoint onto the others; their clients notice nothing", async () => {
    const { balancer, lab, close } = await instruments();
    try {
      const endpoint = await busiestEndpoint(balancer);
      const others = (await balancer.health()).map((member) => member.endpoint).filter((name) => name !== endpoint);
      const held = new Set((await sessionsOf(balancer, endpoint)).map(({ publicKey }) => publicKey));
      const traffic = await trafficFromNow(lab, balancer);
      const { code, stdout, stderr } = await foreshift("endpoint", "drain", endpoint, "-s", "lab", "--wait", "--json");
      assert.equal(code, 0, `${stdout}${stderr}`);
      const result = JSON.parse(stdout) as DrainFinished;
      assert.deepEqual([result.outcome, result.sessionsMoved], ["drained", held.size]);
      const homes = (await balancer.sessions())
        .filter(({ publicKey }) => held.has(publicKey))
        .map((session) => session.endpoint);
      assert.equal(homes.length, held.size);
      for (const name of homes) assert.ok(others.includes(name), `${name} is one of ${others.join()}`);
      assert.equal((await traffic.assertWhole()).packetsDuplicated, 0);
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
    const { balancer, hypervisor, lab, close } = await instruments();
    try {
      const before = (await hypervisor.list("lab")).map(({ name }) => name);
      const traffic = await trafficFromNow(lab, balancer);
      const { code, stdout, stderr } = await foreshift("swarm", "roll", "lab", "--image", "v2", "--wait", "--json");
      assert.equal(code, 0, `${stdout}${stderr}`);
      assert.equal((JSON.parse(stdout) as RollStatus).phase, "rolled");
      assert.equal((await traffic.assertWhole()).packetsDuplicated, 0);
      const after = await hypervisor.list("lab");
      assert.deepEqual([...new Set(after.map(({ image }) => image))], ["v2"]);
      assert.deepEqual(
        after.filter(({ name }) => before.includes(name)),
        [],
        "every machine is another one",
      );
      assert.match((await foreshift("swarm", "get", "lab")).stdout, /Rollout of v2, asked for by .*: rolled\./);
    } finally {
      await close();
    }
  });

  it("rotates every client's preshared key, and nobody notices", async () => {
    const { balancer, lab, close } = await instruments();
    try {
      const traffic = await trafficFromNow(lab, balancer);
      const { code, stdout, stderr } = await foreshift("keys", "rotate", "-s", "lab", "-k", "preshared", "--wait", "--json");
      assert.equal(code, 0, `${stdout}${stderr}`);
      const rotated = JSON.parse(stdout) as KeysRotated;
      assert.deepEqual([rotated.outcome, rotated.done, rotated.skipped], ["rotated", CLIENTS, 0], rotated.text);
      await traffic.assertWhole();
      const told = await foreshift("keys", "status", "-s", "lab");
      assert.match(told.stdout, /preshared +rotated +6 of 6/);
    } finally {
      await close();
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
      const traffic = await trafficFromNow(lab, balancer);
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
      await traffic.assertWhole();
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
    const { scan, kept } = await secretsOf(home, CLIENTS);
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
    const around = { lab, balancer, hypervisor, swarm: "lab", patience: patienceWith("own") };
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
