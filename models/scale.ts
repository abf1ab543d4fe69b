/**
 * How many endpoints a swarm should have: what the sessions of this moment need, or what the forecast says they will need by the time a
 * machine that is asked for now serves. A forecast only ever adds; what is too many goes slowly, one by one, by the budget.
 */
import type { SwarmSpec } from "./swarm-spec.ts";

/** Sessions of the whole swarm, as forecast. */
export interface DemandForecast {
  /** Unix milliseconds of the newest measurement in it. */
  readonly atMs: number;
  readonly horizonMs: number;
  /** The middle, and the upper quantile that capacity is planned for, of the most there will be up to the horizon. */
  readonly sessionsP50: number;
  readonly sessionsUpper: number;
  /** How it was made, for a person. */
  readonly text: string;
}

export interface Scale {
  /** What is there to be, of what the sessions of now ask for alone. */
  readonly floor: number;
  /** With the forecast; never below the floor. */
  readonly wanted: number;
  readonly reason: string;
}

/** Between `endpoints.count` and `endpoints.countMax` of the swarm file; without the latter a swarm keeps its count. */
export function scaleFor(spec: SwarmSpec, sessions: number, forecast: DemandForecast | undefined, now: number): Scale {
  const { count, countMax = count, capacitySessions } = spec.endpoints;
  const { overloadThreshold, mode, demandStaleMs } = spec.foresight;
  const usable = Math.max(1, capacitySessions * overloadThreshold);
  const within = (needed: number) => Math.min(Math.max(count, countMax), Math.max(count, Math.ceil(needed / usable)));
  const floor = within(sessions);
  const isFresh = forecast !== undefined && now - forecast.atMs <= demandStaleMs && Number.isFinite(forecast.sessionsUpper);
  const foreseen = mode !== "off" && isFresh ? within(forecast.sessionsUpper) : floor;
  const load = `${sessions} sessions, of which one endpoint is to carry ${Math.floor(usable)} at most`;
  if (foreseen <= floor) return { floor, wanted: floor, reason: load };
  const minutes = Math.round((forecast?.horizonMs ?? 0) / 60_000);
  const reason = `${load}; up to ${Math.ceil(forecast?.sessionsUpper ?? 0)} are expected within ${minutes} min (${forecast?.text ?? ""})`;
  return { floor, wanted: foreseen, reason };
}
