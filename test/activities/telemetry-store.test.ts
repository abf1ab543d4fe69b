// Telemetry and outside events in a real PostgreSQL: COPY, partitions, rollups, and a feed that takes its word back.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import pg from "pg";
import { openStore, type PostgresStore } from "../../drivers/store/store.ts";
import type { StoredRollup } from "../../drivers/store/telemetry.ts";
import { LIMITS } from "../../models/limits.ts";
import type { OutsideEvent } from "../../models/outside-events.ts";
import { type TestHome, type TestPostgres, testHome, testPostgres } from "../support/services.ts";
import { heartbeatOf, storedOf } from "../support/sessions.ts";

const DAY_MS = 86_400_000;
let where: TestHome;
let postgres: TestPostgres;
let store: PostgresStore;
let client: pg.Client;

before(async () => {
  where = await testHome();
  postgres = await testPostgres(where, { migrated: true });
  store = openStore({ databaseUrl: postgres.url });
  client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
});

after(async () => {
  await client?.end();
  await store?.close();
  await postgres?.stop();
  await where?.remove();
});

const stepOfNow = (stepMs: number) => Math.floor(Date.now() / stepMs) * stepMs;

test("series of single heartbeats: by endpoint, metric with all its labels, and step", async () => {
  const fromMs = stepOfNow(10_000) - 30_000;
  const beats = Array.from({ length: 20 }, (_, n) =>
    storedOf(heartbeatOf(n % 2 === 0 ? "ep-1" : "ep-2", n, { swarm: "series", atMs: fromMs + n * 1_000 }), {
      cpuShare: n / 100,
      "pathRttMs:ep-9": n,
      "pathRttMs:balancer": 2 * n,
    }),
  );
  await store.insertHeartbeats(beats);
  const all = await store.telemetry({ swarm: "series", sinceMs: fromMs, stepMs: 10_000 });
  assert.deepEqual(
    all.map(({ endpoint, metric }) => `${endpoint} ${metric}`),
    [
      "ep-1 cpuShare",
      "ep-1 pathRttMs:balancer",
      "ep-1 pathRttMs:ep-9",
      "ep-2 cpuShare",
      "ep-2 pathRttMs:balancer",
      "ep-2 pathRttMs:ep-9",
    ],
  );
  assert.deepEqual(all[2]?.points, [
    { atMs: fromMs, count: 5, mean: 4, min: 0, max: 8, p95: 7.6 },
    { atMs: fromMs + 10_000, count: 5, mean: 14, min: 10, max: 18, p95: 17.6 },
  ]);
  const some = await store.telemetry({
    swarm: "series",
    endpoint: "ep-2",
    metric: "pathRttMs",
    sinceMs: fromMs + 10_000,
    stepMs: 60_000 / 2,
  });
  assert.deepEqual(
    some.map(({ endpoint, metric, points }) => [endpoint, metric, points.length]),
    [
      ["ep-2", "pathRttMs:balancer", 1],
      ["ep-2", "pathRttMs:ep-9", 1],
    ],
  );
  assert.deepEqual(await store.telemetry({ swarm: "nobody", sinceMs: 0, stepMs: 1_000 }), []);
});

test("texts that COPY would take for its own are stored as they are", async () => {
  const publicText = "a\tb\\nc\nd\\";
  await store.insertRollups("minute", [rollupOf({ swarm: "texts", metric: publicText, atMs: stepOfNow(60_000) })]);
  const { rows } = await client.query("select metric from telemetry_minutes where swarm = 'texts'");
  assert.deepEqual(rows, [{ metric: publicText }]);
});

function rollupOf(over: Partial<StoredRollup> = {}): StoredRollup {
  return {
    atMs: stepOfNow(60_000),
    swarm: "rolled",
    endpoint: "ep-1",
    metric: "cpuShare",
    count: 60,
    mean: 1,
    min: 0,
    max: 2,
    p95: 1.9,
    ...over,
  };
}

test("rollups: written twice they are there once; one of fewer values replaces none; steps add up", async () => {
  const hourMs = 3_600_000;
  const fromMs = stepOfNow(hourMs) - hourMs;
  const minutes = Array.from({ length: 60 }, (_, n) =>
    rollupOf({ atMs: fromMs + n * 60_000, mean: n, min: n - 1, max: n + 1, p95: n }),
  );
  await store.insertRollups("minute", minutes);
  await store.insertRollups("minute", [...minutes, rollupOf({ atMs: fromMs + hourMs, count: 30 })]);
  await store.insertRollups("minute", [
    rollupOf({ atMs: fromMs, count: 3, mean: 999 }),
    rollupOf({ atMs: fromMs + hourMs, count: 60, mean: 5 }),
  ]);
  const byMinute = await store.telemetry({ swarm: "rolled", sinceMs: fromMs, stepMs: 60_000 });
  assert.equal(byMinute.length, 1);
  assert.deepEqual(
    byMinute[0]?.points.map(({ atMs, mean }) => [(atMs - fromMs) / 60_000, mean]),
    [...Array.from({ length: 60 }, (_, n) => [n, n]), [60, 5]],
  );
  const byQuarter = await store.telemetry({ swarm: "rolled", sinceMs: fromMs, untilMs: fromMs + hourMs, stepMs: 240_000 });
  assert.deepEqual(byQuarter[0]?.points[1], { atMs: fromMs + 240_000, count: 240, mean: 5.5, min: 3, max: 8, p95: 5.5 });
  await store.insertRollups("five-minutes", [rollupOf({ atMs: fromMs, count: 300, mean: 2 })]);
  const byHour = await store.telemetry({ swarm: "rolled", metric: "cpuShare", sinceMs: fromMs, stepMs: hourMs });
  assert.deepEqual(
    byHour[0]?.points.map(({ count, mean }) => [count, mean]),
    [[300, 2]],
  );
});

