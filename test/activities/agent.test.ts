// Two agents as processes in network namespaces, with real WireGuard, OpenBao, PostgreSQL and collector, and a stock client whose
// session they hand to each other.
import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pino } from "pino";
import { NO_RETRY, UnixHttpClient } from "../../drivers/http-unix.ts";
import type { EndpointAgent } from "../../drivers/ports.ts";
import { collectorClient } from "../../drivers/store/collector-client.ts";
import { openStore, type PostgresStore } from "../../drivers/store/store.ts";
import { agentClient } from "../../drivers/tunnel/agent-client.ts";
import { uapiDevice } from "../../drivers/tunnel/wireguard-uapi.ts";
import { writeCredentials } from "../../drivers/vault/credentials.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import type { SecretRef, SessionState } from "../../models/session.ts";
import type { OpenBaoService } from "../../setup/services.ts";
import type { JournalEntry } from "../../workers/agent/journal.ts";
import { type Served, serve } from "../../workers/http-server.ts";
import { agentContract } from "../support/contracts/agent.ts";
import { eventually } from "../support/eventually.ts";
import { insideNamespace, run } from "../support/namespace.ts";
import { awaitApi, startWorker, type WorkerProcess } from "../support/process.ts";
import { type TestHome, type TestPostgres, testHome, testOpenBao, testPostgres } from "../support/services.ts";
import { staticIdentityStory } from "../support/static-identity.ts";
import { withVault } from "../support/test-vault.ts";
import { addHost, genkey, pings, pubkey, sendNumbered, startClient, startSink } from "../support/wireguard-lab.ts";

const CLIENT_PORT = 41_000;
const CALL = { timeoutMs: 5_000, retry: NO_RETRY };

