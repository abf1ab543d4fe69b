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
  /** The same up to the longest horizon that is forecast: what is there is kept for it. Absent from older forecasts. */
  readonly sessionsUpperLongest?: number | undefined;
  /** How it was made, for a person. */
  readonly text: string;
}

export interface Scale {
  /** What is there to be, of what the sessions of now ask for alone. */
  readonly floor: number;
  /** With the forecast; never below the floor. */
  readonly wanted: number;
  /** What is not given up even if more than is wanted: where predictions act, what is expected within the hour. Never below `wanted` then. */
  readonly kept: number;
  readonly reason: string;
}

/** Between `endpoints.count` and `endpoints.countMax` of the swarm file; without the latter a swarm keeps its count. */
export function scaleFor(spec: SwarmSpec, sessions: number, forecast: DemandForecast | undefined, now: number): Scale {
  const { mode } = spec.foresight;
  const floor = endpointsFor(spec, sessions);
  const asks = mode !== "off" && demandIsFresh(spec, forecast, now);
  const foreseen = asks ? Math.max(floor, endpointsFor(spec, forecast.sessionsUpper)) : floor;
  const longest = asks ? endpointsFor(spec, forecast.sessionsUpperLongest ?? forecast.sessionsUpper) : floor;
  // Where predictions only advise, they do not keep machines either.
  const kept = mode === "act" ? Math.max(foreseen, longest) : floor;
  const load = `${sessions} sessions, of which one endpoint is to carry ${Math.floor(usableSessions(spec))} at most`;
  if (foreseen <= floor) return { floor, wanted: floor, kept, reason: load };
  const minutes = Math.round((forecast?.horizonMs ?? 0) / 60_000);
  const reason = `${load}; up to ${Math.ceil(forecast?.sessionsUpper ?? 0)} are expected within ${minutes} min (${forecast?.text ?? ""})`;
  return { floor, wanted: foreseen, kept, reason };
}

/** Endpoints that carry so many sessions, within the swarm file's bounds. */
export function endpointsFor(spec: SwarmSpec, sessions: number): number {
  const { count, countMax = count } = spec.endpoints;
  const needed = Number.isNaN(sessions) ? 0 : Math.ceil(sessions / usableSessions(spec));
  return Math.min(Math.max(count, countMax), Math.max(count, needed));
}

/** Whether it says anything of the present. */
export function demandIsFresh(
  { foresight }: SwarmSpec,
  forecast: DemandForecast | undefined,
  now: number,
): forecast is DemandForecast {
  if (forecast === undefined) return false;
  return now - forecast.atMs <= foresight.demandStaleMs && Number.isFinite(forecast.sessionsUpper);
}

/** Sessions one endpoint is to carry, some of its capacity left free. */
export function usableSessions(spec: SwarmSpec): number {
  return Math.max(1, spec.endpoints.capacitySessions * spec.foresight.overloadThreshold);
}
