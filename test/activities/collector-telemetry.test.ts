// The collector's telemetry as a process against a real PostgreSQL: faults counted, the live window, its refilling, rollups, the feed.
import assert from "node:assert/strict";
import { rename, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { NO_RETRY, UnixHttpClient } from "../../drivers/http-unix.ts";
import { type CollectorClient, collectorClient } from "../../drivers/store/collector-client.ts";
import { listen } from "../../drivers/store/listener.ts";
import { openStore, type PostgresStore } from "../../drivers/store/store.ts";
import { TELEMETRY_CHANNEL } from "../../drivers/store/telemetry.ts";
import { followTelemetryNews } from "../../drivers/store/telemetry-news.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import type { Heartbeat } from "../../models/observation.ts";
import { eventually } from "../support/eventually.ts";
import { awaitApi, startWorker, type WorkerProcess } from "../support/process.ts";
import { type TestHome, type TestPostgres, testHome, testPostgres } from "../support/services.ts";
import { heartbeatOf } from "../support/sessions.ts";

const CALL = { timeoutMs: 5_000, retry: NO_RETRY };
let where: TestHome;
let postgres: TestPostgres;
let collector: WorkerProcess;
let http: UnixHttpClient;
let client: CollectorClient;
let store: PostgresStore;
let eventsFile: string;

before(async () => {
  where = await testHome();
  postgres = await testPostgres(where, { migrated: true });
  const socketPath = join(where.run, "collector.sock");
  http = new UnixHttpClient({ socketPath, name: "collector" });
  client = collectorClient({ socketPath });
  store = openStore({ databaseUrl: postgres.url });
  eventsFile = join(where.home, "events.json");
  await start({ file: eventsFile, pollMs: 1_000 });
});

after(async () => {
  await collector?.kill();
  await Promise.all([http?.close(), client?.close(), store?.close()]);
  await postgres?.stop();
  await where?.remove();
});

async function start(outsideEvents?: object): Promise<void> {
  const config = { socketPath: http.socketPath, databaseUrl: postgres.url, outsideEvents };
  collector = await startWorker({ worker: "collector.ts", config, configPath: join(where.home, "collector.json") });
  await awaitApi(http, "/v1/telemetry?swarm=lab");
}

const send = (heartbeat: Heartbeat) => http.post<Record<string, unknown>>("/v1/heartbeats", { ...CALL, body: heartbeat });

async function metric(name: string): Promise<number> {
  const { text } = await http.exchange("GET", "/metrics", CALL);
  return Number(
    text
      .split("\n")
      .find((line) => line.startsWith(`${name} `))
      ?.split(" ")
      .at(-1),
  );
}
const faults = (kind: string) => metric(`foreshift_telemetry_faults_total{kind="${kind}"}`);

/** A heartbeat of an agent that has run for `second` seconds. */
function beat(endpoint: string, second: number, startedAtMs: number, counters: Record<string, number | null>): Heartbeat {
  const sample = { monotonicMs: second * 1_000, gauges: { "pathRttMs:balancer": second }, counters };
  return heartbeatOf(endpoint, second, { atMs: startedAtMs + second * 1_000, startedAtMs, sample });
}

test("what is wrong with heartbeats is counted by kind and is in no series", async () => {
  const startedAtMs = Date.now() - 9_500;
  // The first comes at once and so tells how far the clocks are apart; the others were under way for some seconds.
  await send({ ...beat("ep-1", 0, startedAtMs, {}), atMs: Date.now() });
  const sent = [
    beat("ep-1", 1, startedAtMs, { udpInErrors: 10 }),
    beat("ep-1", 2, startedAtMs, { udpInErrors: 12 }),
    beat("ep-1", 2, startedAtMs, { udpInErrors: 12 }),
    beat("ep-1", 3, startedAtMs, { udpInErrors: 1 }),
    beat("ep-1", 4, startedAtMs, { udpInErrors: 4 }),
    beat("ep-1", 9, startedAtMs, { udpInErrors: 900, nobodyKnows: 1 }),
    beat("ep-1", 10, startedAtMs, { udpInErrors: null }),
  ];
  const refused: string[] = [];
  for (const one of sent) await send(one).catch((thrown: ForeshiftError) => refused.push(thrown.code));
  assert.deepEqual(refused, ["HEARTBEAT_REFUSED"]);
  const kinds = ["duplicate", "reset", "gap", "unknown", "impossible", "late"];
  assert.deepEqual(await Promise.all(kinds.map(faults)), [1, 1, 1, 1, 1, 0]);
  const { endpoints, stepMs, fromMs, untilMs } = await client.window("lab", {
    sinceMs: 0,
    metrics: ["udpInErrorsPerS", "pathRttMs"],
  });
  assert.deepEqual([stepMs, untilMs - fromMs], [1_000, 900_000]);
  const series = endpoints["ep-1"] ?? {};
  assert.deepEqual(Object.keys(series).sort(), ["pathRttMs:balancer", "udpInErrorsPerS"]);
  assert.equal(series["udpInErrorsPerS"]?.values.length, 900);
  assert.deepEqual(
    series["udpInErrorsPerS"]?.values.filter((value) => value !== null),
    [2, 3],
  );
  assert.equal(series["udpInErrorsPerS"]?.statistics.count, 2);
});

test("agents of the first version are taken; the answer carries the collector's clock and the others' addresses", async () => {
  const old = await send(heartbeatOf("old-1", 1, { swarm: "paths" }));
  assert.ok(
    Math.abs(Number(old["receivedAtMs"]) - Date.now()) < 5_000 && Number(old["answeredAtMs"]) >= Number(old["receivedAtMs"]),
  );
  for (const n of [1, 2, 3]) await send(heartbeatOf(`ep-${n}`, 1, { swarm: "paths", probeAddress: `198.18.${n}.2` }));
  await send(heartbeatOf("ep-4", 1, { swarm: "paths", probeAddress: "198.18.4.2", tunnelUp: false }));
  const offered = await eventually("the ring is made anew", async () => {
    const { peers } = await send(
      heartbeatOf("ep-2", 2 + Math.floor(performance.now()), { swarm: "paths", probeAddress: "198.18.2.2" }),
    );
    return Array.isArray(peers) && peers.length === 2 ? peers : undefined;
  });
  assert.deepEqual(offered, [
    { endpoint: "ep-3", address: "198.18.3.2" },
    { endpoint: "ep-1", address: "198.18.1.2" },
  ]);
  await assert.rejects(send(heartbeatOf("ep-1", 9, { probeAddress: "not an address" })), /probeAddress is not valid/);
  await assert.rejects(send(heartbeatOf("ep-1", 9, { place: { region: "A B" } })), /place.region is not valid/);
});

test("what matters is announced, and nothing else", async () => {
  const stop = new AbortController();
  const heard: string[] = [];
  let listening = false;
  const listener = listen({
    databaseUrl: postgres.url,
    channel: TELEMETRY_CHANNEL,
    onNotice: (payload) => {
      const { swarm, endpoint, what } = JSON.parse(payload) as { swarm: string; endpoint: string; what: string };
      if (swarm === "news") heard.push(`${endpoint} ${what}`);
    },
    onListening: () => (listening = true),
    onBreak: () => undefined,
    signal: stop.signal,
  });
  const news = followTelemetryNews({ databaseUrl: postgres.url, onBreak: () => undefined });
  try {
    await eventually("listening", () => listening && news.countOf("news") > 0);
    const [before, other] = [news.countOf("news"), news.countOf("nobody")];
    for (const [n, over] of [{}, {}, { tunnelUp: false }, { tunnelUp: false }, { cpuShare: 0.2 }].entries())
      await send(heartbeatOf("ep-1", n + 1, { swarm: "news", ...over }));
    await eventually("silence is heard", () => heard.includes("ep-1 silent"), 10_000);
    assert.ok(news.countOf("news") > before && news.countOf("nobody") === other);
    // They only wake, so they may overtake each other on their connections.
    await eventually("all are heard", () => heard.length >= 4);
    assert.deepEqual(heard.sort(), ["ep-1 joined", "ep-1 silent", "ep-1 tunnel-down", "ep-1 tunnel-up"]);
  } finally {
    stop.abort();
    await Promise.all([listener, news.close()]);
  }
});

test("killed and started again, the collector has its window back from the database", async () => {
  const startedAtMs = Date.now() - 60_000;
  await send(beat("ep-7", 60, startedAtMs, {}));
  await eventually("it is stored", async () =>
    (await store.heartbeatsSince(startedAtMs)).some(({ endpoint }) => endpoint === "ep-7"),
  );
  await collector.kill("SIGKILL");
  await start({ file: eventsFile, pollMs: 1_000 });
  const back = await eventually(
    "the window is back",
    async () => (await client.window("lab", { sinceMs: startedAtMs, endpoint: "ep-7" })).endpoints["ep-7"],
    10_000,
  );
  assert.deepEqual(
    back["pathRttMs:balancer"]?.values.filter((value) => value !== null),
    [60],
  );
});

test("a stop leaves what it had as rollups", async () => {
  const before = Date.now();
  await send(heartbeatOf("ep-8", 1, { swarm: "stopped", cpuShare: 0.5 }));
  await collector.kill("SIGTERM");
  assert.equal(collector.child.exitCode, 0, collector.log());
  for (const stepMs of [60_000, 300_000]) {
    const [one] = await store.telemetry({ swarm: "stopped", metric: "cpuShare", sinceMs: before - 2 * stepMs, stepMs });
    assert.deepEqual(
      one?.points.map(({ count, mean, p95 }) => [count, mean, p95]),
      [[1, 0.5, 0.5]],
    );
  }
});

const entry = (id: string, over: object = {}) => ({
  id,
  source: "status page",
  kind: "provider-incident",
  region: "local",
  startsAt: new Date(Date.now() - 60_000).toISOString(),
  endsAt: new Date(Date.now() + 600_000).toISOString(),
  severity: 0.9,
  confidence: 0.9,
  text: "packet loss",
  ...over,
});

async function writeEvents(document: string): Promise<void> {
  await writeFile(`${eventsFile}.new`, document);
  await rename(`${eventsFile}.new`, eventsFile);
}

test("a feed from a file: good entries are stored, bad ones named; an unreadable document changes nothing; absence withdraws", async () => {
  await writeEvents(JSON.stringify([entry("a"), entry("b", { severity: 3 }), entry("c")]));
  await start({ file: eventsFile, pollMs: 1_000 });
  const ids = async () => (await store.outsideEvents({ activeAtMs: Date.now() })).map(({ id }) => id);
  await eventually("they are stored", async () => (await ids()).join() === "a,c", 10_000);
  assert.deepEqual(
    (await http.get<{ id: string }[]>("/v1/outside-events", CALL)).map(({ id }) => id),
    ["a", "c"],
  );
  assert.match(collector.log(), /outside-events-refused.*"id":"b","field":"severity","value":"3"/);
  assert.ok((await metric("foreshift_outside_events_refused_total")) >= 1);
  await writeEvents("[{ half");
  await eventually("the failure is counted", async () => (await metric("foreshift_outside_feed_failures_total")) > 0, 10_000);
  assert.deepEqual(await ids(), ["a", "c"]);
  await writeEvents(JSON.stringify([entry("c")]));
  await eventually("a is withdrawn", async () => (await ids()).join() === "c", 10_000);
  await collector.kill("SIGTERM");
});

test("a feed from an URL; an answer that is none counts as a failure", async () => {
  let status = 200;
  const server: Server = createServer((_, answer) => {
    answer.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify([entry("u")]));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  try {
    await start({ name: "by-url", url: `http://127.0.0.1:${port}/events`, pollMs: 1_000 });
    await eventually(
      "it is stored",
      async () => (await store.outsideEvents({ activeAtMs: Date.now() })).some(({ id }) => id === "u"),
      10_000,
    );
    status = 503;
    await eventually("the failure is counted", async () => (await metric("foreshift_outside_feed_failures_total")) > 0, 10_000);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test("a feed with neither file nor URL, or both, is refused by name", async () => {
  await collector.kill("SIGTERM");
  const config = { socketPath: http.socketPath, databaseUrl: postgres.url, outsideEvents: { pollMs: 1_000 } };
  const failed = await startWorker({ worker: "collector.ts", config, configPath: join(where.home, "wrong.json") });
  await eventually("it ends", () => failed.child.exitCode !== null, 10_000);
  assert.notEqual(failed.child.exitCode, 0);
  assert.match(failed.log(), /outsideEvents is not valid.*expected either file or url/);
});
