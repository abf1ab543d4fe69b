/**
 * Heartbeats in the database: each one kept for a while, and the latest of each endpoint at hand.
 */
import { type Kysely, sql } from "kysely";
import type { Heartbeat } from "../../models/observation.ts";
import type { Tables } from "./tables.ts";

/** One statement for a batch of any size. Heartbeats may come out of order; the latest stays the latest. */
export async function insertHeartbeats(db: Kysely<Tables>, heartbeats: readonly Heartbeat[]): Promise<void> {
  if (heartbeats.length === 0) return;
  await sql`
    with batch as (
      select body, to_timestamp((body->>'atMs')::float8 / 1000) as at
      from jsonb_array_elements(${JSON.stringify(heartbeats)}::jsonb) as body
    ), kept as (
      insert into heartbeats
      select at, body->>'swarm', body->>'endpoint', (body->>'sequence')::bigint, to_timestamp((body->>'startedAtMs')::float8 / 1000),
        (body->>'cpuShare')::real, (body->>'cpuPressure')::real, (body->>'memoryShare')::real, (body->>'tunnelUp')::boolean,
        (body->>'sessions')::integer, (body->>'rxBytes')::bigint, (body->>'txBytes')::bigint,
        (body->>'rxDrops')::bigint, (body->>'txDrops')::bigint
      from batch
    )
    insert into latest_heartbeats (swarm, endpoint, at, body)
    select distinct on (body->>'swarm', body->>'endpoint') body->>'swarm', body->>'endpoint', at, body
    from batch order by body->>'swarm', body->>'endpoint', at desc
    on conflict (swarm, endpoint) do update set at = excluded.at, body = excluded.body
      where excluded.at >= latest_heartbeats.at
  `.execute(db);
}

export async function latestHeartbeats(db: Kysely<Tables>, swarm: string): Promise<readonly Heartbeat[]> {
  const rows = await db.selectFrom("latest_heartbeats").select("body").where("swarm", "=", swarm).orderBy("endpoint").execute();
  // Shares that could not be read are absent in JSON, which reads as undefined.
  return rows.map(({ body }) => body);
}

/** Answers how many rows went. */
export async function deleteHeartbeatsBefore(db: Kysely<Tables>, beforeMs: number): Promise<number> {
  const result = await db.deleteFrom("heartbeats").where("at", "<", new Date(beforeMs)).executeTakeFirst();
  return Number(result.numDeletedRows);
}
