/** Risk scores over time: what was predicted of each endpoint, and when. */
import type { Kysely } from "kysely";
import { LIMITS } from "../../models/limits.ts";
import type { RiskScore, ScoredEndpoint } from "../../models/risk.ts";
import type { Store } from "../ports.ts";
import type { Tables } from "./tables.ts";

/** The same score again changes nothing. Scores past their retention go. */
export async function saveRiskScores(db: Kysely<Tables>, swarm: string, scores: readonly ScoredEndpoint[]): Promise<void> {
  if (scores.length === 0) return;
  const rows = scores.map(({ score, sessions }) => ({
    at: new Date(score.atMs),
    swarm,
    endpoint: score.endpoint,
    sessions,
    score: JSON.stringify(score),
  }));
  await db
    .insertInto("risk_scores")
    .values(rows)
    .onConflict((conflict) => conflict.columns(["swarm", "endpoint", "at"]).doNothing())
    .execute();
  const newestMs = Math.max(...scores.map(({ score }) => score.atMs));
  const before = new Date(newestMs - LIMITS.foresight.scoresKeptMs);
  await db.deleteFrom("risk_scores").where("at", "<", before).execute();
}

/** The newest scores up to `untilMs` (Unix milliseconds), latest first; of one endpoint, or of all. */
export async function readRiskScores(
  db: Kysely<Tables>,
  query: Parameters<Store["riskScores"]>[0],
): Promise<readonly ScoredEndpoint[]> {
  const { swarm, endpoint, sinceMs, untilMs, limit } = query;
  let rows = db.selectFrom("risk_scores").select(["score", "sessions"]).where("swarm", "=", swarm);
  if (endpoint !== undefined) rows = rows.where("endpoint", "=", endpoint);
  if (sinceMs !== undefined) rows = rows.where("at", ">=", new Date(sinceMs));
  const found = await rows.where("at", "<=", new Date(untilMs)).orderBy("at", "desc").limit(limit).execute();
  return found.map(({ score, sessions }) => ({ score: score as RiskScore, sessions }));
}
