/**
 * Endpoints that a person has put out for good. Announced where sessions are, to whoever lets agents in.
 */
import { type Kysely, sql, type Transaction } from "kysely";
import { SESSIONS_CHANNEL } from "./sessions.ts";
import type { Tables } from "./tables.ts";

export interface EndpointName {
  readonly swarm: string;
  readonly endpoint: string;
}

export async function revokeEndpoint(db: Kysely<Tables>, request: EndpointName & { reason: string }): Promise<void> {
  const { endpoint, reason, swarm } = request;
  await db.transaction().execute(async (tx) => {
    const insert = tx.insertInto("revoked_endpoints").values({ swarm, endpoint, reason });
    await insert.onConflict((conflict) => conflict.columns(["swarm", "endpoint"]).doNothing()).execute();
    await sql`select pg_notify(${SESSIONS_CHANNEL}, ${JSON.stringify({ swarm, revoked: endpoint })})`.execute(tx);
  });
}

/** Its names are used again by other machines: a fleet that is gone for good. */
export async function announceForgotten(tx: Transaction<Tables>, swarm: string): Promise<void> {
  await sql`select pg_notify(${SESSIONS_CHANNEL}, ${JSON.stringify({ swarm, forgotten: true })})`.execute(tx);
}

/** Of one swarm, or of all; the latest last. */
export async function listRevokedEndpoints(db: Kysely<Tables>, swarm?: string): Promise<readonly EndpointName[]> {
  const query = db.selectFrom("revoked_endpoints").select(["swarm", "endpoint"]).orderBy("at").orderBy("endpoint");
  return await (swarm === undefined ? query : query.where("swarm", "=", swarm)).execute();
}
