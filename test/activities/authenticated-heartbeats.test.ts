// The collector's door against a real OpenBao's certificates: who may say what, what is refused and counted, revocation, renewal, floods.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { pino } from "pino";
import { NO_RETRY, UnixHttpClient } from "../../drivers/http-unix.ts";
import { addressOf, dialProcess } from "../../drivers/identity/dial.ts";
import { ProcessIdentity } from "../../drivers/identity/process-identity.ts";
import { openVault } from "../../drivers/vault/vault.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { agentIdentity, processIdentity } from "../../models/identity.ts";
import { IDENTITY_LIMITS } from "../../models/limits-identity.ts";
import type { VaultProcess } from "../../models/vault-layout.ts";
import type { OpenBaoService } from "../../setup/services.ts";
import { sessionStreamRoute } from "../../workers/collector/api.ts";
import { Lag } from "../../workers/collector/lag.ts";
import { RevokedEndpoints } from "../../workers/collector/revoked-endpoints.ts";
import { SessionHub } from "../../workers/collector/session-hub.ts";
import { serve } from "../../workers/http-server.ts";
import { reflexRoutes } from "../../workers/reflex/api.ts";
import { ReflexConfig } from "../../workers/reflex/config.ts";
import { Reflex } from "../../workers/reflex/reflex.ts";
import { DoorCounts } from "../../workers/tls-gate.ts";
import { eventually } from "../support/eventually.ts";
import { freePort, type Member, Members } from "../support/members.ts";
import { startWorker, type WorkerProcess } from "../support/process.ts";
import { type TestHome, testHome, testOpenBao } from "../support/services.ts";
import { heartbeatOf, sessionOf } from "../support/sessions.ts";

const CALL = { timeoutMs: 5_000, retry: NO_RETRY };
/** Renewed every four seconds. */
const COLLECTOR_CERTIFICATE_MS = 6_000;

let where: TestHome;
let bao: OpenBaoService;
let collector: WorkerProcess;
let address: string;
let operator: Member;
let sequence = 0;
let people: Members;

before(async () => {
  where = await testHome();
  bao = await testOpenBao(where);
  address = `127.0.0.1:${await freePort()}`;
  const credentialsFile = join(where.home, "collector.approle");
  await bao.deliver("collector", credentialsFile);
  collector = await startWorker({
    worker: "collector.ts",
    config: {
      socketPath: address,
      // Heartbeats are taken while the database is away.
      databaseUrl: "postgres://nobody@127.0.0.1:1/none",
      vault: { address: bao.address, auth: { method: "approle", credentialsFile } },
      identity: { dir: join(where.home, "collector-identity"), certificateTtlMs: COLLECTOR_CERTIFICATE_MS },
    },
    configPath: join(where.home, "collector.json"),
  });
  people = new Members(where, bao, address);
  operator = await process_("operator");
  await eventually(
    "the collector serves",
    () =>
      metric("foreshift_heartbeats_received_total").then(
        () => true,
        () => false,
      ),
    15_000,
  );
});

after(async () => {
  await people?.close();
  await collector?.kill();
  if (process.env["FORESHIFT_DEBUG"] === "1") console.log(collector?.log());
  await bao?.stop();
  await where?.remove();
});

const process_ = (name: VaultProcess): Promise<Member> => people.process(name);
const agent = (endpoint: string, swarm = "lab"): Promise<Member> => people.agent(endpoint, swarm);

async function metric(line: string): Promise<number> {
  const { text } = await operator.http.exchange("GET", "/metrics", CALL);
  const found = text.split("\n").find((one) => one.startsWith(`${line} `));
  return Number(found?.split(" ").at(-1));
}
const refused = (why: string) => metric(`foreshift_heartbeats_refused_total{why="${why}"}`);
const turnedAway = (why: string) => metric(`foreshift_connections_refused_total{why="${why}"}`);
const beat = (endpoint: string, over: object = {}) => {
  sequence += 1;
  return heartbeatOf(endpoint, sequence, { atMs: Date.now(), startedAtMs: 1_000, ...over });
};
const send = ({ http }: Member, body: unknown) => http.post("/v1/heartbeats", { ...CALL, body });
const codeIs = (code: string) => (error: ForeshiftError) => {
  assert.equal(error.code, code, error.message);
  return true;
};

