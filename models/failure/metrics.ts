/**
 * How good probabilities of rare events are: ranking, calibration, and what a threshold on them gives. Where weights are given, a row
 * counts that often.
 */

export interface CalibrationBin {
  /** Mean of the probabilities that were said, and how often it came true. */
  readonly said: number;
  readonly observed: number;
  readonly rows: number;
}

/** Rows in descending order of their score; equal scores keep the order of the rows. */
function descending(scores: Float64Array): Int32Array {
  return Int32Array.from(scores.keys()).sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b);
}

interface Step {
  readonly threshold: number;
  readonly found: number;
  readonly alarms: number;
}

/** One step for each distinct score, from the highest down: what a threshold there would find. */
function* sweep(scores: Float64Array, labels: Uint8Array, weights?: Float64Array): Generator<Step> {
  const order = descending(scores);
  let found = 0;
  let alarms = 0;
  for (let i = 0; i < order.length; i++) {
    const row = order[i] as number;
    const weight = weights?.[row] ?? 1;
    found += weight * (labels[row] as number);
    alarms += weight;
    const next = order[i + 1];
    if (next !== undefined && scores[next] === scores[row]) continue;
    yield { threshold: scores[row] as number, found, alarms };
  }
}

/** How many positives there are. */
export function positivesIn(labels: Uint8Array, weights?: Float64Array): number {
  return labels.reduce((sum, label, row) => sum + label * (weights?.[row] ?? 1), 0);
}

/** Average precision: the sum of precision times the step in recall (no interpolation). NaN without any positive. */
export function averagePrecision(scores: Float64Array, labels: Uint8Array, weights?: Float64Array): number {
  const positives = positivesIn(labels, weights);
  let area = 0;
  let before = 0;
  for (const { found, alarms } of sweep(scores, labels, weights)) {
    if (alarms > 0) area += ((found - before) / positives) * (found / alarms);
    before = found;
  }
  return positives === 0 ? Number.NaN : area;
}

/** Area under the receiver's curve: the chance that a positive scores above a negative, ties counted half. */
export function rocAuc(scores: Float64Array, labels: Uint8Array): number {
  const positives = positivesIn(labels);
  const negatives = labels.length - positives;
  let area = 0;
  let found = 0;
  let wrong = 0;
  for (const step of sweep(scores, labels)) {
    const wrongNow = step.alarms - step.found;
    area += ((wrongNow - wrong) * (found + step.found)) / 2;
    found = step.found;
    wrong = wrongNow;
  }
  return positives === 0 || negatives === 0 ? Number.NaN : area / (positives * negatives);
}

/** Mean squared distance of probability and outcome. */
export function brierScore(probabilities: Float64Array, labels: Uint8Array, weights?: Float64Array): number {
  let sum = 0;
  let rows = 0;
  for (let row = 0; row < labels.length; row++) {
    const weight = weights?.[row] ?? 1;
    sum += weight * ((probabilities[row] as number) - (labels[row] as number)) ** 2;
    rows += weight;
  }
  return sum / rows;
}

/** The largest recall that a threshold reaches with at least this precision; 0 when none does. */
export function recallAtPrecision(scores: Float64Array, labels: Uint8Array, precision: number): number {
  const positives = positivesIn(labels);
  let best = 0;
  for (const { found, alarms } of sweep(scores, labels)) if (found / alarms >= precision) best = found / positives;
  return positives === 0 ? Number.NaN : best;
}

/** The threshold with the best F1 (harmonic mean of precision and recall). */
export function bestF1(scores: Float64Array, labels: Uint8Array, weights?: Float64Array): { threshold: number; f1: number } {
  const positives = positivesIn(labels, weights);
  let best = { threshold: 1, f1: 0 };
  for (const { threshold, found, alarms } of sweep(scores, labels, weights)) {
    const f1 = (2 * found) / (alarms + positives);
    if (f1 > best.f1) best = { threshold, f1 };
  }
  return best;
}

/** Bins of equal width over 0..1, empty ones left out. */
export function reliability(
  probabilities: Float64Array,
  labels: Uint8Array,
  bins: number,
  weights?: Float64Array,
): CalibrationBin[] {
  const said = new Float64Array(bins);
  const observed = new Float64Array(bins);
  const rows = new Float64Array(bins);
  for (let row = 0; row < labels.length; row++) {
    const probability = probabilities[row] as number;
    const bin = Math.min(bins - 1, Math.floor(probability * bins));
    const weight = weights?.[row] ?? 1;
    said[bin] = (said[bin] as number) + weight * probability;
    observed[bin] = (observed[bin] as number) + weight * (labels[row] as number);
    rows[bin] = (rows[bin] as number) + weight;
  }
  return Array.from(rows, (count, bin) => ({
    said: (said[bin] as number) / count,
    observed: (observed[bin] as number) / count,
    rows: count,
  })).filter((bin) => bin.rows > 0);
}

/** Expected calibration error: the distance of what was said and what came, weighted by rows. */
export function calibrationError(bins: readonly CalibrationBin[]): number {
  const rows = bins.reduce((sum, bin) => sum + bin.rows, 0);
  return rows === 0 ? Number.NaN : bins.reduce((sum, bin) => sum + Math.abs(bin.said - bin.observed) * bin.rows, 0) / rows;
}
