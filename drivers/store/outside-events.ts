/**
 * Outside events in the database: what a feed says is what holds; an event that it says no more is withdrawn.
 */
import { type Kysely, sql } from "kysely";
import type { OutsideEvent } from "../../models/outside-events.ts";
import type { Tables } from "./tables.ts";

/**
 * Takes a feed's whole document; answers whether anything changed. Said again, it changes nothing.
 * A withdrawal is kept in whole milliseconds, as everybody asks: with its microseconds it would lie after its own moment.
 */
export async function saveOutsideEvents(db: Kysely<Tables>, feed: string, events: readonly OutsideEvent[]): Promise<boolean> {
  return await db.transaction().execute(async (tx) => {
    const saved = await sql`
      insert into outside_events (id, source, kind, region, zone, starts_at, ends_at, severity, confidence, text, feed)
      select id, source, kind, region, zone, to_timestamp("startsAtMs" / 1000.0), to_timestamp("endsAtMs" / 1000.0),
        severity, confidence, text, ${feed}
      from jsonb_to_recordset(${JSON.stringify(events)}::jsonb) as event(id text, source text, kind text, region text, zone text,
        "startsAtMs" bigint, "endsAtMs" bigint, severity float8, confidence float8, text text)
      on conflict (id) do update set source = excluded.source, kind = excluded.kind, region = excluded.region,
        zone = excluded.zone, starts_at = excluded.starts_at, ends_at = excluded.ends_at, severity = excluded.severity,
        confidence = excluded.confidence, text = excluded.text, feed = excluded.feed, seen_at = now(), withdrawn_at = null
      where (outside_events.source, outside_events.kind, outside_events.region, outside_events.zone, outside_events.starts_at,
          outside_events.ends_at, outside_events.severity, outside_events.confidence, outside_events.text,
          outside_events.feed, outside_events.withdrawn_at)
        is distinct from (excluded.source, excluded.kind, excluded.region, excluded.zone, excluded.starts_at, excluded.ends_at,
          excluded.severity, excluded.confidence, excluded.text, excluded.feed, null::timestamptz)`.execute(tx);
    const withdrawn = await sql`
      update outside_events set withdrawn_at = date_trunc('milliseconds', now())
      where feed = ${feed} and withdrawn_at is null and ends_at > now()
        and not (id = any(${events.map(({ id }) => id)}::text[]))`.execute(tx);
    return Number(saved.numAffectedRows ?? 0) + Number(withdrawn.numAffectedRows ?? 0) > 0;
  });
}

/** Events whose window has some of [activeAtMs, activeAtMs + aheadMs] in it, soonest first. */
export async function readOutsideEvents(
  db: Kysely<Tables>,
  { activeAtMs, aheadMs = 0 }: { activeAtMs: number; aheadMs?: number },
): Promise<readonly OutsideEvent[]> {
  const rows = await db
    .selectFrom("outside_events")
    .selectAll()
    .where("starts_at", "<=", new Date(activeAtMs + aheadMs))
    .where("ends_at", ">", new Date(activeAtMs))
    .where((at) => at.or([at("withdrawn_at", "is", null), at("withdrawn_at", ">", new Date(activeAtMs))]))
    .orderBy("starts_at")
    .orderBy("id")
    .execute();
  return rows.map(({ id, source, kind, region, zone, starts_at, ends_at, severity, confidence, text }) => ({
    id,
    source,
    kind,
    region,
    zone: zone ?? undefined,
    startsAtMs: starts_at.getTime(),
    endsAtMs: ends_at.getTime(),
    severity,
    confidence,
    text,
  }));
}

export async function deleteOutsideEventsBefore(db: Kysely<Tables>, beforeMs: number): Promise<void> {
  await db.deleteFrom("outside_events").where("ends_at", "<", new Date(beforeMs)).execute();
}