test("an endpoint speaks for itself, and for nobody else: not another endpoint, not another swarm, not a process", async () => {
  const [one, stranger] = [await agent("ep-1"), await agent("ep-1", "other")];
  await send(one, beat("ep-1"));
  const before = await refused("foreign");
  await assert.rejects(send(one, beat("ep-2")), codeIs("NOT_YOURS"));
  await assert.rejects(send(stranger, beat("ep-1")), codeIs("NOT_YOURS"));
  await assert.rejects(send(operator, beat("ep-1")), codeIs("NOT_YOURS"));
  assert.equal((await refused("foreign")) - before, 3);
  const deltas = { swarm: "lab", endpoint: "ep-2", upserts: [sessionOf(1, "ep-2")], removed: [] };
  await assert.rejects(one.http.post("/v1/sessions", { ...CALL, body: deltas }), codeIs("NOT_YOURS"));
  await assert.rejects(stranger.http.get("/v1/sessions/stream?swarm=lab", CALL), codeIs("NOT_YOURS"));
  for (const path of ["/v1/sessions?swarm=lab", "/v1/telemetry?swarm=lab", "/metrics"])
    await assert.rejects(one.http.get(path, CALL), codeIs("NOT_YOURS"));
  await assert.rejects(one.http.post("/v1/crl/refresh", { ...CALL, body: {} }), codeIs("NOT_YOURS"));
  const known = await operator.http.get<{ endpoint: string }[]>("/v1/telemetry?swarm=lab", CALL).catch(() => undefined);
  assert.ok(known === undefined || known.every(({ endpoint }) => endpoint === "ep-1"));
});

test("replayed, late, oversized and malformed heartbeats are refused with their reason, and counted", async () => {
  const one = await agent("ep-3");
  const first = beat("ep-3");
  await send(one, first);
  const counted = async () => await Promise.all(["replayed", "late", "oversized", "malformed"].map(refused));
  const before = await counted();
  await assert.rejects(send(one, first), /was sent before/);
  await assert.rejects(send(one, { ...beat("ep-3"), atMs: Date.now() - 60_000 }), /too old/);
  await assert.rejects(send(one, { ...beat("ep-3"), startedAtMs: 1 }), /too old/);
  await assert.rejects(send(one, { ...beat("ep-3"), place: { zone: "z".repeat(100_000) } }), codeIs("INVALID_FIELD"));
  await assert.rejects(send(one, { ...beat("ep-3"), cpuShare: 7 }), /cpuShare is not valid: got 7/);
  await assert.rejects(send(one, "{{ no heartbeat"), codeIs("INVALID_FIELD"));
  assert.deepEqual(
    (await counted()).map((count, at) => count - (before[at] ?? 0)),
    [1, 2, 1, 2],
  );
  await send(one, beat("ep-3"));
});

test("at the balancer, on a unix socket: an agent says its own sessions and reads nothing, control alone changes what is desired", async () => {
  const [one, control, hypervisor] = [await agent("ep-1"), await process_("control"), await process_("hypervisor")];
  const reflex = await process_("reflex");
  // Not started: it touches no packet.
  const balancer = new Reflex(
    ReflexConfig.parse({
      socketPath: "/unused",
      stateDir: join(where.home, "balancer"),
      edgeDevice: "edge",
      serverDevice: "server",
    }),
    pino({ level: "silent" }),
  );
  await balancer.load();
  const socketPath = join(where.run, "reflex.sock");
  const served = await serve({
    socketPath,
    log: pino({ level: "silent" }),
    door: { identity: reflex.identity, accepts: () => true, counts: new DoorCounts() },
    routes: (app) => reflexRoutes(app, balancer),
  });
  const clients = [one, operator, control, hypervisor].map(
    ({ identity }) => new UnixHttpClient({ socketPath, name: "reflex", dial: dialProcess(identity, "reflex") }),
  );
  const [byAgent, byOperator, byControl, byHypervisor] = clients as [
    UnixHttpClient,
    UnixHttpClient,
    UnixHttpClient,
    UnixHttpClient,
  ];
  const plain = new UnixHttpClient({ socketPath, name: "reflex" });
  try {
    const outlier = { probeIntervalMs: 100, missesMax: 3, ejectPercentMax: 50, takeover: true };
    await byAgent.put("/v1/endpoints/ep-1/sessions", { ...CALL, body: [] });
    for (const other of [byControl, byOperator, byHypervisor])
      await assert.rejects(other.put("/v1/endpoints/ep-1/sessions", { ...CALL, body: [] }), codeIs("NOT_YOURS"));
    await assert.rejects(byAgent.put("/v1/endpoints/ep-2/sessions", { ...CALL, body: [] }), codeIs("NOT_YOURS"));
    await byAgent.get("/v1/probe-peers", CALL);
    for (const path of ["/v1/desired", "/v1/health", "/v1/journal"])
      await assert.rejects(byAgent.get(path, CALL), codeIs("NOT_YOURS"));
    await byOperator.get("/v1/health", CALL);
    for (const other of [byAgent, byOperator, byHypervisor])
      await assert.rejects(other.put("/v1/desired", { ...CALL, body: { outlier } }), codeIs("NOT_YOURS"));
    // Control gets as far as its body.
    await assert.rejects(byControl.put("/v1/desired", { ...CALL, body: { outlier } }), codeIs("INVALID_FIELD"));
    assert.equal(await byOperator.get("/v1/desired", CALL), null);
    await assert.rejects(plain.get("/v1/health", CALL), codeIs("UNREACHABLE"));
  } finally {
    await Promise.all([plain, ...clients].map((client) => client.close()));
    await served.close();
    await balancer.stop();
  }
});

