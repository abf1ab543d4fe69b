/** Faults put into the made-up fleet's telemetry, and how long the health monitor takes to tell them; and what it tells without any. */
import { FleetTelemetry } from "../../backtest/fleet-telemetry.ts";
import { HealthMonitor } from "../../models/health/monitor.ts";
import { LIMITS } from "../../models/limits.ts";

const START_MS = 1_700_000_000_000;
const FLEET = { sessionsMean: 200, probesPerS: 10 };
const FAULTY = "ep-2";

export interface Change {
  readonly series: string;
  /** The value under the fault, so many seconds after it began. */
  readonly of: (value: number, seconds: number) => number;
}

export interface FleetSize {
  readonly endpoints: number;
  readonly seed: number;
}

/** Seconds from the beginning of the fault to its telling, of the endpoint itself; undefined: it was not told in `forS`. */
export function delayS({ endpoints, seed }: FleetSize, change: Change, afterS: number, forS: number): number | undefined {
  const fleet = new FleetTelemetry({ endpoints, seed, ...FLEET });
  const monitor = new HealthMonitor();
  for (let second = 0; second < afterS + forS; second++) {
    const samples: Record<string, Record<string, number>> = {};
    for (const { endpoint, series } of fleet.at(second)) {
      const value = series[change.series];
      const isFaulty = endpoint === FAULTY && second >= afterS && value !== undefined;
      samples[endpoint] = isFaulty ? { ...series, [change.series]: change.of(value, second - afterS) } : { ...series };
    }
    const told = monitor.observe(START_MS + second * 1_000, samples).some((anomaly) => {
      const isStrong = anomaly.severity >= LIMITS.foresight.severityMin;
      return isStrong && anomaly.endpoint === FAULTY && anomaly.scope === "endpoint" && anomaly.metrics.includes(change.series);
    });
    if (told && second >= afterS) return second - afterS;
  }
  return undefined;
}

export interface QuietFigures {
  /** Endpoint times hours. */
  readonly endpointHours: number;
  /** Anomalies told of endpoints alone, and those told of everybody. */
  readonly own: number;
  readonly everybody: number;
  /** Of the former, those in the first ten minutes. */
  readonly early: number;
}

export function tellQuiet({ endpoints, seed }: FleetSize, hours: number): QuietFigures {
  const fleet = new FleetTelemetry({ endpoints, seed, ...FLEET });
  const monitor = new HealthMonitor();
  const told = new Set<string>();
  let [own, everybody, early] = [0, 0, 0];
  for (let second = 0; second < hours * 3_600; second++) {
    const samples = Object.fromEntries(fleet.at(second).map(({ endpoint, series }) => [endpoint, series]));
    for (const { endpoint, scope, severity, sinceMs } of monitor.observe(START_MS + second * 1_000, samples)) {
      const key = `${endpoint} ${scope} ${sinceMs}`;
      if (severity < LIMITS.foresight.severityMin || told.has(key)) continue;
      told.add(key);
      if (scope === "everybody") everybody++;
      else own++;
      if (scope === "endpoint" && second < 600) early++;
    }
  }
  return { endpointHours: endpoints * hours, own, everybody, early };
}