test("ten thousand rows in one batch", async () => {
  const atMs = stepOfNow(60_000);
  const rows = Array.from({ length: 10_000 }, (_, n) =>
    rollupOf({ swarm: "many", endpoint: `ep-${n % 100}`, metric: `m${n}`, atMs }),
  );
  await store.insertRollups("minute", rows);
  const { rows: counted } = await client.query("select count(*)::int from telemetry_minutes where swarm = 'many'");
  assert.deepEqual(counted, [{ count: 10_000 }]);
});

test("days are made ahead and dropped when they are past their retention, and nothing else is", async () => {
  const partitions = async (table: string) => {
    const { rows } = await client.query<{ name: string }>(
      "select relname as name from pg_inherits join pg_class child on child.oid = inhrelid where inhparent = $1::regclass order by 1",
      [table],
    );
    return rows.map(({ name }) => name);
  };
  const suffix = (atMs: number) => new Date(atMs).toISOString().slice(0, 10).replaceAll("-", "");
  const now = Date.now();
  const before = await partitions("heartbeats");
  assert.ok(before.includes(`heartbeats_${suffix(now)}`) && before.includes(`heartbeats_${suffix(now + DAY_MS)}`));
  await store.turnTelemetryDays(now);
  assert.ok(
    (await partitions("heartbeats")).includes(`heartbeats_${suffix(now + LIMITS.telemetry.partitionsAheadDays * DAY_MS)}`),
  );
  const later = now + 5 * DAY_MS;
  assert.ok((await store.turnTelemetryDays(later)) > 0);
  const left = await partitions("heartbeats");
  assert.ok(!left.includes(`heartbeats_${suffix(now)}`) && left.includes(`heartbeats_${suffix(later)}`));
  assert.ok((await partitions("telemetry_minutes")).includes(`telemetry_minutes_${suffix(now)}`));
  await Promise.all([store.turnTelemetryDays(later), store.turnTelemetryDays(later)]);
  await store.turnTelemetryDays(now);
});

test("outside events: the same said twice is no change; what is said no more is withdrawn; feeds are apart", async () => {
  const now = Date.now();
  const event = (id: string, over: Partial<OutsideEvent> = {}): OutsideEvent => ({
    id,
    source: "provider",
    kind: "maintenance",
    region: "eu",
    zone: undefined,
    startsAtMs: now - 60_000,
    endsAtMs: now + 60_000,
    severity: 0.5,
    confidence: 0.25,
    text: `work on ${id}`,
    ...over,
  });
  const ids = async (activeAtMs = now, aheadMs = 0) => (await store.outsideEvents({ activeAtMs, aheadMs })).map(({ id }) => id);
  assert.equal(await store.saveOutsideEvents("one", [event("a"), event("b", { zone: "eu-1" })]), true);
  assert.equal(await store.saveOutsideEvents("one", [event("a"), event("b", { zone: "eu-1" })]), false);
  assert.deepEqual(await store.outsideEvents({ activeAtMs: now }), [event("a"), event("b", { zone: "eu-1" })]);
  assert.equal(await store.saveOutsideEvents("two", [event("c", { startsAtMs: now + 30_000 })]), true);
  assert.deepEqual([await ids(), await ids(now, 30_000), await ids(now + 60_000)], [["a", "b"], ["a", "b", "c"], []]);
  assert.equal(await store.saveOutsideEvents("one", [event("b", { severity: 1 })]), true);
  const left = await store.outsideEvents({ activeAtMs: Date.now() });
  assert.deepEqual(
    left.map(({ id, severity }) => [id, severity]),
    [["b", 1]],
  );
  const withdrawn = await client.query("select withdrawn_at from outside_events where id = 'a'");
  assert.deepEqual(
    await ids(withdrawn.rows[0].withdrawn_at.getTime()),
    ["b"],
    "over in the very millisecond of its withdrawal",
  );
  assert.equal(await store.saveOutsideEvents("one", [event("a"), event("b", { severity: 1 })]), true);
  assert.deepEqual(await ids(), ["a", "b"]);
  await store.deleteOutsideEventsBefore(now + 3_600_000);
  assert.deepEqual(await ids(now, 60_000), []);
});
