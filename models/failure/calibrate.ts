/** From an ensemble's raw score to a probability that comes true as often as it says. */

/** Platt's: probability = 1 / (1 + exp(-(slope * score + offset))). Monotone, so it never changes the ranking. */
export interface Calibration {
  readonly slope: number;
  readonly offset: number;
}

const ROUNDS_MAX = 50;
const SETTLED = 1e-9;
/** A score that ranks backwards is not turned around: it says nothing then. */
const SLOPE_MIN = 1e-6;
const SCORE_MAX = 30;

/**
 * Fits by Newton's method on scores of units the ensemble was not trained on. Platt's targets (n+1)/(n+2) and 1/(n+2) instead of 1 and 0
 * keep it finite where the classes part (J. Platt, "Probabilistic outputs for support vector machines", 1999).
 */
export function fitCalibration(scores: Float64Array, labels: Uint8Array, weights: Float64Array): Calibration {
  let positives = 0;
  let negatives = 0;
  for (let row = 0; row < labels.length; row++) {
    if (labels[row] === 1) positives += weights[row] as number;
    else negatives += weights[row] as number;
  }
  const high = (positives + 1) / (positives + 2);
  const low = 1 / (negatives + 2);
  let slope = 1;
  let offset = 0;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const sums = { a: 0, b: 0, aa: 1e-9, ab: 0, bb: 1e-9 };
    for (let row = 0; row < labels.length; row++) {
      const weight = weights[row] as number;
      const score = bounded(scores[row] as number);
      const said = logistic(slope * score + offset);
      const error = weight * ((labels[row] === 1 ? high : low) - said);
      const curve = weight * Math.max(said * (1 - said), 1e-9);
      sums.a += error * score;
      sums.b += error;
      sums.aa += curve * score * score;
      sums.ab += curve * score;
      sums.bb += curve;
    }
    const determinant = sums.aa * sums.bb - sums.ab * sums.ab;
    if (!(determinant > 1e-12)) break;
    const slopeStep = (sums.a * sums.bb - sums.b * sums.ab) / determinant;
    const offsetStep = (sums.b * sums.aa - sums.a * sums.ab) / determinant;
    slope = Math.max(SLOPE_MIN, slope + limited(slopeStep));
    offset += limited(offsetStep);
    if (Math.abs(slopeStep) + Math.abs(offsetStep) < SETTLED) break;
  }
  return { slope, offset };
}

export function calibrated({ slope, offset }: Calibration, score: number): number {
  return logistic(slope * bounded(score) + offset);
}

export function logistic(value: number): number {
  return 1 / (1 + Math.exp(-value));
}

/** Log-odds of a probability, kept finite. */
export function logit(probability: number): number {
  return bounded(Math.log(probability / (1 - probability)));
}

/** A Newton step never overshoots by more than this, however flat the curve. */
function limited(step: number): number {
  return Math.max(-2, Math.min(2, step));
}

function bounded(score: number): number {
  return Math.max(-SCORE_MAX, Math.min(SCORE_MAX, Number.isNaN(score) ? 0 : score));
}
