// The collector as a process against a real PostgreSQL: deltas in, streams out, catch-up after its own death and the database's.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { NO_RETRY, RETRY_IDEMPOTENT, UnixHttpClient } from "../../drivers/http-unix.ts";
import { collectorClient } from "../../drivers/store/collector-client.ts";
import { followSessions, type StreamLine } from "../../drivers/store/session-stream.ts";
import { openStore, type PostgresStore } from "../../drivers/store/store.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import type { Heartbeat } from "../../models/observation.ts";
import { eventually } from "../support/eventually.ts";
import { awaitApi, startWorker, type WorkerProcess } from "../support/process.ts";
import { type TestHome, type TestPostgres, testHome, testPostgres } from "../support/services.ts";
import { heartbeatOf, keyOf, peerOf, sessionOf } from "../support/sessions.ts";

const CALL = { timeoutMs: 5_000, retry: NO_RETRY };
let where: TestHome;
let postgres: TestPostgres;
let collector: WorkerProcess;
let http: UnixHttpClient;
let store: PostgresStore;

before(async () => {
  where = await testHome();
  postgres = await testPostgres(where, { migrated: false });
  http = new UnixHttpClient({ socketPath: join(where.run, "collector.sock"), name: "collector" });
  store = openStore({ databaseUrl: postgres.url });
  await start();
});

after(async () => {
  await collector?.kill();
  await http?.close();
  await store?.close();
  await postgres?.stop();
  await where?.remove();
});

async function start(): Promise<void> {
  const config = { socketPath: http.socketPath, databaseUrl: postgres.url };
  collector = await startWorker({ worker: "collector.ts", config, configPath: join(where.home, "collector.json") });
  await awaitApi(http, "/v1/telemetry?swarm=lab");
}

/** Follows a swarm as agents do and keeps what the stream amounts to. */
function follow(swarm: string) {
  const stop = new AbortController();
  const lines: StreamLine[] = [];
  const versions: number[] = [];
  const ended = followSessions({
    collector: http,
    swarm,
    after: () => versions.at(-1) ?? 0,
    onLines: (batch) => {
      lines.push(...batch);
      for (const line of batch) if (!("head" in line)) versions.push("upsert" in line ? line.upsert.version : line.version);
    },
    onBreak: () => undefined,
    signal: stop.signal,
  });
  const last = () => versions.at(-1) ?? 0;
  return { lines, versions, last, end: () => (stop.abort(), ended) };
}

const deltas = (swarm: string, endpoint: string, from: number, count: number, over = {}) => ({
  swarm,
  endpoint,
  upserts: Array.from({ length: count }, (_, n) => sessionOf(from + n, endpoint, over)),
  removed: [] as string[],
});

test("heartbeats are at hand at once and in the database soon", async () => {
  await http.post("/v1/heartbeats", { ...CALL, body: heartbeatOf("ep-1", 1) });
  await http.post("/v1/heartbeats", { ...CALL, body: heartbeatOf("ep-2", 1) });
  const telemetry = await http.get<Heartbeat[]>("/v1/telemetry?swarm=lab", CALL);
  assert.deepEqual(telemetry.map(({ endpoint }) => endpoint).sort(), ["ep-1", "ep-2"]);
  await eventually("the database has them", async () => (await store.heartbeats("lab")).length === 2);
  await assert.rejects(
    http.post("/v1/heartbeats", { ...CALL, body: { ...heartbeatOf("ep-1", 2), cpuShare: 7 } }),
    (error: ForeshiftError) => error.code === "INVALID_FIELD" && error.field === "cpuShare" && error.value === "7",
  );
});

test("a stream catches up by version and then follows live; sessions get a shadow; lag is measured", async () => {
  await store.registerPeers("lab", [peerOf(1), peerOf(2)]);
  await http.post("/v1/sessions", { ...CALL, body: deltas("lab", "ep-1", 1, 2) });
  const stream = follow("lab");
  try {
    await eventually("catch-up", () => stream.last() === 4);
    assert.deepEqual(stream.lines[0], { head: 4 });
    await http.post("/v1/sessions", { ...CALL, body: { ...deltas("lab", "ep-1", 3, 1), removed: [keyOf(1)] } });
    await eventually("live", () => stream.last() === 6);
    assert.deepEqual(stream.versions, [1, 2, 3, 4, 5, 6]);
    const upserts = stream.lines.flatMap((line) => ("upsert" in line ? [line.upsert] : []));
    assert.ok(upserts.every(({ shadow, endpoint }) => endpoint === "ep-1" && shadow === "ep-2"));
    assert.deepEqual(stream.lines.at(-1), { remove: keyOf(1), version: 6 });
    const client = collectorClient({ socketPath: http.socketPath });
    const lag = await client.lag();
    await client.close();
    assert.ok(lag.samples >= 1 && (lag.lagMsMax ?? 1e9) < 2_000, JSON.stringify(lag));
    const { text } = await http.exchange("GET", "/metrics", CALL);
    assert.match(text, /^foreshift_session_lag_p99_seconds [\d.]+$/m);
  } finally {
    await stream.end();
  }
});