test("without a certificate of ours nobody gets in: none, one of another authority, plain bytes, an old protocol", async () => {
  const before = await turnedAway("handshake");
  const attempt = async (options: object): Promise<void> => {
    const socket = connectTls({ ...addressOf(address), rejectUnauthorized: false, ...options });
    socket.on("error", () => undefined);
    socket.write("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
    let heard = 0;
    socket.on("data", (bytes) => (heard += bytes.length));
    await closeOf(socket);
    assert.equal(heard, 0);
  };
  await attempt({});
  await attempt({ maxVersion: "TLSv1.2" });
  const { privateKey, certificate } = operator.identity.certificate;
  const other = await testHome();
  const otherBao = await testOpenBao(other);
  const file = join(other.home, "x.approle");
  await otherBao.deliver("operator", file);
  const otherVault = openVault({ address: otherBao.address, auth: { method: "approle", credentialsFile: file } });
  const forged = await otherVault.pki.issue({ identity: processIdentity("operator"), ttlMs: 60_000 });
  await otherVault.close();
  await otherBao.stop();
  await other.remove();
  await attempt({ key: forged.privateKey, cert: `${forged.certificate}\n${forged.chain}` });
  await assert.rejects(attempt({ key: forged.privateKey, cert: certificate }));
  assert.ok(privateKey.includes("PRIVATE KEY"));
  const plain = connect(addressOf(address) as { host: string; port: number });
  plain.on("error", () => undefined);
  plain.write("POST /v1/heartbeats HTTP/1.1\r\nhost: x\r\n\r\n");
  await closeOf(plain);
  assert.ok((await turnedAway("handshake")) - before >= 4);
});

test("a client does not take somebody else for the collector, and none at all while it has no revocation list", async () => {
  const one = await agent("ep-4");
  const mistaken = new UnixHttpClient({ socketPath: address, name: "reflex", dial: dialProcess(one.identity, "reflex") });
  await assert.rejects(mistaken.get("/v1/crl", CALL), codeIs("UNAUTHORISED"));
  await mistaken.close();
  const without = async (newConnections: "refuse" | "accept", name: string) => {
    const identity = new ProcessIdentity({
      uri: one.identity.uri,
      pki: one.vault.pki,
      dir: join(where.home, name),
      certificateTtlMs: 60_000,
      crlSources: () => [],
      staleCrl: { newConnections, established: "keep" },
      note: () => undefined,
    });
    await identity.start();
    const http = new UnixHttpClient({ socketPath: address, name: "collector", dial: dialProcess(identity, "collector") });
    return { http, end: async () => (await http.close(), await identity.close()) };
  };
  const careful = await without("refuse", "careful");
  await assert.rejects(careful.http.get("/v1/crl", CALL), /crl-absent/);
  await careful.end();
  const careless = await without("accept", "careless");
  await careless.http.get("/v1/crl", CALL);
  await careless.end();
});

test("started again, a process is who it was, with Vault and collector away; a certificate that is another's is not taken up", async () => {
  const one = await agent("ep-10");
  const away = () => Promise.reject(new Error("away"));
  const again = (uri: string) =>
    new ProcessIdentity({
      uri,
      pki: { issue: away },
      dir: join(where.home, "lab-ep-10-identity"),
      certificateTtlMs: 60_000,
      crlSources: () => [{ name: "nobody", pauseMs: 0, fetch: away }],
      staleCrl: { newConnections: "refuse", established: "keep" },
      note: () => undefined,
    });
  const same = again(one.identity.uri);
  await same.start();
  assert.equal(same.certificate.serial, one.identity.certificate.serial);
  const socket = await dialProcess(same, "collector")(address);
  socket.destroy();
  await same.close();
  const other = again(agentIdentity("lab", "ep-11"));
  const started = other.start();
  await Promise.race([started, new Promise((resolve) => setTimeout(resolve, 300))]);
  assert.throws(() => other.certificate, codeIs("NOT_READY"));
  await other.close();
  await assert.rejects(started);
});

test("the collector's certificate is replaced again and again; every call is answered, and who is connected from before is asked to come anew", async () => {
  const one = await agent("ep-5");
  const [socket, waiting] = await Promise.all([1, 2].map(() => dialProcess(one.identity, "collector")(address)));
  assert.ok(socket !== undefined && waiting !== undefined);
  const closed = closeOf(socket);
  const waited = ask(waiting, "/v1/crl?after=999999&waitMs=20000");
  const serials = new Set<string>();
  await eventually(
    "two renewals",
    async () => {
      await one.http.get("/v1/crl", CALL);
      serials.add(await serialShown(one));
      return serials.size >= 3;
    },
    25_000,
  );
  assert.match(await ask(socket), /^connection: close/im);
  await closed;
  assert.match(await waited, /^HTTP\/1\.1 204[^]*^connection: close/im, "who waits for a list waits with the next certificate");
  assert.match(collector.log(), /certificate-renewed/);
});

test("a handshake may take as long as the configuration says, and no longer", async () => {
  const one = await agent("ep-13");
  const silent = createServer().listen(join(where.run, "silent.sock"));
  const slow = new ProcessIdentity({
    uri: one.identity.uri,
    pki: one.vault.pki,
    dir: join(where.home, "slow"),
    certificateTtlMs: 60_000,
    handshakeTimeoutMs: 150,
    crlSources: () => [],
    staleCrl: { newConnections: "accept", established: "keep" },
    note: () => undefined,
  });
  await slow.start();
  await assert.rejects(dialProcess(slow, "reflex")(join(where.run, "silent.sock")), /no handshake within 150 ms/);
  await slow.close();
  silent.close();
});

/** Of the certificate that the collector shows to who comes new. */
async function serialShown({ identity }: Member): Promise<string> {
  const socket = connectTls({
    ...addressOf(address),
    secureContext: identity.secureContext(),
    checkServerIdentity: () => undefined,
  });
  await once(socket, "secureConnect");
  const serial = socket.getPeerX509Certificate()?.serialNumber ?? "";
  socket.destroy();
  return serial;
}

/** However it comes. */
function closeOf(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once("close", () => resolve()));
}

