/** What the load forecasts say, and how they turned out, for Prometheus; read from the database, so that any control worker answers alike. */
import type { Store } from "../../drivers/ports.ts";
import { type HorizonScore, newestOf, type ToldForecast } from "../../models/forecast/track-record.ts";
import { LIMITS } from "../../models/limits.ts";
import { type MetricFamily, textOf } from "../prometheus.ts";

interface SwarmForecasts {
  readonly swarm: string;
  /** The newest of each horizon. */
  readonly newest: readonly ToldForecast[];
  readonly lastOutcome: number | undefined;
  readonly scores: readonly HorizonScore[];
}

export async function forecastMetrics(
  store: Pick<Store, "specs" | "loadForecasts" | "loadScores">,
  nowMs: number,
): Promise<string> {
  const all: SwarmForecasts[] = [];
  for (const { name } of await store.specs()) all.push(await read(store, name, nowMs));
  return textOf(familiesOf(all, nowMs));
}

async function read(store: Pick<Store, "loadForecasts" | "loadScores">, swarm: string, nowMs: number): Promise<SwarmForecasts> {
  const { forecastRowsMax: limit, forecastsScoredMs } = LIMITS.foresight;
  const [rows, scores] = await Promise.all([
    store.loadForecasts({
      swarm,
      sinceMs: nowMs - LIMITS.foresight.forecastNearMs,
      untilMs: nowMs + LIMITS.foresight.forecastNearMs,
      limit,
    }),
    store.loadScores({ swarm, sinceMs: nowMs - forecastsScoredMs }),
  ]);
  return { swarm, newest: newestOf(rows), lastOutcome: rows.find(({ actual }) => actual !== undefined)?.actual, scores };
}

function familiesOf(all: readonly SwarmForecasts[], nowMs: number): MetricFamily[] {
  const told = (pick: (forecast: ToldForecast) => readonly (readonly [string, number])[]) =>
    all.flatMap(({ swarm, newest }) =>
      newest.flatMap((forecast) => {
        const horizon = `swarm="${swarm}",horizon="${seconds(forecast.targetAtMs - forecast.madeAtMs)}"`;
        return pick(forecast).map(([label, value]) => [`{${horizon}${label}}`, value] as const);
      }),
    );
  const scored = (pick: (score: HorizonScore) => number | undefined) =>
    all.flatMap(({ swarm, scores }) =>
      scores.map((score) => [`{swarm="${swarm}",horizon="${seconds(score.horizonMs)}"}`, pick(score)] as const),
    );
  const gauge = (name: string, values: MetricFamily["values"]): MetricFamily => {
    return { name: `foreshift_load_${name}`, kind: "gauge", values };
  };
  return [
    gauge(
      "forecast_sessions",
      told(({ lower, median, upper }) => [
        [',quantile="0.05"', lower],
        [',quantile="0.5"', median],
        [',quantile="0.95"', upper],
      ]),
    ),
    gauge(
      "forecast_planned_sessions",
      told(({ demand }) => [["", demand]]),
    ),
    gauge(
      "forecast_method_share",
      told(({ methods }) => Object.entries(methods).map(([name, share]) => [`,method="${name}"`, share])),
    ),
    gauge(
      "forecast_age_seconds",
      all.flatMap(({ swarm, newest: [first] }) =>
        first === undefined ? [] : [[`{swarm="${swarm}"}`, seconds(nowMs - first.madeAtMs)] as const],
      ),
    ),
    gauge(
      "actual_sessions",
      all.map(({ swarm, lastOutcome }) => [`{swarm="${swarm}"}`, lastOutcome]),
    ),
    gauge(
      "forecast_outcomes",
      scored(({ outcomes }) => outcomes),
    ),
    gauge(
      "forecast_coverage90_ratio",
      scored(({ coverage90 }) => coverage90),
    ),
    gauge(
      "forecast_pinball_loss_sessions",
      scored(({ pinballLoss }) => pinballLoss),
    ),
    gauge(
      "forecast_short_ratio",
      scored(({ shortShare }) => shortShare),
    ),
  ];
}

function seconds(ms: number): number {
  return Math.round(ms / 1_000);
}
