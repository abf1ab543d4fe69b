/**
 * Telemetry in the database: heartbeats as they were believed, day by day, what they were rolled up to, and the latest heartbeat of
 * each endpoint at hand.
 */
import { type Kysely, type RawBuilder, sql } from "kysely";
import type pg from "pg";
import { LIMITS } from "../../models/limits.ts";
import type { Heartbeat } from "../../models/observation.ts";
import type { Rollup } from "../../models/telemetry-rollup.ts";
import type { TelemetryQuery, TelemetrySeries } from "../ports.ts";
import { type CopyValue, copyRows } from "./copy.ts";
import type { Tables } from "./tables.ts";

/** Announces swarms in which something changed that a decision may rest on; payload `{swarm, endpoint?, what}`. */
export const TELEMETRY_CHANNEL = "foreshift_telemetry";

/** A heartbeat with what was made of it. */
export interface StoredHeartbeat {
  readonly heartbeat: Heartbeat;
  /** By the collector's clock. */
  readonly atMs: number;
  readonly receivedAtMs: number;
  readonly values: ReadonlyMap<string, number>;
}

export interface StoredRollup extends Rollup {
  /** Beginning of the time it sums up. */
  readonly atMs: number;
  readonly swarm: string;
  readonly endpoint: string;
  /** Name of the series. */
  readonly metric: string;
}

export interface BelievedSample {
  readonly swarm: string;
  readonly endpoint: string;
  readonly atMs: number;
  /** By the name of the series. */
  readonly sample: Readonly<Record<string, number>>;
}

export type Grain = "minute" | "five-minutes";

const ROLLUP_TABLES = { minute: "telemetry_minutes", "five-minutes": "telemetry_five_minutes" } as const;
const HEARTBEAT_COLUMNS = ["at", "received_at", "swarm", "endpoint", "sequence", "started_at", "tunnel_up", "sample", "body"];
const ROLLUP_COLUMNS = ["at", "swarm", "endpoint", "metric", "count", "mean", "min", "max", "p95"];
/** More says nothing: the live window holds single precision. */
const SAMPLE_DIGITS = 7;

/** One transaction for a batch of any size. Heartbeats may come out of order or twice; the latest stays the latest. */
export async function insertHeartbeats(client: pg.ClientBase, batch: readonly StoredHeartbeat[]): Promise<void> {
  await inTransaction(client, async () => {
    await client.query(
      "create temp table if not exists incoming_heartbeats (like heartbeats, body jsonb not null) on commit delete rows",
    );
    await copyRows(client, { into: "incoming_heartbeats", columns: HEARTBEAT_COLUMNS, rows: batch.map(heartbeatRow) });
    await client.query(`
      insert into heartbeats
      select at, received_at, swarm, endpoint, sequence, started_at, tunnel_up, sample from incoming_heartbeats incoming
      where not exists (
        select from heartbeats held where held.swarm = incoming.swarm and held.endpoint = incoming.endpoint
          and held.at = incoming.at and held.sequence = incoming.sequence and held.started_at = incoming.started_at)`);
    await client.query(`
      insert into latest_heartbeats (swarm, endpoint, at, body)
      select distinct on (swarm, endpoint) swarm, endpoint, at, body from incoming_heartbeats order by swarm, endpoint, at desc
      on conflict (swarm, endpoint) do update set at = excluded.at, body = excluded.body
        where excluded.at >= latest_heartbeats.at`);
  });
}

/** One that is made again replaces the one before, unless that one knew more. */
export async function insertRollups(client: pg.ClientBase, grain: Grain, batch: readonly StoredRollup[]): Promise<void> {
  const table = ROLLUP_TABLES[grain];
  await inTransaction(client, async () => {
    await client.query(`create temp table if not exists incoming_rollups (like ${table}) on commit delete rows`);
    await copyRows(client, { into: "incoming_rollups", columns: ROLLUP_COLUMNS, rows: batch.map(rollupRow) });
    await client.query(`
      insert into ${table} select * from incoming_rollups
      on conflict (swarm, endpoint, metric, at) do update
        set count = excluded.count, mean = excluded.mean, min = excluded.min, max = excluded.max, p95 = excluded.p95
        where excluded.count >= ${table}.count`);
  });
}

/** What was believed of every endpoint since a time, oldest first. */
export async function heartbeatsSince(db: Kysely<Tables>, sinceMs: number): Promise<readonly BelievedSample[]> {
  const rows = await db
    .selectFrom("heartbeats")
    .select(["swarm", "endpoint", "at", "sample"])
    .where("swarm", "in", (query) => query.selectFrom("latest_heartbeats").select("swarm").distinct())
    .where("at", ">=", new Date(sinceMs))
    .orderBy("at")
    .limit(LIMITS.telemetry.pointsPerAnswerMax)
    .execute();
  return rows.map(({ swarm, endpoint, at, sample }) => ({ swarm, endpoint, atMs: at.getTime(), sample }));
}

export async function latestHeartbeats(db: Kysely<Tables>, swarm: string): Promise<readonly Heartbeat[]> {
  const rows = await db.selectFrom("latest_heartbeats").select("body").where("swarm", "=", swarm).orderBy("endpoint").execute();
  // Shares that could not be read are absent in JSON, which reads as undefined.
  return rows.map(({ body }) => body);
}

