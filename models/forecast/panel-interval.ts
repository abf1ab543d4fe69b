/**
 * The 95 % interval of a panel's forecasts, conformal across series: how far off forecasts were in units of what their series' *other* origins
 * let expect at that time of the season. So a series that errs more at noon has a wider noon, and no series is judged by itself.
 */
import { at } from "./numeric.ts";

const INTERVAL = {
  level: 0.95,
  /** A time of the season is known by its own errors and its neighbours' on either side, and this many at the series' mean error. */
  phaseNeighbours: 1,
  priorErrors: 6,
  /** Errors that a width is taken from at least; steps beside it help out. */
  errorsMin: 200,
  /** In units of the expected error, where there is none to learn from: the normal distribution's 95 % over its mean absolute error. */
  widthWithoutPast: 2.46,
} as const;

/** What error to expect of one series, by step ahead. */
export class Spread {
  private readonly residuals: readonly Float64Array[];
  private readonly error: number;
  private readonly season: number;
  /** Errors in this unit are alike across series. */
  readonly scale: number;

  /** `residuals`: for each origin its errors by step; `error`: their mean; `scale`: the season-to-season change. */
  constructor(residuals: readonly Float64Array[], error: number, scale: number, season: number) {
    this.residuals = residuals;
    this.error = error;
    this.scale = scale;
    this.season = season;
  }

  get origins(): number {
    return this.residuals.length;
  }

  residual(origin: number, step: number): number {
    return at(this.residuals[origin] as Float64Array, step);
  }

  /** The expected absolute error at a step, as known without one origin and those that overlap with it most. */
  at(step: number, without: number | undefined): number {
    let sum = 0;
    let count = 0;
    let all = 0;
    let counted = 0;
    this.residuals.forEach((errors, origin) => {
      if (without !== undefined && Math.abs(origin - without) <= 1) return;
      errors.forEach((error, other) => {
        all += Math.abs(error);
        counted += 1;
        const apart = Math.abs((other % this.season) - (step % this.season));
        if (Math.min(apart, this.season - apart) > INTERVAL.phaseNeighbours) return;
        sum += Math.abs(error);
        count += 1;
      });
    });
    const mean = counted === 0 ? this.error : Math.max(all / counted, 1e-9 * this.error);
    return (sum + INTERVAL.priorErrors * mean) / (count + INTERVAL.priorErrors);
  }
}

interface Ratio {
  readonly ratio: number;
  readonly weight: number;
}

/** Half the interval's width for each step, in units of the series' expected error. */
export function widthsOf(spreads: readonly Spread[], horizon: number): Float64Array {
  const byStep = Array.from({ length: horizon }, (_, step) => spreads.flatMap((spread) => ratiosAt(spread, step)));
  return Float64Array.from({ length: horizon }, (_, step) => {
    let reach = 0;
    let near = byStep[step] ?? [];
    while (near.length < INTERVAL.errorsMin && reach < horizon) {
      reach += 1;
      near = byStep.slice(Math.max(0, step - reach), step + reach + 1).flat();
    }
    return near.length === 0 ? INTERVAL.widthWithoutPast : weightedQuantile(near, INTERVAL.level);
  });
}

/** An interval that is off costs in proportion to the series' error, and so it weighs. */
function ratiosAt(spread: Spread, step: number): Ratio[] {
  return Array.from({ length: spread.origins }, (_, origin) => {
    const expected = spread.at(step, origin);
    return {
      ratio: Math.abs(spread.residual(origin, step)) / Math.max(expected, Number.MIN_VALUE),
      weight: spread.scale > 0 ? expected / spread.scale : 0,
    };
  }).filter(({ ratio, weight }) => Number.isFinite(ratio) && Number.isFinite(weight));
}

function weightedQuantile(values: readonly Ratio[], level: number): number {
  const sorted = values.toSorted((one, other) => one.ratio - other.ratio);
  const total = sorted.reduce((sum, { weight }) => sum + weight, 0);
  let sum = 0;
  for (const { ratio, weight } of sorted) {
    sum += weight;
    if (sum >= level * total) return ratio;
  }
  return INTERVAL.widthWithoutPast;
}