/** One request on a connection of one's own. */
async function ask(socket: TLSSocket, path = "/v1/crl"): Promise<string> {
  socket.write(`GET ${path} HTTP/1.1\r\nhost: collector\r\n\r\n`);
  const [bytes] = (await once(socket, "data")) as [Buffer];
  assert.match(bytes.toString(), /^HTTP\/1.1 20/);
  return bytes.toString();
}

test("a stream of sessions ends with the certificate it began with, and at once on a connection that is older than that", async () => {
  const { identity } = await process_("reflex");
  const socketPath = join(where.run, "streams.sock");
  const log = pino({ level: "silent" });
  const store = { headVersion: () => Promise.resolve(7), changesAfter: () => Promise.resolve([]) };
  const hub = new SessionHub({ store, lag: new Lag(), log });
  const served = await serve({
    socketPath,
    log,
    door: { identity, accepts: () => true, counts: new DoorCounts() },
    routes: (app) => sessionStreamRoute(app, { guard: { identity }, hub, revoked: new RevokedEndpoints() }),
  });
  const come = () => dialProcess(operator.identity, "reflex")(socketPath);
  const follow = (socket: TLSSocket) => {
    let heard = "";
    socket.on("data", (bytes: Buffer) => (heard += bytes.toString()));
    socket.write("GET /v1/sessions/stream?swarm=lab HTTP/1.1\r\nhost: collector\r\n\r\n");
    return () => heard;
  };
  try {
    const older = await come();
    await identity.renew();
    const ended = closeOf(older);
    const short = follow(older);
    await ended;
    assert.match(short(), /^connection: close[^]*"head":7/im);
    const standing = await come();
    const long = follow(standing);
    await eventually("it has begun, alone", () => /"head":7/.test(long()) && hub.subscribers === 1);
    assert.doesNotMatch(long(), /^connection: close/im);
    await identity.renew();
    await eventually("it has ended too", () => long().endsWith("\r\n0\r\n\r\n") && hub.subscribers === 0);
    standing.destroy();
  } finally {
    await served.close();
  }
});