export async function readTelemetry(db: Kysely<Tables>, query: TelemetryQuery): Promise<readonly TelemetrySeries[]> {
  const { minuteMs, fiveMinutesMs, pointsPerAnswerMax } = LIMITS.telemetry;
  const { stepMs } = query;
  const source = stepMs >= fiveMinutesMs ? fromRollups("telemetry_five_minutes", query) : undefined;
  const rows = source ?? (stepMs >= minuteMs ? fromRollups("telemetry_minutes", query) : fromHeartbeats(query));
  const result = await sql<StoredRollup>`${rows} order by endpoint, metric, "atMs" limit ${pointsPerAnswerMax}`.execute(db);
  const series = new Map<string, TelemetrySeries & { points: (Rollup & { atMs: number })[] }>();
  for (const { endpoint, metric, ...point } of result.rows) {
    const key = `${endpoint} ${metric}`;
    const one = series.get(key) ?? { endpoint, metric, points: [] };
    one.points.push(point);
    series.set(key, one);
  }
  return [...series.values()];
}

/** Days that are wholly older than their retention go; the coming ones are made. Answers how many partitions went. */
export async function turnTelemetryDays(db: Kysely<Tables>, nowMs: number): Promise<number> {
  const { rawRetentionMs, minuteRetentionMs, fiveMinuteRetentionMs, partitionsAheadDays } = LIMITS.telemetry;
  // Yesterday too, for what comes late.
  await sql`select make_telemetry_partitions(${dayOf(nowMs - DAY_MS)}::date, ${partitionsAheadDays + 2})`.execute(db);
  const old = [
    ["heartbeats", rawRetentionMs],
    [ROLLUP_TABLES.minute, minuteRetentionMs],
    [ROLLUP_TABLES["five-minutes"], fiveMinuteRetentionMs],
  ] as const;
  let dropped = 0;
  for (const [table, retentionMs] of old) {
    const kept = dayOf(nowMs - retentionMs);
    const { rows } = await sql<{ count: number }>`select drop_telemetry_partitions(${table}, ${kept}::date) as count`.execute(
      db,
    );
    dropped += rows[0]?.count ?? 0;
  }
  return dropped;
}

export async function announceTelemetry(
  db: Kysely<Tables>,
  news: { swarm: string; endpoint?: string | undefined; what: string },
): Promise<void> {
  await sql`select pg_notify(${TELEMETRY_CHANNEL}, ${JSON.stringify(news)})`.execute(db);
}

const DAY_MS = 86_400_000;

/** `YYYY-MM-DD` of UTC. */
function dayOf(atMs: number): string {
  return new Date(atMs).toISOString().slice(0, 10);
}

/** Steps that are no multiple of what the table holds have an uneven number of values in each, which `count` tells. */
function fromRollups(table: (typeof ROLLUP_TABLES)[Grain], query: TelemetryQuery): RawBuilder<unknown> {
  return sql`
    select endpoint, metric, ${stepOf(query)} as "atMs", sum(count)::integer as count, sum(mean * count) / sum(count) as mean,
      min(min) as min, max(max) as max, sum(p95 * count) / sum(count) as p95
    from ${sql.table(table)} as rows
    where ${matches(query)} group by endpoint, metric, "atMs"`;
}

function fromHeartbeats(query: TelemetryQuery): RawBuilder<unknown> {
  return sql`
    select endpoint, metric, ${stepOf(query)} as "atMs", count(*)::integer as count, avg(value) as mean, min(value) as min,
      max(value) as max, percentile_cont(0.95) within group (order by value) as p95
    from (select at, swarm, endpoint, key as metric, value::float8 as value from heartbeats, jsonb_each(sample)) as rows
    where ${matches(query)} group by endpoint, metric, "atMs"`;
}

/** Steps are counted from the epoch. */
function stepOf({ stepMs }: TelemetryQuery): RawBuilder<number> {
  const ms = sql`extract(epoch from at) * 1000`;
  return sql<number>`(floor(${ms} / ${stepMs}::float8) * ${stepMs}::float8)::float8`;
}

function matches({ swarm, endpoint, metric, sinceMs, untilMs }: TelemetryQuery): RawBuilder<unknown> {
  const conditions = [sql`swarm = ${swarm}`, sql`at >= ${new Date(sinceMs)}`];
  if (untilMs !== undefined) conditions.push(sql`at < ${new Date(untilMs)}`);
  if (endpoint !== undefined) conditions.push(sql`endpoint = ${endpoint}`);
  if (metric !== undefined) conditions.push(sql`(metric = ${metric} or starts_with(metric, ${`${metric}:`}))`);
  return sql.join(conditions, sql` and `);
}

function heartbeatRow({ heartbeat, atMs, receivedAtMs, values }: StoredHeartbeat): CopyValue[] {
  const { sample: _, ...body } = heartbeat;
  const rounded = Object.fromEntries([...values].map(([series, value]) => [series, Number(value.toPrecision(SAMPLE_DIGITS))]));
  return [
    new Date(atMs),
    new Date(receivedAtMs),
    heartbeat.swarm,
    heartbeat.endpoint,
    heartbeat.sequence,
    new Date(heartbeat.startedAtMs),
    heartbeat.tunnelUp,
    JSON.stringify(rounded),
    JSON.stringify(body),
  ];
}

function rollupRow({ atMs, swarm, endpoint, metric, count, mean, min, max, p95 }: StoredRollup): CopyValue[] {
  return [new Date(atMs), swarm, endpoint, metric, count, mean, min, max, p95];
}

async function inTransaction(client: pg.ClientBase, work: () => Promise<void>): Promise<void> {
  await client.query("begin");
  try {
    await work();
    await client.query("commit");
  } catch (thrown) {
    await client.query("rollback").catch(() => undefined);
    throw thrown;
  }
}
