/** Where the level of a short series changed, if it did. */

export interface ChangePoint {
  /** Index of the first value of the new level. */
  readonly index: number;
  readonly before: number;
  readonly after: number;
  /** Difference of the means in standard errors. */
  readonly strength: number;
}

const CHANGE = {
  /** Values on either side, at least. */
  sideMin: 3,
  /** Standard errors: with about a hundred places to split at, and means that are not quite normal. */
  strengthMin: 5,
} as const;

/**
 * The split with the largest two-sample t statistic, undefined where it is within what noise makes (Hawkins 1977). `values` finite, in
 * any unit, oldest first.
 */
export function changePoint(values: readonly number[]): ChangePoint | undefined {
  const count = values.length;
  // Sums of differences from one of the values stay exact where the level is large and the noise is small.
  const origin = values[0] ?? 0;
  const sums = prefixSums(values.map((value) => value - origin));
  const squares = prefixSums(values.map((value) => (value - origin) ** 2));
  let best: ChangePoint | undefined;
  for (let index = CHANGE.sideMin; index <= count - CHANGE.sideMin; index++) {
    const before = (sums[index] ?? 0) / index;
    const after = ((sums[count] ?? 0) - (sums[index] ?? 0)) / (count - index);
    const scatter = Math.max(0, (squares[count] ?? 0) - index * before ** 2 - (count - index) * after ** 2);
    const error = Math.sqrt((scatter / Math.max(1, count - 2)) * (1 / index + 1 / (count - index)));
    const difference = Math.abs(after - before);
    const strength = difference === 0 ? 0 : difference / Math.max(error, difference * 1e-6);
    if (strength < CHANGE.strengthMin || strength <= (best?.strength ?? 0)) continue;
    best = { index, before: before + origin, after: after + origin, strength };
  }
  return best;
}

function prefixSums(values: readonly number[]): readonly number[] {
  const sums = [0];
  for (const value of values) sums.push((sums.at(-1) ?? 0) + value);
  return sums;
}