test("a revoked certificate is out at once, on connections that stand and on new ones; the others notice nothing", async () => {
  const [bad, good] = [await agent("ep-6"), await agent("ep-7")];
  const control = await process_("control");
  const thief = await people.copyOf(bad, "ep-6");
  await send(thief, beat("ep-6"));
  const [theirs, ours] = await Promise.all([bad, good].map(({ identity }) => dialProcess(identity, "collector")(address)));
  assert.ok(theirs !== undefined && ours !== undefined);
  let ended = false;
  ours.once("close", () => (ended = true));
  const out = closeOf(theirs);
  const startedAtMs = performance.now();
  const { serial } = bad.identity.certificate;
  await control.vault.pki.revoke(serial);
  await out;
  const tookMs = performance.now() - startedAtMs;
  assert.ok(tookMs < 2_000, `${tookMs} ms`);
  await assert.rejects(send(thief, beat("ep-6")));
  assert.ok(!ended);
  await ask(ours);
  ours.destroy();
  await send(good, beat("ep-7"));
  const listed = () => good.identity.crl.held?.crl.revoked.has(serial);
  await eventually("everybody has the list", listed, 20_000);
  // What was revoked is a key, not a name: whose it was gets another one by itself, as long as Vault lets it. Who has copied it does not.
  const heard = () =>
    send(bad, beat("ep-6")).then(
      () => true,
      () => false,
    );
  await eventually("its owner is heard again", heard, 20_000);
  await assert.rejects(send(thief, beat("ep-6")));
});

test("a flood: silent connections, a babbling endpoint and oversized bodies; the others' heartbeats all get through, and memory stays", async () => {
  const [honest, babbler] = [await agent("ep-8"), await agent("ep-9")];
  await send(honest, beat("ep-8"));
  const before = await residentBytes();
  const floodEnd = new AbortController();
  const silent = keepConnecting(floodEnd.signal);
  const babble = (async () => {
    while (!floodEnd.signal.aborted) {
      const many = Array.from({ length: 40 }, (_, n) => send(babbler, n % 4 === 0 ? "x".repeat(200_000) : beat("ep-9")));
      await Promise.allSettled(many);
    }
  })();
  let worstMs = 0;
  let during = 0;
  try {
    for (let n = 0; n < 24; n += 1) {
      const sentAtMs = performance.now();
      // Every other one on a connection of its own, which has to get through the crowd at the door.
      await sendAsAgent(honest, "ep-8", n % 2 === 0);
      worstMs = Math.max(worstMs, performance.now() - sentAtMs);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    during = await residentBytes();
  } finally {
    floodEnd.abort();
  }
  const connections = await silent;
  await babble;
  const counts = { flood: await refused("flood"), crowd: await turnedAway("crowd"), grewMiB: (during - before) / 2 ** 20 };
  console.log(JSON.stringify({ connections, worstMs: Math.round(worstMs), ...counts }));
  assert.ok(connections > 2 * IDENTITY_LIMITS.handshakesPendingMax && counts.crowd > 0 && counts.flood > 100);
  assert.ok(counts.grewMiB < 256, `${counts.grewMiB} MiB`);
  assert.equal(collector.child.exitCode, null);
});

/** As an agent does: one that could not be connected in time is followed by the next. */
async function sendAsAgent({ http, identity }: Member, endpoint: string, keepsConnection: boolean): Promise<void> {
  const dial = dialProcess(identity, "collector");
  for (let attemptsLeft = 3; ; attemptsLeft -= 1) {
    const anew = new UnixHttpClient({ socketPath: address, name: "collector", dial });
    try {
      await (keepsConnection ? http : anew).post("/v1/heartbeats", { ...CALL, body: beat(endpoint) });
      return;
    } catch (thrown) {
      if (attemptsLeft <= 1 || !(thrown instanceof ForeshiftError) || thrown.code !== "UNREACHABLE") throw thrown;
    } finally {
      await anew.close();
    }
  }
}

/** Opens connections that never say a word, as fast as they are taken. Answers how many. */
async function keepConnecting(signal: AbortSignal): Promise<number> {
  const open = new Set<Socket>();
  let made = 0;
  while (!signal.aborted) {
    for (let n = 0; n < 20; n += 1) {
      const socket = connect(addressOf(address) as { host: string; port: number });
      made += 1;
      open.add(socket);
      socket.on("error", () => undefined);
      socket.once("close", () => open.delete(socket));
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  for (const socket of open) socket.destroy();
  return made;
}

async function residentBytes(): Promise<number> {
  const status = await readFile(`/proc/${collector.child.pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1_024;
}

test("key and certificate are their owner's files, and in no log", async () => {
  const text = await readFile(join(where.home, "collector-identity", "identity.json"), "utf8");
  const { privateKey } = JSON.parse(text) as { privateKey: string };
  const line = privateKey.split("\n")[1] ?? "";
  assert.ok(line.length > 20 && !collector.log().includes(line));
});
