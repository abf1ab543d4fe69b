/**
 * Forecasts of a panel of seasonal series some seasons ahead, each with its 95 % interval. One linear model from the newest values to the whole
 * horizon is learned from all series together, and bent for each towards its own past; simple seasonal forecasts race with them. What each
 * was worth is seen on the end of the series' own past, and the racers are weighed by it.
 */
import { at } from "./numeric.ts";
import { Spread, widthsOf } from "./panel-interval.ts";
import { PanelRegression } from "./panel-regression.ts";

export interface PanelOptions {
  /** Steps of a season, e.g. 24 for hours. */
  readonly season: number;
  /** Steps ahead. */
  readonly horizon: number;
}

/** In units of the series, one value a step ahead. */
export interface PanelForecast {
  readonly points: Float64Array;
  readonly lower: Float64Array;
  readonly upper: Float64Array;
}

const PANEL = {
  /** Rolling origins at the end of each series that weigh the racers, one season apart. */
  origins: 7,
  /** A racer's weight goes with its mean absolute error to this power. */
  errorPower: 3,
  /** A racer with less than this of the best one's weight is not asked. */
  weightMin: 0.03,
  /** Multiples of a season after which a series may repeat: a week of days. */
  longSeasons: 7,
} as const;

type Racer = (values: Float64Array, now: number) => Float64Array;

interface Validated {
  readonly values: Float64Array;
  readonly scale: number;
  /** Share of each racer. */
  readonly weights: readonly number[];
  /** Mean absolute error of the weighted forecast at the rolling origins, in units of the series. */
  readonly error: number;
  /** For each origin, its errors by step ahead, as they would have been then. */
  readonly residuals: readonly Float64Array[];
}

/** Forecasts each series from its end. Series: evenly spaced finite values, oldest first, of any lengths from two seasons on. */
export function forecastPanel(series: readonly Float64Array[], options: PanelOptions): PanelForecast[] {
  const scales = series.map((values) => seasonalScale(values, options.season));
  const held = options.horizon + (PANEL.origins - 1) * options.season;
  const regression = new PanelRegression(series, scales, options, held);
  const validated = series.map((values, index) => validate(values, scales[index] as number, index, regression, options));
  regression.learnAll();
  const widths = widthsOf(
    validated.map(({ residuals, error, scale }) => new Spread(residuals, error, scale, options.season)),
    options.horizon,
  );
  return validated.map((one, index) => {
    const racers = [...simpleRacers(options), ...regression.racers(index)];
    const points = weigh(racers, one.weights, one.values, one.values.length, options.horizon);
    const spread = new Spread(one.residuals, one.error, one.scale, options.season);
    const half = points.map((_, step) => at(widths, step) * spread.at(step, undefined));
    const lower = points.map((point, step) => point - at(half, step));
    const upper = points.map((point, step) => point + at(half, step));
    return { points, lower, upper };
  });
}

/** Mean absolute change from one season to the next: the error that M4 scales by. */
export function seasonalScale(values: Float64Array, season: number): number {
  let sum = 0;
  for (let step = season; step < values.length; step++) sum += Math.abs(at(values, step) - at(values, step - season));
  return values.length > season ? sum / (values.length - season) : 0;
}

function simpleRacers({ season, horizon }: PanelOptions): Racer[] {
  return [1, PANEL.longSeasons].map((seasons) => (values, now) => repeatPast(values, now, season * seasons, horizon));
}

/** The last cycle once more. */
function repeatPast(values: Float64Array, now: number, cycle: number, horizon: number): Float64Array {
  const back = now >= cycle ? cycle : Math.max(1, now);
  return Float64Array.from({ length: horizon }, (_, step) => at(values, now - back + (step % back)));
}

function validate(
  values: Float64Array,
  scale: number,
  index: number,
  regression: PanelRegression,
  options: PanelOptions,
): Validated {
  const racers = [...simpleRacers(options), ...regression.racers(index)];
  const origins = originsOf(values.length, options);
  const forecasts = racers.map((racer) => origins.map((now) => racer(values, now)));
  const errors = forecasts.map((byOrigin) => origins.map((now, origin) => meanError(values, now, byOrigin[origin])));
  const weights = weightsOf(errors.map(mean), scale);
  const mixed = origins.map((_, origin) =>
    weighed(
      forecasts.map((one) => one[origin] as Float64Array),
      weightsWithout(errors, origin, scale) ?? weights,
    ),
  );
  const residuals = origins.map((now, origin) => {
    return (mixed[origin] as Float64Array).map((point, step) => at(values, now + step) - point);
  });
  const count = origins.length * options.horizon;
  const total = residuals.reduce((sum, one) => sum + one.reduce((inner, error) => inner + Math.abs(error), 0), 0);
  return {
    values,
    scale,
    weights,
    error: count === 0 ? scale : Math.max(total / count, 1e-9 * scale, Number.MIN_VALUE),
    residuals,
  };
}

function originsOf(length: number, { season, horizon }: PanelOptions): number[] {
  const origins: number[] = [];
  for (let now = length - horizon; now >= 2 * season && origins.length < PANEL.origins; now -= season) origins.push(now);
  return origins;
}

function meanError(values: Float64Array, now: number, forecast: Float64Array | undefined): number {
  return mean(Array.from(forecast ?? [], (point, step) => Math.abs(at(values, now + step) - point)));
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? Number.NaN : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * The shares that would have been taken at an origin whose outcome, and that of the origins which overlap with it most, is not known. Errors
 * of shares that were chosen by those same errors would be too small. Undefined when no other origin is left.
 */
function weightsWithout(errors: readonly (readonly number[])[], without: number, scale: number): number[] | undefined {
  const others = errors.map((byOrigin) => mean(byOrigin.filter((_, origin) => Math.abs(origin - without) > 1)));
  return others.some(Number.isFinite) ? weightsOf(others, scale) : undefined;
}

function weightsOf(errors: readonly number[], scale: number): number[] {
  const least = 1e-6 * scale + Number.MIN_VALUE;
  const best = Math.max(least, Math.min(...errors.filter((error) => Number.isFinite(error))));
  const raw = errors.map((error) => {
    const weight = Number.isFinite(error) ? (best / Math.max(error, least)) ** PANEL.errorPower : 0;
    return weight < PANEL.weightMin ? 0 : weight;
  });
  const total = raw.reduce((sum, weight) => sum + weight, 0);
  return total > 0 ? raw.map((weight) => weight / total) : raw.map((_, index) => (index === 0 ? 1 : 0));
}

function weigh(
  racers: readonly Racer[],
  weights: readonly number[],
  values: Float64Array,
  now: number,
  horizon: number,
): Float64Array {
  const forecasts = racers.map((racer, index) => (at(weights, index) > 0 ? racer(values, now) : new Float64Array(horizon)));
  return weighed(forecasts, weights);
}

function weighed(forecasts: readonly Float64Array[], weights: readonly number[]): Float64Array {
  const sum = new Float64Array(forecasts[0]?.length ?? 0);
  forecasts.forEach((forecast, index) => {
    // A racer without weight may not know.
    if (at(weights, index) === 0) return;
    for (let step = 0; step < sum.length; step++) sum[step] = at(sum, step) + at(weights, index) * at(forecast, step);
  });
  return sum;
}
