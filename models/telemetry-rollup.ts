/**
 * What stays of a time when its single values go: how many there were, and how they lay. And the running statistics of a series.
 */

export interface Rollup {
  readonly count: number;
  readonly mean: number;
  readonly min: number;
  readonly max: number;
  readonly p95: number;
}

/** Undefined of nothing. The 95th percentile is interpolated between order statistics (type 7 of Hyndman and Fan, 1996). */
export function rollup(values: readonly number[]): Rollup | undefined {
  const sorted = values.toSorted((one, other) => one - other);
  const [min, max] = [sorted[0], sorted.at(-1)];
  if (min === undefined || max === undefined) return undefined;
  const mean = sorted.reduce((sum, value) => sum + value, 0) / sorted.length;
  // Rounding may carry the mean of equal values past them.
  return { count: sorted.length, mean: Math.min(max, Math.max(min, mean)), min, max, p95: quantile(sorted, 0.95) };
}

function quantile(sorted: readonly number[], share: number): number {
  const position = (sorted.length - 1) * share;
  const low = sorted[Math.floor(position)] ?? Number.NaN;
  const high = sorted[Math.ceil(position)] ?? low;
  return low + (high - low) * (position - Math.floor(position));
}

export interface RunningStatistics {
  /** Values so far, all of them. */
  readonly count: number;
  readonly last: number;
  readonly lastAtMs: number;
  /** Of what is not forgotten yet. */
  readonly weight: number;
  readonly mean: number;
  readonly variance: number;
  readonly min: number;
  readonly max: number;
}

/**
 * Takes one more value: mean and variance with weights that halve every `halfLifeMs` (West, "Updating Mean and Variance Estimates",
 * 1979), so that after a while they say how the series has been lately. Values that come out of order count with full weight.
 */
export function learn(
  known: RunningStatistics | undefined,
  value: number,
  atMs: number,
  halfLifeMs: number,
): RunningStatistics {
  if (known === undefined)
    return { count: 1, last: value, lastAtMs: atMs, weight: 1, mean: value, variance: 0, min: value, max: value };
  const kept = known.weight * 2 ** (-Math.max(0, atMs - known.lastAtMs) / halfLifeMs);
  const weight = kept + 1;
  const difference = value - known.mean;
  const newer = atMs >= known.lastAtMs;
  return {
    count: known.count + 1,
    last: newer ? value : known.last,
    lastAtMs: Math.max(atMs, known.lastAtMs),
    weight,
    mean: known.mean + difference / weight,
    variance: (kept / weight) * (known.variance + (difference * difference) / weight),
    min: Math.min(known.min, value),
    max: Math.max(known.max, value),
  };
}
