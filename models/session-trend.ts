/**
 * The load's short-term forecast: where the sessions of the last minutes are heading. Five-minute steps with a day's course say when a
 * usual rush comes; this one sees a rush that nobody knew of while it builds up.
 */
import type { DemandForecast } from "./scale.ts";
import { type Point, trendOf } from "./trend.ts";

/** A line is continued for at most so many times the span it was drawn through (as in trend.ts). */
const EXTRAPOLATION_MAX = 3;
/** Of the window, the latest past that growth has to show in: what grew once and has stopped is no growth. */
const SPAN_SHARE = 1 / 3;
/** What an endpoint said last holds for so long; then it is gone, and so are its sessions, or others have them. */
const WORD_HOLDS_MS = 3_000;

/** The sum of the endpoints' series, at each moment at which one of them has a value. */
export function sumOfSessions(series: readonly (readonly Point[])[]): readonly Point[] {
  const moments = [...new Set(series.flatMap((points) => points.map(({ atMs }) => atMs)))].sort((a, b) => a - b);
  const newest = series.map(() => -1);
  return moments.map((atMs) => {
    const value = series.reduce((sum, points, at) => {
      let index = newest[at] ?? -1;
      while ((points[index + 1]?.atMs ?? Number.POSITIVE_INFINITY) <= atMs) index += 1;
      newest[at] = index;
      const point = points[index];
      return sum + (point !== undefined && atMs - point.atMs <= WORD_HOLDS_MS ? point.value : 0);
    }, 0);
    return { atMs, value };
  });
}

/**
 * Sessions of the swarm `leadMs` from the newest point, the time in which a machine that is asked for at once would serve. Undefined
 * unless they grow significantly. `windowMs`: how far ahead predictions look, and the measure of the past that counts.
 */
export function sessionTrend(points: readonly Point[], windowMs: number, leadMs: number): DemandForecast | undefined {
  const last = points.at(-1);
  if (last === undefined) return undefined;
  const trend = trendOf(points.filter(({ atMs }) => atMs > last.atMs - windowMs * SPAN_SHARE));
  if (trend === undefined || !(trend.slopeLow > 0)) return undefined;
  const aheadMs = Math.min(leadMs, windowMs, trend.spanMs * EXTRAPOLATION_MAX);
  const at = (slope: number) => Math.max(last.value, trend.level + slope * aheadMs);
  const perMinute = Number((trend.slope * 60_000).toFixed(1));
  return {
    atMs: last.atMs,
    horizonMs: aheadMs,
    sessionsP50: at(trend.slope),
    sessionsUpper: at(trend.slopeHigh),
    text: `they grow by ${perMinute} a minute`,
  };
}

/** The one that asks for more; of the newer moment, since that is when the other was found to ask for less. */
export function greaterDemand(one: DemandForecast | undefined, other: DemandForecast | undefined): DemandForecast | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  const greater = other.sessionsUpper > one.sessionsUpper ? other : one;
  return { ...greater, atMs: Math.max(one.atMs, other.atMs) };
}
