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

/** Growth that is younger is looked for over these shares of the window, too short for a line through the noise: a count has little of it. */
const SURGE_SPANS = [1 / 12, 1 / 6, 1 / 3] as const;
/** Standard deviations of what sessions come and go by anyway. */
const SURGE_SIGNIFICANT = 3;
/** A surge goes on: all parts of its span grow but one. A step, such as sessions that two endpoints report while they move, does not. */
const SURGE_PARTS = 4;
/** A lead has three values: two ghosts, a ghost and a launch, two launches. */
const LEAD_ROUNDS = 3;
/** Of a normal distribution: 95 %. */
const Z_95 = 1.645;

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
  const begins = points.findIndex(({ value }) => value > 0);
  const known = points.slice(Math.max(0, begins));
  // That a swarm comes up says nothing of where its sessions are heading.
  if (last.atMs - (known[0]?.atMs ?? last.atMs) < windowMs * SPAN_SHARE) return undefined;
  const growths = [
    lineOf(known, last, windowMs * SPAN_SHARE),
    ...SURGE_SPANS.map((share) => surgeOf(known, last, windowMs * share)),
  ];
  return growths
    .map((growth) => (growth === undefined ? undefined : continued(growth, last, windowMs, leadMs)))
    .reduce(greaterDemand, undefined);
}

/**
 * The same for endpoints that are brought up in turns: `leadOf` says how long before they are needed so many sessions have to be
 * planned for.
 */
export function sessionsAhead(
  points: readonly Point[],
  windowMs: number,
  leadOf: (sessions: number) => number,
): DemandForecast | undefined {
  const last = points.at(-1);
  let ahead = last === undefined ? undefined : sessionTrend(points, windowMs, leadOf(last.value));
  // More sessions need more endpoints, which take longer to bring up.
  for (let round = 0; round < LEAD_ROUNDS && ahead !== undefined; round++) {
    const leadMs = leadOf(ahead.sessionsUpper);
    if (leadMs <= ahead.horizonMs) return ahead;
    ahead = sessionTrend(points, windowMs, leadMs);
  }
  return ahead;
}

/** Sessions that grow, per millisecond, over a span up to the newest point. */
interface Growth {
  /** Where it stands at the newest point. */
  readonly from: number;
  readonly slope: number;
  readonly slopeHigh: number;
  readonly spanMs: number;
}

function continued(growth: Growth, last: Point, windowMs: number, leadMs: number): DemandForecast {
  const { from, slope, slopeHigh, spanMs } = growth;
  const aheadMs = Math.min(leadMs, windowMs, spanMs * EXTRAPOLATION_MAX);
  const at = (rate: number) => Math.max(last.value, from + rate * aheadMs);
  return {
    atMs: last.atMs,
    horizonMs: aheadMs,
    sessionsP50: at(slope),
    sessionsUpper: at(slopeHigh),
    text: `they grow by ${Number((slope * 60_000).toFixed(1))} a minute`,
  };
}

/** A line through the newest `spanMs` that rises for certain. */
function lineOf(points: readonly Point[], last: Point, spanMs: number): Growth | undefined {
  const beginMs = last.atMs - spanMs;
  const trend = trendOf(points.filter(({ atMs }) => atMs > beginMs));
  if (trend === undefined || !(trend.slopeLow > 0) || last.value <= highestBefore(points, beginMs, spanMs)) return undefined;
  return { from: trend.level, ...trend };
}

/** Over the `spanMs` before the span: what was there just then is no growth when it comes back, as when an endpoint's word was late. */
function highestBefore(points: readonly Point[], beginMs: number, spanMs: number): number {
  const before = points.filter(({ atMs }) => atMs <= beginMs && atMs > beginMs - spanMs);
  return before.reduce((most, { value }) => Math.max(most, value), Number.NEGATIVE_INFINITY);
}

/** Growth over the newest `spanMs` that exceeds by far what the time before it lets expect of chance. */
function surgeOf(points: readonly Point[], last: Point, spanMs: number): Growth | undefined {
  const beginMs = last.atMs - spanMs;
  const past = points.filter(({ atMs }) => atMs <= beginMs);
  const before = past.at(-1);
  const first = past[0];
  // Of a shorter past nobody knows what comes and goes.
  if (before === undefined || first === undefined || before.atMs - first.atMs < spanMs) return undefined;
  const grown = last.value - Math.max(before.value, highestBefore(past, beginMs, spanMs));
  const came = past.reduce((sum, { value }, at) => sum + Math.max(0, value - (past[at - 1]?.value ?? value)), 0);
  // As many go as come, by chance, so both add to it; that many came or went at once, as when an endpoint was lost, is no measure of it.
  const chance = (2 * came * spanMs) / (before.atMs - first.atMs);
  if (grown <= SURGE_SIGNIFICANT * Math.sqrt(1 + chance)) return undefined;
  const partMs = (last.atMs - before.atMs) / SURGE_PARTS;
  const ends = Array.from({ length: SURGE_PARTS }, (_, part) => valueAt(points, before.atMs + partMs * (part + 1)));
  const growing = ends.filter((value, part) => value > (ends[part - 1] ?? before.value)).length;
  if (growing < SURGE_PARTS - 1) return undefined;
  const slope = grown / (last.atMs - before.atMs);
  return { from: last.value, slope, slopeHigh: slope + (Z_95 * Math.sqrt(grown + chance)) / spanMs, spanMs };
}

/** What was said last by then. */
function valueAt(points: readonly Point[], atMs: number): number {
  return points.findLast((point) => point.atMs <= atMs + 1)?.value ?? Number.NaN;
}

/** The one that asks for more; of the newer moment, since that is when the other was found to ask for less. */
export function greaterDemand(one: DemandForecast | undefined, other: DemandForecast | undefined): DemandForecast | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  const greater = other.sessionsUpper > one.sessionsUpper ? other : one;
  return { ...greater, atMs: Math.max(one.atMs, other.atMs) };
}
