/**
 * Loss that grows by a factor, as errors do on a link whose signal fades: a log-linear fit through shares of which most are zero at first,
 * and the probability that it reaches a level. A straight line sees the same growth later, when it is steep.
 */
import type { Estimate } from "./risk.ts";
import { normal, type Point } from "./trend.ts";

export interface LossGrowth {
  /** Share that the fit has at the newest point. */
  readonly level: number;
  /** By which it grows in a second: 1.1 is a tenth more. */
  readonly factorPerS: number;
  /** That it reaches the threshold within the time looked ahead; `low` at the lower 90 % bound of the forecast. */
  readonly probability: Estimate;
  /** Until the fit meets the threshold; undefined when it never does. */
  readonly inMs: number | undefined;
}

/** A fit needs so many points, and losses at so many moments: one bad second is no growth. */
const POINTS_MIN = 10;
const LOSSES_MIN = 5;
/** A step that explains the points better by more than this, in log likelihood, is what it was: where loss has come to stay, none grows. */
const STEP_BETTER = 4;
/** Growth by a factor is continued for no longer than it was seen. */
const EXTRAPOLATION_MAX = 1;
/** Standard deviations above "no growth" from which growth is taken for such: it is looked for with each new point. */
const SIGNIFICANT = 3.5;
const ITERATIONS_MAX = 30;
const CONVERGED = 1e-6;
/** Of a normal distribution: 5 %. */
const Z_90 = 1.645;
/** Uncertainty that no number of packets takes away: a link's decay is no exact exponential. As a ratio. */
const MODEL_DEVIATION = Math.log(1.3);

/**
 * Quasi-Poisson regression with a log link (McCullagh and Nelder 1989, 9.2.4): the variance is proportional to the mean, by a factor that
 * the residuals tell, so that the packets behind each share need not be known. The highest share is left out. Undefined where nothing grows.
 */
export function lossGrowth(points: readonly Point[], threshold: number, windowMs: number): LossGrowth | undefined {
  const last = points.at(-1);
  const first = points[0];
  if (last === undefined || first === undefined || points.length < POINTS_MIN) return undefined;
  const used = withoutHighest(points.filter(({ value }) => Number.isFinite(value) && value >= 0));
  if (used.filter(({ value }) => value > 0).length < LOSSES_MIN) return undefined;
  const scaled = used.map(({ atMs, value }) => ({ x: (atMs - last.atMs) / 1_000, y: value }));
  const fit = fitted(scaled);
  if (fit === undefined || fit.slope <= SIGNIFICANT * Math.sqrt(fit.variance.slope)) return undefined;
  if (isStep(scaled, fit)) return undefined;
  const aheadS = Math.min(windowMs, (last.atMs - first.atMs) * EXTRAPOLATION_MAX) / 1_000;
  const deviation = (x: number) => {
    const { level, slope, both } = fit.variance;
    return Math.sqrt(MODEL_DEVIATION ** 2 + Math.max(0, level + 2 * x * both + x * x * slope));
  };
  const distance = fit.level + fit.slope * aheadS - Math.log(threshold);
  const chance = normal(distance / deviation(aheadS));
  const low = normal((distance - Z_90 * deviation(aheadS)) / MODEL_DEVIATION);
  const toGo = (Math.log(threshold) - fit.level) / fit.slope;
  return {
    level: Math.exp(fit.level),
    factorPerS: Math.exp(fit.slope),
    probability: {
      value: chance,
      low: Math.min(low, chance),
      high: Math.max(chance, normal((distance + Z_90 * deviation(aheadS)) / MODEL_DEVIATION)),
    },
    inMs: toGo > 0 ? toGo * 1_000 : undefined,
  };
}

function withoutHighest(points: readonly Point[]): readonly Point[] {
  const highest = points.reduce((best, { value }, at) => (value > (points[best]?.value ?? 0) ? at : best), 0);
  return points.filter((_, at) => at !== highest);
}

/** Whether one level before some moment and another one after it explain the points better than the growth does. */
function isStep(points: readonly { x: number; y: number }[], { level, slope, dispersion }: Fit): boolean {
  const growth = points.reduce((sum, { x, y }) => sum + y * (level + slope * x) - Math.exp(level + slope * x), 0);
  const all = points.reduce((sum, { y }) => sum + y, 0);
  let before = 0;
  let best = Number.NEGATIVE_INFINITY;
  for (const [at, { y }] of points.entries()) {
    best = Math.max(best, levelLikelihood(before, at) + levelLikelihood(all - before, points.length - at));
    before += y;
  }
  return best - growth > STEP_BETTER * dispersion;
}

/** Of points of this sum around their mean, as of a Poisson distribution and up to what does not depend on it. */
function levelLikelihood(sum: number, points: number): number {
  return sum > 0 ? sum * Math.log(sum / points) - sum : 0;
}

interface Fit {
  /** Logarithm of the share at x = 0, and its growth per unit of x. */
  readonly level: number;
  readonly slope: number;
  /** Variance over mean: what a share of one is worth in packets. */
  readonly dispersion: number;
  readonly variance: { readonly level: number; readonly slope: number; readonly both: number };
}

/** By iteratively reweighted least squares. Undefined when it does not settle. */
function fitted(points: readonly { x: number; y: number }[]): Fit | undefined {
  const mean = points.reduce((sum, { y }) => sum + y, 0) / points.length;
  let [level, slope] = [Math.log(mean), 0];
  for (let round = 0; round < ITERATIONS_MAX; round += 1) {
    let [w, wx, wxx, wz, wxz] = [0, 0, 0, 0, 0];
    for (const { x, y } of points) {
      const eta = level + slope * x;
      const weight = Math.exp(eta);
      const z = eta + (y - weight) / weight;
      w += weight;
      wx += weight * x;
      wxx += weight * x * x;
      wz += weight * z;
      wxz += weight * x * z;
    }
    const determinant = w * wxx - wx * wx;
    if (!(determinant > 0)) return undefined;
    const next = { slope: (w * wxz - wx * wz) / determinant, level: (wxx * wz - wx * wxz) / determinant };
    const moved = Math.abs(next.level - level) + Math.abs(next.slope - slope);
    [level, slope] = [next.level, next.slope];
    if (!Number.isFinite(moved)) return undefined;
    if (moved > CONVERGED) continue;
    const pearson = points.reduce(
      (sum, { x, y }) => sum + (y - Math.exp(level + slope * x)) ** 2 / Math.exp(level + slope * x),
      0,
    );
    const dispersion = pearson / Math.max(1, points.length - 2);
    return {
      level,
      slope,
      dispersion,
      variance: {
        level: (dispersion * wxx) / determinant,
        slope: (dispersion * w) / determinant,
        both: (-dispersion * wx) / determinant,
      },
    };
  }
  return undefined;
}
