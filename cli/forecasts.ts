/** The load forecast of a swarm beside what came, as `swarm get` shows it. */
import type { Store } from "../drivers/ports.ts";
import { leaderOf } from "../models/forecast/forecaster.ts";
import { type HorizonScore, newestOf, type ToldForecast } from "../models/forecast/track-record.ts";
import { LIMITS } from "../models/limits.ts";
import { table } from "./control.ts";

export interface ForecastReport {
  /** The newest of each horizon, the nearest first. */
  readonly newest: readonly ToldForecast[];
  /** The last ones whose time has come, the latest first: of each step the forecast that was made the earliest. */
  readonly past: readonly ToldForecast[];
  readonly scores: readonly HorizonScore[];
}

/** Undefined before anything was forecast. */
export async function forecastReport(
  store: Pick<Store, "loadForecasts" | "loadScores">,
  swarm: string,
  nowMs: number,
): Promise<ForecastReport | undefined> {
  const { forecastsScoredMs, forecastRowsMax: limit, forecastsShown } = LIMITS.foresight;
  const sinceMs = nowMs - forecastsScoredMs;
  const [rows, scores] = await Promise.all([
    store.loadForecasts({ swarm, sinceMs, untilMs: nowMs + LIMITS.foresight.forecastNearMs, limit }),
    store.loadScores({ swarm, sinceMs }),
  ]);
  const newest = newestOf(rows);
  const [nearest] = newest;
  if (nearest === undefined) return undefined;
  // Of one target the rows come the newest forecast first: the last of them was made the earliest.
  const past = rows.filter(
    (row, index) => row.targetAtMs <= nearest.madeAtMs && row.targetAtMs !== rows[index + 1]?.targetAtMs,
  );
  return { newest, past: past.slice(0, forecastsShown), scores };
}

export function forecastsAsText(report: ForecastReport | undefined): string {
  if (report === undefined) return "";
  const { newest, past, scores } = report;
  const lines = ["", "", `Forecast at ${clock(newest[0]?.madeAtMs ?? 0)}Z, sessions:`, table([HEAD, ...newest.map(rowOf)])];
  if (past.length > 0) lines.push("", "What came of earlier ones:", table([HEAD, ...past.map(rowOf)]));
  const known = scores.filter(({ outcomes }) => outcomes > 0);
  if (known.length > 0) lines.push("", "Of the last 7 days:", table([SCORE_HEAD, ...known.map(scoreRow)]));
  return lines.join("\n");
}

const HEAD = ["FOR", "AHEAD", "EXPECTED", "90 % INTERVAL", "PLANNED FOR", "CAME", "MOST BY"];

function rowOf({ madeAtMs, targetAtMs, median, lower, upper, demand, methods, actual }: ToldForecast): string[] {
  const came = actual === undefined ? "-" : `${number(actual)}${actual < lower || actual > upper ? " outside" : ""}`;
  const interval = `${number(lower)} to ${number(upper)}`;
  const leader = leaderOf(methods);
  const most = `${leader} ${Math.round((methods[leader] ?? 0) * 100)} %`;
  return [clock(targetAtMs), minutes(targetAtMs - madeAtMs), number(median), interval, number(demand), came, most];
}

const SCORE_HEAD = ["AHEAD", "OUTCOMES", "INSIDE 90 %", "MEAN PINBALL LOSS", "CAME MORE THAN PLANNED FOR"];

function scoreRow({ horizonMs, outcomes, coverage90, pinballLoss, shortShare }: HorizonScore): string[] {
  const percent = (share: number | undefined) => (share === undefined ? "-" : `${(share * 100).toFixed(1)} %`);
  return [minutes(horizonMs), String(outcomes), percent(coverage90), (pinballLoss ?? 0).toFixed(2), percent(shortShare)];
}

function clock(atMs: number): string {
  return new Date(atMs).toISOString().slice(11, 16);
}

function minutes(ms: number): string {
  return `${Math.round(ms / 60_000)} min`;
}

/** Small loads with a decimal. */
function number(sessions: number): string {
  return sessions < 10 ? sessions.toFixed(1) : String(Math.round(sessions));
}
