/** `backtest forecast`: forecasts of seasonal series scored as the M4 competition did, beside the seasonal naive method. */
import { forecastPanel, type PanelForecast, seasonalScale } from "../models/forecast/panel.ts";
import { badFile, numberOf, readTable, type Table } from "./table.ts";

export interface ForecastBacktestOptions {
  readonly train: string;
  readonly test: string;
  /** Steps of a season, and steps ahead. */
  readonly period: number;
  readonly horizon: number;
}

/** Means over the series. sMAPE in percent, coverage 0..1. */
interface Scores {
  readonly mase: number;
  readonly smape: number;
  readonly msis: number;
  readonly coverage95: number;
}

export interface ForecastReport extends Scores {
  /** CPU time. */
  readonly msPerSeries: number;
  readonly series: number;
  readonly seasonalNaive: Scores;
}

/** The interval's miss rate in M4's interval score. */
const MISS_RATE = 0.05;
/** Standard deviations of a normal distribution between which 95 % lie on either side. */
const NORMAL_95 = 1.959964;

interface Series {
  readonly id: string;
  readonly past: Float64Array;
  readonly future: Float64Array;
}

/** Throws INVALID_FIELD for tables that are not in M4's layout (a row a series: id, values) or do not belong together. */
export async function backtestForecast(options: ForecastBacktestOptions): Promise<ForecastReport> {
  const series = join(await readTable(options.train), await readTable(options.test), options);
  const before = process.cpuUsage();
  const forecasts = forecastPanel(
    series.map((one) => one.past),
    { season: options.period, horizon: options.horizon },
  );
  const { user, system } = process.cpuUsage(before);
  const msPerSeries = (user + system) / 1_000 / series.length;
  const naive = series.map((one) => seasonalNaive(one.past, options));
  return {
    ...scoresOf(series, forecasts, options.period),
    msPerSeries,
    series: series.length,
    seasonalNaive: scoresOf(series, naive, options.period),
  };
}

function join(train: Table, test: Table, { period, horizon }: ForecastBacktestOptions): Series[] {
  const futures = new Map(test.rows.map((cells, row) => [cells[0] ?? "", row]));
  if (train.rows.length === 0) throw badFile(train.file, "it has no series; expected a row a series: id, values");
  return train.rows.map((cells, row) => {
    const id = cells[0] ?? "";
    const other = futures.get(id);
    if (other === undefined) throw badFile(test.file, `series ${id} of the training table is not in it`);
    const past = valuesOf(train, row);
    const future = valuesOf(test, other);
    if (past.length < 2 * period + 1) {
      throw badFile(
        train.file,
        `series ${id} has ${past.length} values, expected at least ${2 * period + 1} (two periods and one)`,
      );
    }
    if (future.length < horizon)
      throw badFile(test.file, `series ${id} has ${future.length} values, expected ${horizon} or more`);
    return { id, past, future: future.slice(0, horizon) };
  });
}

/** The row's values; a cell left empty inside it is bridged, those after the last value are padding. */
function valuesOf(table: Table, row: number): Float64Array {
  const values: number[] = [];
  for (let column = 1; column < table.columns.length; column++) values.push(numberOf(table, row, column));
  while (values.length > 0 && Number.isNaN(values.at(-1))) values.pop();
  const first = values.findIndex((value) => !Number.isNaN(value));
  const trimmed = first < 0 ? [] : values.slice(first);
  let last = 0;
  return Float64Array.from(trimmed, (value) => (last = Number.isNaN(value) ? last : value));
}

/** The last season repeated; the interval from its errors within the past, wider with each season ahead, as M4's benchmark has it. */
function seasonalNaive(past: Float64Array, { period, horizon }: ForecastBacktestOptions): PanelForecast {
  const points = Float64Array.from({ length: horizon }, (_, step) => past[past.length - period + (step % period)] as number);
  let squares = 0;
  for (let step = period; step < past.length; step++)
    squares += ((past[step] as number) - (past[step - period] as number)) ** 2;
  const deviation = Math.sqrt(squares / Math.max(1, past.length - period));
  const wide = points.map((_, step) => NORMAL_95 * deviation * Math.sqrt(1 + Math.floor(step / period)));
  return {
    points,
    lower: points.map((point, step) => point - (wide[step] as number)),
    upper: points.map((point, step) => point + (wide[step] as number)),
  };
}

/** MASE, sMAPE and MSIS as M4 defines them (Makridakis, Spiliotis, Assimakopoulos 2020); a series that never changes has no MASE. */
function scoresOf(series: readonly Series[], forecasts: readonly PanelForecast[], period: number): Scores {
  const scores = series.map(({ past, future }, index) => scoreOne(past, future, forecasts[index] as PanelForecast, period));
  const mean = (name: keyof Scores): number => {
    const finite = scores.map((one) => one[name]).filter((value) => Number.isFinite(value));
    return finite.reduce((sum, value) => sum + value, 0) / Math.max(1, finite.length);
  };
  return { mase: mean("mase"), smape: mean("smape"), msis: mean("msis"), coverage95: mean("coverage95") };
}

function scoreOne(past: Float64Array, future: Float64Array, { points, lower, upper }: PanelForecast, period: number): Scores {
  const scale = seasonalScale(past, period);
  const sums = { error: 0, relative: 0, interval: 0, inside: 0 };
  future.forEach((value, step) => {
    const point = points[step] as number;
    const low = lower[step] as number;
    const high = upper[step] as number;
    const error = Math.abs(value - point);
    sums.error += error;
    sums.relative += error === 0 ? 0 : (200 * error) / (Math.abs(value) + Math.abs(point));
    sums.interval += high - low + (2 / MISS_RATE) * (Math.max(0, low - value) + Math.max(0, value - high));
    sums.inside += value >= low && value <= high ? 1 : 0;
  });
  const steps = future.length;
  return {
    mase: sums.error / steps / scale,
    smape: sums.relative / steps,
    msis: sums.interval / steps / scale,
    coverage95: sums.inside / steps,
  };
}