test("many streams see every version once and in order, while writers write and streams join", async () => {
  const streams = [follow("many"), follow("many"), follow("many")];
  try {
    const writes = Array.from({ length: 40 }, (_, n) => {
      if (n % 10 === 5) streams.push(follow("many"));
      return http.post("/v1/sessions", { ...CALL, body: deltas("many", `ep-${n}`, n * 100, 50) });
    });
    await Promise.all(writes);
    for (const stream of streams) {
      await eventually("all versions", () => stream.last() === 2_000, 10_000);
      assert.deepEqual(
        stream.versions,
        [...new Set(stream.versions)].sort((one, other) => one - other),
      );
      assert.equal(stream.versions.length, 2_000);
    }
  } finally {
    await Promise.all(streams.map((stream) => stream.end()));
  }
});

test("killed and started again, the collector goes on where its streams were", async () => {
  const stream = follow("killed");
  try {
    await http.post("/v1/sessions", { ...CALL, body: deltas("killed", "ep-1", 0, 3) });
    await eventually("before", () => stream.last() === 3);
    await collector.kill("SIGKILL");
    await store.applyDeltas(deltas("killed", "ep-2", 0, 2, { lastHandshakeMs: 2_000_000 }), () => undefined);
    await start();
    await eventually("after", () => stream.last() === 5, 10_000);
    await http.post("/v1/sessions", { timeoutMs: 5_000, retry: RETRY_IDEMPOTENT, body: deltas("killed", "ep-1", 7, 1) });
    await eventually("live again", () => stream.last() === 6);
    assert.deepEqual(stream.versions, [1, 2, 3, 4, 5, 6]);
  } finally {
    await stream.end();
  }
});

test("the database is killed: the collector stays up, keeps heartbeats, and its streams go on", async () => {
  const stream = follow("database");
  try {
    await http.post("/v1/sessions", { ...CALL, body: deltas("database", "ep-1", 0, 1) });
    await eventually("before", () => stream.last() === 1);
    await postgres.kill();
    await http.post("/v1/heartbeats", { ...CALL, body: heartbeatOf("ep-9", 1) });
    assert.ok((await http.get<Heartbeat[]>("/v1/telemetry?swarm=lab", CALL)).some(({ endpoint }) => endpoint === "ep-9"));
    const body = deltas("database", "ep-1", 1, 1);
    // As agents do: again until it is taken.
    const during = eventually(
      "the delta is taken",
      () =>
        http.post("/v1/sessions", { timeoutMs: 15_000, retry: NO_RETRY, body }).then(
          () => true,
          () => false,
        ),
      20_000,
    );
    await postgres.start();
    await during;
    await eventually("after", () => stream.last() === 2, 15_000);
    await eventually(
      "the heartbeat arrives",
      async () => (await store.heartbeats("lab")).some(({ endpoint }) => endpoint === "ep-9"),
      10_000,
    );
    assert.deepEqual(stream.versions, [1, 2]);
    assert.equal(collector.child.exitCode, null);
  } finally {
    await stream.end();
  }
});

test("a revoked endpoint is heard no more from that moment on, also by a collector that was away; a new fleet may use its name", async () => {
  const beat = (endpoint: string, sequence: number) =>
    http.post("/v1/heartbeats", { ...CALL, body: heartbeatOf(endpoint, sequence, { swarm: "put-out", atMs: Date.now() }) });
  const isRevoked = { code: "ENDPOINT_REVOKED" };
  await beat("ep-1", 1);
  await store.revokeEndpoint({ swarm: "put-out", endpoint: "ep-1", reason: "a test" });
  await store.revokeEndpoint({ swarm: "put-out", endpoint: "ep-1", reason: "again" });
  assert.deepEqual(await store.revokedEndpoints("put-out"), ["ep-1"]);
  let sequence = 1;
  const refused = () =>
    eventually("it is refused", () => {
      sequence += 1;
      return beat("ep-1", sequence).then(
        () => false,
        (thrown: ForeshiftError) => thrown.code === isRevoked.code,
      );
    });
  await refused();
  await assert.rejects(http.post("/v1/sessions", { ...CALL, body: deltas("put-out", "ep-1", 1, 1) }), isRevoked);
  await beat("ep-2", 1);
  await collector.kill();
  await start();
  await refused();
  await store.forgetFleet("put-out");
  await eventually("another machine of that name is heard", () => {
    sequence += 1;
    return beat("ep-1", sequence).then(
      () => true,
      () => false,
    );
  });
});

test("the password is in no log line; a stopped collector leaves no socket", async () => {
  const password = new URL(postgres.url).password;
  assert.ok(password.length > 8 && !collector.log().includes(password));
  await collector.kill("SIGTERM");
  assert.equal(collector.child.exitCode, 0, collector.log());
  await assert.rejects(http.get("/v1/lag", CALL), (error: ForeshiftError) => error.code === "UNREACHABLE");
});
