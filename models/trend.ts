/**
 * When will a metric that creeps reach the level at which users feel it? A robust line through the recent past, continued no further
 * than that past justifies, and the probability that it crosses the level within a window.
 */
import type { Estimate } from "./risk.ts";

export interface Point {
  /** Unix milliseconds, growing. */
  readonly atMs: number;
  readonly value: number;
}

export interface Trend {
  /** Where the line stands at the last point. */
  readonly level: number;
  /**
   * Per millisecond: the Theil-Sen slope, and its 90 % interval by ranks (Sen 1968). Zero where growth is not significant. Where the newer
   * half grows more slowly, its slope: what warms up or fills up slows down, and does not go on as it began.
   */
  readonly slope: number;
  readonly slopeLow: number;
  readonly slopeHigh: number;
  /** Scaled median absolute deviation from the line, in the metric's unit. */
  readonly noise: number;
  readonly spanMs: number;
}

export interface Crossing {
  readonly probability: Estimate;
  readonly trend: Trend;
  /** Until the line meets the level; undefined when it never does. */
  readonly inMs: number | undefined;
}

/** The past is cut into this many pieces, and each counts by its mean: rare events (lost probes) show as a rate. */
const PIECES = 12;
/** With fewer pieces than this there is no telling. */
const PIECES_MIN = 6;
/** Mann-Kendall: standard deviations from "no trend". */
const SIGNIFICANT = 2.6;
/** A line is continued for at most so many times the span it was drawn through. */
const EXTRAPOLATION_MAX = 3;
/** Of a normal distribution: 5 % and 95 %. */
const Z_90 = 1.645;
/** Deviations are never taken to be smaller than this share of the level. */
const NOISE_FLOOR_SHARE = 0.02;
/** A median absolute deviation times this estimates a standard deviation. */
const MAD_SCALE = 1.4826;

/** Undefined for too few points. Finite for finite input; shifting or scaling the values shifts or scales the result. */
export function trendOf(points: readonly Point[]): Trend | undefined {
  const pieces = cut(points);
  const last = pieces.at(-1);
  const first = pieces[0];
  if (pieces.length < PIECES_MIN || first === undefined || last === undefined) return undefined;
  const spanMs = last.atMs - first.atMs;
  const { score, variance } = compare(pieces);
  if (score <= SIGNIFICANT * Math.sqrt(variance)) {
    const level = median(pieces.map(({ value }) => value));
    const noise = MAD_SCALE * median(pieces.map(({ value }) => Math.abs(value - level)));
    return { level, slope: 0, slopeLow: 0, slopeHigh: 0, noise, spanMs };
  }
  const recent = Math.max(0, median(slopesOf(pieces.slice(-Math.ceil(pieces.length / 2)))));
  const slopes = slopesOf(pieces);
  const half = (Z_90 * Math.sqrt(variance)) / 2;
  const middle = slopes.length / 2;
  const at = (rank: number) => slopes[Math.min(slopes.length - 1, Math.max(0, Math.round(rank)))] ?? 0;
  const overall = median(slopes);
  const intercept = median(pieces.map(({ atMs, value }) => value - overall * (atMs - last.atMs)));
  const noise = MAD_SCALE * median(pieces.map(({ atMs, value }) => Math.abs(value - intercept - overall * (atMs - last.atMs))));
  const slope = Math.min(overall, recent);
  return {
    level: intercept,
    slope,
    slopeLow: Math.min(slope, Math.max(0, at(middle - half))),
    slopeHigh: Math.max(slope, at(middle + half)),
    noise,
    spanMs,
  };
}

/** The probability that the metric reaches `threshold` from below within `windowMs`. */
export function crossing(trend: Trend, threshold: number, windowMs: number): Crossing {
  const { level, slope, slopeLow, slopeHigh, noise, spanMs } = trend;
  const aheadMs = Math.min(windowMs, spanMs * EXTRAPOLATION_MAX);
  const floor = Math.abs(threshold) * NOISE_FLOOR_SHARE || Number.MIN_VALUE;
  const slopeDeviation = ((slopeHigh - slopeLow) / (2 * Z_90)) * aheadMs;
  const chance = (rate: number, deviation: number) => normal((level + rate * aheadMs - threshold) / deviation);
  const still = Math.max(noise, floor);
  return {
    probability: {
      value: chance(slope, Math.hypot(still, slopeDeviation)),
      low: Math.min(chance(slopeLow, still), chance(slope, Math.hypot(still, slopeDeviation))),
      high: Math.max(chance(slopeHigh, still), chance(slope, Math.hypot(still, slopeDeviation))),
    },
    trend,
    inMs: slope > 0 && level < threshold ? (threshold - level) / slope : undefined,
  };
}

function cut(points: readonly Point[]): readonly Point[] {
  const first = points[0];
  const last = points.at(-1);
  if (first === undefined || last === undefined || last.atMs <= first.atMs) return [];
  const piecesPerMs = PIECES / (last.atMs - first.atMs);
  const sums = new Float64Array(PIECES);
  const times = new Float64Array(PIECES);
  const counts = new Float64Array(PIECES);
  for (const { atMs, value } of points) {
    if (!Number.isFinite(value)) continue;
    const piece = Math.max(0, Math.min(PIECES - 1, Math.floor((atMs - first.atMs) * piecesPerMs)));
    sums[piece] = (sums[piece] ?? 0) + value;
    times[piece] = (times[piece] ?? 0) + atMs - first.atMs;
    counts[piece] = (counts[piece] ?? 0) + 1;
  }
  const pieces: Point[] = [];
  counts.forEach((count, piece) => {
    if (count === 0) return;
    pieces.push({ atMs: first.atMs + (times[piece] ?? 0) / count, value: (sums[piece] ?? 0) / count });
  });
  return pieces;
}

/** Mann and Kendall's score, with its variance under "no trend", corrected for ties. */
function compare(pieces: readonly Point[]): { score: number; variance: number } {
  const pairs = (count: number) => count * (count - 1) * (2 * count + 5);
  let score = 0;
  let tied = 0;
  for (let index = 0; index < pieces.length; index++) {
    const value = pieces[index]?.value ?? 0;
    let [before, after] = [0, 0];
    for (let other = 0; other < pieces.length; other++) {
      const difference = value - (pieces[other]?.value ?? 0);
      if (other < index) score += Math.sign(difference);
      if (difference === 0 && other < index) before++;
      else if (difference === 0 && other > index) after++;
    }
    // Each group of equal values once, at its first.
    if (before === 0 && after > 0) tied += pairs(after + 1);
  }
  return { score, variance: Math.max(0, pairs(pieces.length) - tied) / 18 };
}

/** Of all pairs, sorted. */
function slopesOf(pieces: readonly Point[]): readonly number[] {
  const slopes: number[] = [];
  for (const [index, later] of pieces.entries()) {
    for (const earlier of pieces.slice(0, index)) slopes.push((later.value - earlier.value) / (later.atMs - earlier.atMs));
  }
  return slopes.sort((a, b) => a - b);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)] ?? 0;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
}

/** Distribution function of the standard normal; Abramowitz and Stegun 26.2.17, absolute error below 7.5e-8. */
export function normal(z: number): number {
  if (!Number.isFinite(z)) return z > 0 ? 1 : 0;
  const t = 1 / (1 + 0.2316419 * Math.abs(z));
  const tail =
    ((((1.330274429 * t - 1.821255978) * t + 1.781477937) * t - 0.356563782) * t + 0.31938153) *
    t *
    Math.exp((-z * z) / 2) *
    (1 / Math.sqrt(2 * Math.PI));
  return z >= 0 ? 1 - tail : tail;
}
