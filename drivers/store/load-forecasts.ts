/** Forecasts of swarms' loads over time, beside what came. */
import { type Kysely, sql } from "kysely";
import type { HorizonScore, LoadOutcome, ToldForecast } from "../../models/forecast/track-record.ts";
import { LIMITS } from "../../models/limits.ts";
import type { Tables } from "./tables.ts";

/** Made again, for instance after a restart, a forecast changes nothing: the first word counts. Rows past their retention go. */
export async function saveLoadForecasts(db: Kysely<Tables>, swarm: string, forecasts: readonly ToldForecast[]): Promise<void> {
  if (forecasts.length === 0) return;
  const rows = forecasts.map(({ madeAtMs, targetAtMs, median, lower, upper, demand, methods }) => ({
    swarm,
    made_at: new Date(madeAtMs),
    target_at: new Date(targetAtMs),
    median,
    lower,
    upper,
    demand,
    methods: JSON.stringify(methods),
  }));
  await db
    .insertInto("load_forecasts")
    .values(rows)
    .onConflict((conflict) => conflict.columns(["swarm", "target_at", "made_at"]).doNothing())
    .execute();
  const newestMs = Math.max(...forecasts.map(({ madeAtMs }) => madeAtMs));
  const before = new Date(newestMs - LIMITS.foresight.forecastsKeptMs);
  await db.deleteFrom("load_forecasts").where("target_at", "<", before).execute();
}

/** The first word on a step counts. */
export async function saveLoadOutcomes(db: Kysely<Tables>, swarm: string, outcomes: readonly LoadOutcome[]): Promise<void> {
  if (outcomes.length === 0) return;
  const targets = outcomes.map(({ targetAtMs }) => new Date(targetAtMs).toISOString());
  const sessions = outcomes.map((one) => one.sessions);
  await sql`
    update load_forecasts set actual = came.sessions
    from unnest(${targets}::timestamptz[], ${sessions}::float8[]) as came (target_at, sessions)
    where swarm = ${swarm} and load_forecasts.target_at = came.target_at and actual is null`.execute(db);
}

/** Targets from `sinceMs` to before `untilMs` (Unix milliseconds), the latest first and of one target the newest forecast first. */
export async function readLoadForecasts(
  db: Kysely<Tables>,
  query: { swarm: string; sinceMs: number; untilMs: number; limit: number },
): Promise<readonly ToldForecast[]> {
  const rows = await db
    .selectFrom("load_forecasts")
    .selectAll()
    .where("swarm", "=", query.swarm)
    .where("target_at", ">=", new Date(query.sinceMs))
    .where("target_at", "<", new Date(query.untilMs))
    .orderBy("target_at", "desc")
    .orderBy("made_at", "desc")
    .limit(query.limit)
    .execute();
  return rows.map(({ made_at, target_at, median, lower, upper, demand, methods, actual }) => ({
    madeAtMs: made_at.getTime(),
    targetAtMs: target_at.getTime(),
    median,
    lower,
    upper,
    demand,
    methods,
    ...(actual === null ? {} : { actual }),
  }));
}

/** One for each horizon, the nearest first, over targets from `sinceMs` on. */
export async function readLoadScores(
  db: Kysely<Tables>,
  query: { swarm: string; sinceMs: number },
): Promise<readonly HorizonScore[]> {
  const pinball = (level: number, forecast: "lower" | "median" | "upper") => {
    const short = sql`(actual - ${sql.ref(forecast)})`;
    return sql`greatest(${level}::float8 * ${short}, (${level}::float8 - 1) * ${short})`;
  };
  const { rows } = await sql<HorizonRow>`
    select (extract(epoch from target_at - made_at) * 1000)::float8 as "horizonMs", count(actual)::integer as outcomes,
      avg((actual between lower and upper)::integer)::float8 as "coverage90",
      avg((${pinball(0.05, "lower")} + ${pinball(0.5, "median")} + ${pinball(0.95, "upper")}) / 3)::float8 as "pinballLoss",
      avg((actual > demand)::integer)::float8 as "shortShare"
    from load_forecasts where swarm = ${query.swarm} and target_at >= ${new Date(query.sinceMs)}
    group by target_at - made_at order by target_at - made_at`.execute(db);
  return rows.map(({ horizonMs, outcomes, coverage90, pinballLoss, shortShare }) => ({
    horizonMs,
    outcomes,
    coverage90: coverage90 ?? undefined,
    pinballLoss: pinballLoss ?? undefined,
    shortShare: shortShare ?? undefined,
  }));
}

interface HorizonRow {
  readonly horizonMs: number;
  readonly outcomes: number;
  readonly coverage90: number | null;
  readonly pinballLoss: number | null;
  readonly shortShare: number | null;
}