if (insideNamespace(import.meta.url)) {
  const swarmKey = genkey();
  const clientKey = genkey();
  const presharedKey = run("wg", "genpsk").trim();
  const laterKey = run("wg", "genpsk").trim();
  const clientPublic = pubkey(clientKey);
  const probePublic = pubkey(genkey());
  /** What the agents told the balancer, by endpoint. */
  const told = new Map<string, readonly SessionState[]>();
  const pushes: { endpoint: string; sessions: number }[] = [];
  const agents = new Map<string, { process: WorkerProcess; api: EndpointAgent & { close(): Promise<void> } }>();
  let where: TestHome;
  let postgres: TestPostgres;
  let bao: OpenBaoService;
  let store: PostgresStore;
  let collector: WorkerProcess;
  let balancer: Served;
  let keySecret: SecretRef;

  const agent = (name: string) => {
    const found = agents.get(name);
    assert.ok(found !== undefined);
    return found;
  };

  before(async () => {
    where = await testHome();
    run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward");
    for (const [name, n] of [
      ["ep-1", 1],
      ["ep-2", 2],
      ["c", 9],
    ] as const)
      addHost(name, n);
    [postgres, bao] = await Promise.all([testPostgres(where, { migrated: true }), testOpenBao(where)]);
    store = openStore({ databaseUrl: postgres.url });
    keySecret = await withVault(bao, ({ kv }) => kv.write("swarms/lab/wireguard", { privateKey: swarmKey }));
    const ref = await withVault(bao, ({ kv }) => kv.write("swarms/lab/peers/c", { presharedKey }));
    await store.registerPeers("lab", [{ publicKey: clientPublic, innerAddresses: ["10.66.1.1"], presharedKey: ref }]);
    balancer = await startBalancer();
    await startCollector();
    await Promise.all([startAgent("ep-1"), startAgent("ep-2")]);
    const swarm = { swarmPublicKey: pubkey(swarmKey), presharedKey, endpoint: "198.18.1.2:51820" };
    await startClient({ name: "c", privateKey: clientKey, innerAddress: "10.66.1.1", listenPort: CLIENT_PORT, ...swarm });
  });

  after(async () => {
    for (const { process: worker, api } of agents.values()) {
      await worker.kill();
      await api.close();
    }
    await collector?.kill();
    await balancer?.close();
    await store?.close();
    await Promise.all([postgres?.stop(), bao?.stop()]);
    await where?.remove();
  });

  /** The balancer's side of the agents' conversation with it. */
  function startBalancer(): Promise<Served> {
    return serve({
      socketPath: join(where.run, "reflex.sock"),
      log: pino({ level: "silent" }),
      routes: (app) => {
        app.get("/v1/probe-peers", () => [{ publicKey: probePublic, innerAddresses: ["10.67.0.1"] }]);
        app.get("/v1/sessions", () => [...told.values()].flat());
        app.put<{ Params: { endpoint: string }; Body: SessionState[] }>("/v1/endpoints/:endpoint/sessions", (request) => {
          told.set(request.params.endpoint, request.body);
          pushes.push({ endpoint: request.params.endpoint, sessions: request.body.length });
          const stats = { sent: 10, answered: 9, missesInARow: 0, answersInARow: 3, rttMsP50: 1.5, rttMsP75: 2, rttMsMax: 7 };
          return { ok: true, probes: { inner: stats, outer: { ...stats, answered: 10 } } };
        });
      },
    });
  }

  async function startCollector(): Promise<void> {
    const config = { socketPath: join(where.run, "collector.sock"), databaseUrl: postgres.url };
    collector = await startWorker({ worker: "collector.ts", config, configPath: join(where.home, "collector.json") });
  }

  async function startAgent(name: string): Promise<void> {
    const socketPath = join(where.run, `${name}.sock`);
    const credentialsFile = join(where.home, `${name}.approle`);
    if (!agents.has(name)) await deliver(name, credentialsFile);
    const config = {
      swarm: "lab",
      endpoint: name,
      device: `wg-${name}`,
      listenPort: 51_820,
      addresses: ["10.99.0.1/32"],
      routes: ["10.66.0.0/16", "10.67.0.0/16"],
      implementation: "userspace",
      socketPath,
      reflexSocket: join(where.run, "reflex.sock"),
      collectorSocket: join(where.run, "collector.sock"),
      vault: { socketPath: bao.socket, auth: { method: "approle", credentialsFile } },
      keySecret,
      stateDir: stateDir(name),
      place: { zone: `zone-${name.slice(-1)}` },
      probes: { address: `198.18.${name.slice(-1)}.2`, balancer: `198.18.${name.slice(-1)}.1` },
    };
    const worker = await startWorker({
      worker: "agent.ts",
      config,
      configPath: join(where.home, `${name}.json`),
      prefix: ["ip", "netns", "exec", name],
    });
    await agents.get(name)?.api.close();
    agents.set(name, { process: worker, api: agentClient({ socketPath }) });
    const http = new UnixHttpClient({ socketPath, name });
    await awaitApi(http, "/v1/status");
    await http.close();
  }

  async function deliver(endpoint: string, file: string): Promise<void> {
    await writeCredentials(file, await withVault(bao, ({ appRoles }) => appRoles.enrolAgent({ swarm: "lab", endpoint })));
  }

  const stateDir = (name: string) => join(where.home, `state-${name}`);

  const journal = async (name: string): Promise<JournalEntry[]> => {
    const http = new UnixHttpClient({ socketPath: join(where.run, `${name}.sock`), name });
    try {
      return await http.get<JournalEntry[]>("/v1/journal", CALL);
    } finally {
      await http.close();
    }
  };

  /** The source of truth's view of the client's session. */
  const heldBy = async (endpoint: string) => {
    const session = (await store.sessions("lab")).find(({ publicKey }) => publicKey === clientPublic);
    return session?.endpoint === endpoint ? session : undefined;
  };

  const handshakeAt = async (endpoint: string) =>
    (await uapiDevice(`wg-${endpoint}`).state()).peers.find(({ publicKey }) => publicKey === clientPublic)?.lastHandshakeMs ??
    0;

  test("agents bring WireGuard up with the key from Vault, and have the probers and the swarm's clients as peers", async () => {
    for (const name of ["ep-1", "ep-2"]) {
      await eventually(`${name} is up`, async () => (await agent(name).api.status()).tunnelUp, 10_000);
      const keys = async () => (await uapiDevice(`wg-${name}`).state()).peers.map(({ publicKey }) => publicKey).sort();
      const expected = [probePublic, clientPublic].sort().join();
      await eventually(`${name} has its peers`, async () => (await keys()).join() === expected);
      assert.deepEqual(await agent(name).api.sessions(), []);
    }
  });

  test("a client's session reaches the balancer, the source of truth, and the other endpoint", async () => {
    assert.equal(await pings("c", 3, 0.05), 3);
    const session = await eventually("the session is stored", () => heldBy("ep-1"));
    assert.equal(session.outerAddress, `198.18.9.2:${CLIENT_PORT}`);
    assert.deepEqual(session.innerAddresses, ["10.66.1.1"]);
    assert.equal(session.presharedKey?.path, "swarms/lab/peers/c");
    await eventually("its shadow is named", async () => (await heldBy("ep-1"))?.shadow === "ep-2", 10_000);
    await eventually("the balancer knows", () => told.get("ep-1")?.length === 1);
    await eventually(
      "the other endpoint knows",
      async () => (await agent("ep-2").api.status()).sessionsVersion >= session.version,
    );
  });

  test("heartbeats carry what is measured, and each value is believed", async () => {
    const client = collectorClient({ socketPath: join(where.run, "collector.sock") });
    try {
      const last = async (series: string) => {
        const { endpoints } = await client.window("lab", { sinceMs: Date.now() - 10_000, endpoint: "ep-1" });
        return endpoints["ep-1"]?.[series]?.statistics.last;
      };
      const expected = [
        "cpuShare cpuUserShare cpuSystemShare cpuStealShare cpuWaitShare memoryShare memoryBytes",
        "interfaceRxBytesPerS:eth0 interfaceTxErrorsPerS:eth0 interfaceRxDropsPerS:wg-ep-1 udpInErrorsPerS",
        "pathRttMs:balancer pathRttMs:ep-2 pathJitterMs:ep-2 pathLossShare:ep-2 oomKillsPerS innerRttMsP75",
        "innerLossShare outerLossShare outerRttMsP50 tunnelUptimeS tunnelRestartsPerS handshakeAgeSMax",
        "handshakesPerS sessions deviceAnswerMsMax clockOffsetMs collectorRttMs agentCpuShare agentMemoryBytes",
        "agentLateMsMax agentUptimeS restarts",
      ].flatMap((line) => line.split(" "));
      for (const series of expected) await eventually(series, async () => (await last(series)) !== undefined, 10_000);
      // Both ends read one clock, a millisecond at a time; an exchange tells the offset to half its round trip.
      const clocks = await client.window("lab", { sinceMs: 0, endpoint: "ep-1", metrics: ["clockOffsetMs", "collectorRttMs"] });
      const { clockOffsetMs, collectorRttMs } = clocks.endpoints["ep-1"] ?? {};
      const offsetMs = clockOffsetMs?.statistics.last ?? Number.NaN;
      assert.ok(Math.abs(offsetMs) <= (collectorRttMs?.statistics.max ?? 0) / 2 + 1, `${offsetMs} ms`);
      assert.deepEqual([await last("pathLossShare:ep-2"), await last("outerLossShare"), await last("sessions")], [0, 0, 1]);
      assert.ok(Math.abs(((await last("innerLossShare")) ?? 0) - 0.1) < 1e-6);
      const latest = (await client.telemetry("lab")).find(({ endpoint }) => endpoint === "ep-1");
      assert.deepEqual(latest?.place, { zone: "zone-1" });
      const http = new UnixHttpClient({ socketPath: join(where.run, "collector.sock"), name: "collector" });
      const { text } = await http.exchange("GET", "/metrics", CALL);
      await http.close();
      for (const fault of ["impossible", "unknown", "duplicate", "late"])
        assert.match(text, new RegExp(`^foreshift_telemetry_faults_total\\{kind="${fault}"\\} 0$`, "m"));
      console.log(`agent: ${((await last("agentCpuShare")) ?? 0) * 100} % of a core`);
    } finally {
      await client.close();
    }
  });

  test("adopting hands the session over under traffic within a packet or two, and doubles none; asked twice, it happens once", async () => {
    const session = await eventually("the session", () => heldBy("ep-1"));
    const before = await handshakeAt("ep-1");
    // One way: an answer of the old endpoint would draw the client back to its address, which the balancer's single address prevents.
    const sinks = await Promise.all(["ep-1", "ep-2"].map(startSink));
    const traffic = sendNumbered("c", 300, 4);
    await eventually("traffic flows", async () => ((await sinks[0]?.seen())?.size ?? 0) > 20);
    await agent("ep-2").api.prepare({ operation: "move-1", peers: [session] });
    const from = performance.now();
    await agent("ep-2").api.adopt({ operation: "move-1", sessions: [session] });
    const tookMs = performance.now() - from;
    const handshakeMs = await eventually("the handshake", async () => (await handshakeAt("ep-2")) || undefined, 1_000);
    console.log(`adopt answered after ${tookMs.toFixed(1)} ms`);
    await agent("ep-2").api.adopt({ operation: "move-1", sessions: [session] });
    await traffic;
    const [old, fresh] = await Promise.all(sinks.map((sink) => sink.seen()));
    for (const sink of sinks) sink.end();
    const times = (n: number) => (old?.get(n) ?? 0) + (fresh?.get(n) ?? 0);
    const numbers = Array.from({ length: 300 }, (_, n) => n);
    assert.deepEqual(
      numbers.filter((n) => times(n) > 1),
      [],
    );
    // There is no balancer here to steer by session index, so what the client sends with its old key while the handshake is under
    // way follows its new address: a packet or two. test/lab shows that with the balancer there is none.
    const lost = numbers.filter((n) => times(n) === 0);
    assert.ok(lost.length <= 2, `lost: ${lost.join()}`);
    assert.ok((fresh?.size ?? 0) > 100, `${fresh?.size} packets came by the new endpoint`);
    assert.equal(await handshakeAt("ep-2"), handshakeMs);
    assert.ok(handshakeMs > before);
    assert.deepEqual(
      (await journal("ep-2")).map((entry) => [entry.operation, entry.action, entry.executions, entry.effective]),
      [
        ["move-1", "prepare", 1, 0],
        ["move-1", "adopt", 1, 1],
      ],
    );
    await eventually("the truth follows", () => heldBy("ep-2"));
    await agent("ep-1").api.retire({ operation: "move-1", publicKeys: [clientPublic] });
    assert.equal(await handshakeAt("ep-1"), 0);
    await eventually(
      "the old endpoint has no session",
      async () => (await agent("ep-1").api.sessions()).length === 0 && told.get("ep-1")?.length === 0,
    );
    assert.ok(await heldBy("ep-2"));
    await eventually("the keepalive goes back to 0", async () =>
      (await uapiDevice("wg-ep-2").state()).peers.every(({ keepaliveS }) => keepaliveS === 0),
    );
    assert.equal(await pings("c", 5, 0.02), 5);
  });

  test("a killed agent leaves the data path alone; started again it takes over what runs and repeats no operation", async () => {
    const handshakeMs = await handshakeAt("ep-2");
    const traffic = pings("c", 100, 0.01);
    await agent("ep-2").process.kill("SIGKILL");
    const from = pushes.length;
    await startAgent("ep-2");
    await eventually("up again", async () => (await agent("ep-2").api.status()).tunnelUp);
    await agent("ep-2").api.adopt({
      operation: "move-1",
      sessions: [{ ...(await eventually("session", () => heldBy("ep-2"))), lastHandshakeMs: 1 }],
    });
    assert.equal(await traffic, 100);
    assert.equal(await handshakeAt("ep-2"), handshakeMs);
    assert.match(agent("ep-2").process.log(), /"adopted":true/);
    await eventually("it tells the balancer", () => pushes.slice(from).some(({ endpoint }) => endpoint === "ep-2"));
    // Not for a moment may the balancer believe that there is nothing to take over.
    assert.ok(pushes.slice(from).every(({ endpoint, sessions }) => endpoint !== "ep-2" || sessions === 1));
    assert.equal((await journal("ep-2")).find(({ action }) => action === "adopt")?.executions, 1);
  });

  test("a clock that is behind is refused, and nothing is changed", async () => {
    const session = await eventually("the session", () => heldBy("ep-2"));
    const ahead = { ...session, lastHandshakeMs: Date.now() + 60_000 };
    await assert.rejects(
      agent("ep-1").api.adopt({ operation: "ahead", sessions: [ahead] }),
      (error: ForeshiftError) => error.code === "CLOCK_BEHIND",
    );
    assert.equal(await handshakeAt("ep-1"), 0);
    assert.equal((await journal("ep-1")).find(({ operation }) => operation === "ahead")?.doneAtMs, undefined);
  });

  test("with collector and balancer away sessions still move; both are brought up to date when they are back", async () => {
    const session = await eventually("the session", () => heldBy("ep-2"));
    await collector.kill("SIGKILL");
    await balancer.close();
    await agent("ep-1").api.adopt({ operation: "move-2", sessions: [session] });
    await eventually("the handshake", async () => (await handshakeAt("ep-1")) > 0, 1_000);
    await agent("ep-2").api.retire({ operation: "move-2", publicKeys: [clientPublic] });
    assert.equal(await pings("c", 5, 0.02), 5);
    await startCollector();
    balancer = await startBalancer();
    await eventually("the truth follows", () => heldBy("ep-1"), 10_000);
    await eventually("the balancer follows", () => told.get("ep-1")?.length === 1 && told.get("ep-2")?.length === 0, 10_000);
  });

  test("a crashed WireGuard keeps its sessions on record; recover brings it and them back", async () => {
    await eventually("the session is known here", async () => (await agent("ep-1").api.sessions()).length === 1);
    const { pid } = JSON.parse(await readFile(join(stateDir("ep-1"), "wireguard.json"), "utf8")) as { pid: number };
    process.kill(pid, "SIGKILL");
    await eventually("the crash is seen", async () => !(await agent("ep-1").api.status()).tunnelUp);
    const lastTold = await eventually("heartbeats tell", async () =>
      (await store.heartbeats("lab")).find(({ endpoint, tunnelUp }) => endpoint === "ep-1" && !tunnelUp),
    );
    assert.equal(lastTold.sessions, 1);
    assert.equal(told.get("ep-1")?.length, 1);
    assert.ok(await heldBy("ep-1"));
    await agent("ep-1").api.recover({ operation: "recover-1" });
    await agent("ep-1").api.recover({ operation: "recover-1" });
    await eventually("the session is back", async () => (await handshakeAt("ep-1")) > 0, 3_000);
    assert.equal(await pings("c", 5, 0.02), 5);
    assert.equal((await journal("ep-1")).find(({ action }) => action === "recover")?.executions, 1);
    const keys = (await uapiDevice("wg-ep-1").state()).peers.map(({ publicKey }) => publicKey);
    assert.deepEqual(new Set(keys), new Set([probePublic, clientPublic]));
  });

  test("where clients are left to find out by themselves, recover calls none", async () => {
    const session = await eventually("the session", () => heldBy("ep-1"));
    const { pid } = JSON.parse(await readFile(join(stateDir("ep-1"), "wireguard.json"), "utf8")) as { pid: number };
    process.kill(pid, "SIGKILL");
    await agent("ep-1").api.recover({ operation: "recover-quiet", adopts: false });
    const peers = (await uapiDevice("wg-ep-1").state()).peers;
    assert.ok(
      peers.some(({ publicKey }) => publicKey === clientPublic),
      "it is known",
    );
    assert.equal(peers.find(({ publicKey }) => publicKey === clientPublic)?.endpoint, undefined, "and not called");
    assert.equal(await handshakeAt("ep-1"), 0);
    await agent("ep-1").api.adopt({ operation: "call-after-all", sessions: [session] });
    await eventually("the session is back", async () => (await handshakeAt("ep-1")) > 0, 3_000);
    await eventually("the truth", () => heldBy("ep-1"));
  });

  test("recover does not take back a session that moved elsewhere while the device was down", async () => {
    const session = await eventually("the session", () => heldBy("ep-1"));
    const { pid } = JSON.parse(await readFile(join(stateDir("ep-1"), "wireguard.json"), "utf8")) as { pid: number };
    process.kill(pid, "SIGKILL");
    await agent("ep-2").api.adopt({ operation: "takeover-1", sessions: [session] });
    await eventually("the take-over", async () => (await handshakeAt("ep-2")) > 0, 2_000);
    const handshakeMs = await handshakeAt("ep-2");
    await eventually("the balancer knows", () =>
      told.get("ep-2")?.some(({ lastHandshakeMs }) => lastHandshakeMs === handshakeMs),
    );
    await agent("ep-1").api.recover({ operation: "recover-2" });
    assert.equal(await handshakeAt("ep-1"), 0);
    assert.equal(await pings("c", 10, 0.02), 10);
    assert.equal(await handshakeAt("ep-1"), 0);
    assert.ok(await eventually("the truth", () => heldBy("ep-2")));
  });

  test("moved to and fro at once, a session ends where it was asked last", async () => {
    for (const [n, to] of (["ep-1", "ep-2", "ep-1", "ep-2"] as const).entries()) {
      const from = to === "ep-1" ? "ep-2" : "ep-1";
      const session = await eventually(`the session is at ${from}`, () => heldBy(from));
      await agent(to).api.adopt({ operation: `fro-${n}`, sessions: [session] });
      await eventually(`the session is at ${to}`, () => heldBy(to), 2_000);
    }
    await agent("ep-1").api.retire({ operation: "fro", publicKeys: [clientPublic] });
    assert.equal(await pings("c", 5, 0.02), 5);
    assert.ok(await heldBy("ep-2"));
  });

  // Its last holder is ep-2.
  agentContract(() => ({ from: agent("ep-2").api, to: agent("ep-1").api, publicKey: clientPublic }));

  test("heartbeats tell real numbers", async () => {
    const beat = await eventually(
      "a heartbeat",
      async () =>
        (await store.heartbeats("lab")).find(
          ({ endpoint, sequence, sessions }) => endpoint === "ep-2" && sequence > 2 && sessions === 1,
        ),
      10_000,
    );
    assert.ok(beat.cpuShare !== undefined && beat.cpuShare > 0 && beat.cpuShare < 1, `cpuShare ${beat.cpuShare}`);
    assert.ok(beat.memoryShare !== undefined && beat.memoryShare > 0 && beat.memoryShare < 1);
    assert.ok(beat.rxBytes > 0 && beat.txBytes > 0);
  });

  const knowsClient = async (endpoint: string) =>
    (await uapiDevice(`wg-${endpoint}-2`).state()).peers.some(({ publicKey }) => publicKey === clientPublic);

  test("a preshared key changes under a session that goes on, and the next handshake uses it, wherever it is made", async () => {
    const presharedKey = await withVault(bao, ({ kv }) => kv.write("swarms/lab/peers/c", { presharedKey: laterKey }));
    const [peer] = await store.peers("lab");
    assert.ok(peer !== undefined);
    for (const name of ["ep-1", "ep-2"])
      await agent(name).api.loadKeys({ operation: "keys", peers: [{ ...peer, presharedKey }] });
    const before = await handshakeAt("ep-2");
    const traffic = pings("c", 100, 0.02);
    const peers = await store.rekeyPeers({ swarm: "lab", keys: [{ publicKey: clientPublic, presharedKey }] });
    for (const name of ["ep-1", "ep-2"]) await agent(name).api.setKeys({ operation: "keys", peers });
    await uapiDevice("wg-c").apply([{ kind: "preshared", publicKey: pubkey(swarmKey), presharedKey: laterKey }]);
    assert.equal(await traffic, 100);
    assert.equal(await handshakeAt("ep-2"), before, "nothing made a handshake");
    // What the session says of its key is of the time when it began.
    const session = { ...(await eventually("the session", () => heldBy("ep-2"))), presharedKey: peer.presharedKey };
    await agent("ep-1").api.adopt({ operation: "keys", sessions: [session as SessionState] });
    await eventually("a handshake with the new key", async () => (await handshakeAt("ep-1")) > before, 3_000);
    assert.equal(await pings("c", 5, 0.02), 5);
    assert.deepEqual(
      (await journal("ep-1")).filter(({ action }) => action.endsWith(" keys")).map(({ executions }) => executions),
      [1, 1],
    );
  });

  staticIdentityStory(() => ({
    store,
    agent: (name) => agent(name).api,
    restart: (name) =>
      agent(name)
        .process.kill("SIGKILL")
        .then(() => startAgent(name)),
    writeKey: (privateKey) => withVault(bao, ({ kv }) => kv.write("swarms/lab/wireguard", { privateKey })),
    first: { secret: keySecret, publicKey: pubkey(swarmKey) },
    client: { privateKey: clientKey, presharedKey: laterKey },
    heldBy,
  }));

  test("a revoked client is out of every endpoint within two seconds, and no session's word brings it back", async () => {
    const session = await eventually("the session", () => heldBy("ep-1"));
    const sinceMs = performance.now();
    await store.revokePeers({ swarm: "lab", publicKeys: [clientPublic], reason: "a test" });
    for (const name of ["ep-1", "ep-2"]) {
      await eventually(`it is out of ${name}`, async () => !(await knowsClient(name)), 2_000);
      console.log(`out of ${name} after ${(performance.now() - sinceMs).toFixed(0)} ms`);
    }
    const { publicKey, innerAddresses } = session;
    await agent("ep-2").api.adopt({ operation: "revoked", sessions: [session] });
    await agent("ep-2").api.prepare({ operation: "revoked", peers: [{ publicKey, innerAddresses }] });
    await agent("ep-2").process.kill("SIGKILL");
    await startAgent("ep-2");
    await eventually("up again", async () => (await agent("ep-2").api.status()).tunnelUp);
    assert.deepEqual([await knowsClient("ep-1"), await knowsClient("ep-2")], [false, false]);
    assert.equal(await pings("c", 3, 0.05), 0);
    assert.deepEqual(await store.sessions("lab"), []);
    await assert.rejects(store.registerPeers("lab", [{ publicKey, innerAddresses }]), /revoked for good/);
  });

  test("no secret is in a command line, an environment, a log, or a file of the agents", async () => {
    const token = (await readFile(bao.tokenFile, "utf8")).trim();
    const secrets = [
      swarmKey,
      presharedKey,
      laterKey,
      token,
      ...[swarmKey, presharedKey, laterKey].map((key) => Buffer.from(key, "base64").toString("hex")),
    ];
    const assertClean = (what: string, text: string) => {
      for (const secret of secrets) assert.ok(!text.includes(secret), `a secret is in ${what}`);
    };
    for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
      for (const file of ["cmdline", "environ"])
        assertClean(`${file} of ${pid}`, await readFile(`/proc/${pid}/${file}`, "utf8").catch(() => ""));
    }
    for (const name of ["ep-1", "ep-2"]) {
      assertClean(`the log of ${name}`, agent(name).process.log());
      const files = await readdir(stateDir(name), { recursive: true, withFileTypes: true });
      for (const file of files.filter((one) => one.isFile())) {
        const path = join(file.parentPath, file.name);
        assertClean(path, await readFile(path, "utf8"));
        assert.equal((await stat(path)).mode & 0o077, 0, `${path} is readable by others`);
      }
    }
    assertClean("the collector's log", collector.log());
  });
}
