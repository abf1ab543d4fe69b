/**
 * One ridge regression from a window of newest values to every step of the horizon, learned from many series at once, each in units of
 * its own season-to-season change and from its window's mean. A series may have coefficients of its own, drawn towards the common ones.
 */
import { at, factor, solveFactored } from "./numeric.ts";

const REGRESSION = {
  /** Seasons of the window: a week and a day, so that the same time a week ago is seen with the day before it. */
  windowSeasons: 8,
  /** Ridge on the common coefficients, as a share of the mean square of an input. */
  commonRidge: 1e-3,
  /** Pull of a series' own coefficients towards the common ones, in the same unit: from nearly its own on. */
  ownRidges: [0.0005, 0.005, 0.05],
  /** A window's unit is at least this share of the season-to-season change. */
  unitMin: 0.1,
  /** Outcomes beyond so many units teach no more than these. */
  changeMax: 5,
} as const;

/** Rows whose products are added at once; `addProducts` is written out for so many. */
const BLOCK_ROWS = 4;

interface Moments {
  readonly inputs: Float64Array;
  readonly outputs: Float64Array;
  rows: number;
}

export class PanelRegression {
  private readonly series: readonly Float64Array[];
  private readonly scales: readonly number[];
  private readonly season: number;
  private readonly window: number;
  private readonly horizon: number;
  private readonly moments: Moments[];
  /** For each series, the target windows up to here are learned. */
  private readonly learned: number[];
  private common: Float64Array;

  /** Learns from all but the last `held` steps of each series. */
  constructor(
    series: readonly Float64Array[],
    scales: readonly number[],
    options: { readonly season: number; readonly horizon: number },
    held: number,
  ) {
    this.series = series;
    this.scales = scales;
    this.horizon = options.horizon;
    this.season = options.season;
    this.window = REGRESSION.windowSeasons * options.season;
    const size = this.window;
    this.moments = series.map(() => ({
      inputs: new Float64Array(size * size),
      outputs: new Float64Array(size * this.horizon),
      rows: 0,
    }));
    this.learned = series.map(() => this.window);
    this.common = new Float64Array(0);
    this.learn(held);
  }

  /** Learns from the held steps as well. */
  learnAll(): void {
    this.learn(0);
  }

  private learn(held: number): void {
    this.series.forEach((_, index) => this.addRows(index, held));
    const size = this.window;
    const total: Moments = { inputs: new Float64Array(size * size), outputs: new Float64Array(size * this.horizon), rows: 0 };
    for (const one of this.moments) {
      addTo(total.inputs, one.inputs);
      addTo(total.outputs, one.outputs);
      total.rows += one.rows;
    }
    this.common = total.rows === 0 ? new Float64Array(0) : this.solve(total, REGRESSION.commonRidge, undefined);
  }

  private addRows(index: number, held: number): void {
    const values = this.series[index] as Float64Array;
    const scale = at(this.scales, index);
    const moments = this.moments[index] as Moments;
    if (!(scale > 0)) return;
    const size = this.window;
    const row = new Float64Array(size);
    const block = new Float64Array(BLOCK_ROWS * (size + this.horizon));
    const last = values.length - held - this.horizon;
    let now = at(this.learned, index);
    for (let filled = 0; now <= last; now++) {
      const { anchor, unit } = this.fillWindow(values, now, scale, row);
      const start = filled * (size + this.horizon);
      block.set(row, start);
      for (let step = 0; step < this.horizon; step++)
        block[start + size + step] = clip((at(values, now + step) - anchor) / unit);
      moments.rows += 1;
      filled += 1;
      if (filled < BLOCK_ROWS && now < last) continue;
      block.fill(0, filled * (size + this.horizon));
      addProducts(moments, block, size, this.horizon);
      filled = 0;
    }
    this.learned[index] = now;
  }

  /** Fills `row` with the window before `now`, newest first, from the newest season's mean and in units of its own deviation from that. */
  private fillWindow(values: Float64Array, now: number, scale: number, row: Float64Array): { anchor: number; unit: number } {
    let anchor = 0;
    for (let lag = 1; lag <= this.season; lag++) anchor += at(values, now - lag) / this.season;
    let squares = 0;
    for (let lag = 1; lag <= this.window; lag++) squares += (at(values, now - lag) - anchor) ** 2;
    const unit = Math.max(Math.sqrt(squares / this.window), REGRESSION.unitMin * scale);
    for (let lag = 0; lag < this.window; lag++) row[lag] = (at(values, now - 1 - lag) - anchor) / unit;
    return { anchor, unit };
  }

  /** The common forecast, and the series' own at each pull; each gives NaN where the past is shorter than the window. */
  racers(index: number): ((values: Float64Array, now: number) => Float64Array)[] {
    const moments = this.moments[index] as Moments;
    const scale = at(this.scales, index);
    const { common } = this;
    const own = REGRESSION.ownRidges.map((ridge) => {
      let solved: Float64Array | undefined;
      return (values: Float64Array, now: number): Float64Array => {
        solved ??= moments.rows === 0 || common.length === 0 ? common : this.solve(moments, ridge, common);
        return this.apply(values, now, scale, solved);
      };
    });
    return [(values, now) => this.apply(values, now, scale, common), ...own];
  }

  private apply(values: Float64Array, now: number, scale: number, coefficients: Float64Array): Float64Array {
    const { window: size, horizon } = this;
    if (coefficients.length === 0 || now < size || !(scale > 0)) return new Float64Array(horizon).fill(Number.NaN);
    const row = new Float64Array(size);
    const { anchor, unit } = this.fillWindow(values, now, scale, row);
    const forecast = new Float64Array(horizon);
    for (let lag = 0; lag < size; lag++) {
      for (let step = 0; step < horizon; step++) {
        forecast[step] = (forecast[step] as number) + (row[lag] as number) * (coefficients[lag * horizon + step] as number);
      }
    }
    return forecast.map((value) => anchor + unit * value);
  }

  /** Coefficients (lag x step) with the least squared error plus `ridge` times their squared distance from `prior`. */
  private solve(moments: Moments, ridge: number, prior: Float64Array | undefined): Float64Array {
    const { window: size, horizon } = this;
    const matrix = mirrored(moments.inputs, size);
    const right = Float64Array.from(moments.outputs);
    let trace = 0;
    for (let lag = 0; lag < size; lag++) trace += at(matrix, lag * size + lag);
    const pull = (ridge * trace) / size + Number.MIN_VALUE;
    for (let lag = 0; lag < size; lag++) matrix[lag * size + lag] = at(matrix, lag * size + lag) + pull;
    if (prior !== undefined)
      for (let place = 0; place < right.length; place++) right[place] = at(right, place) + pull * at(prior, place);
    const lower = factor(matrix, size);
    if (lower === undefined) return prior ?? new Float64Array(0);
    solveFactored(lower, size, right, horizon);
    return right;
  }
}

function clip(value: number): number {
  return Math.min(REGRESSION.changeMax, Math.max(-REGRESSION.changeMax, value));
}

function addTo(sum: Float64Array, added: Float64Array): void {
  for (let place = 0; place < sum.length; place++) sum[place] = (sum[place] as number) + (added[place] as number);
}

/** Adds row' row (lower triangle) and row' output of a block of rows, each followed by its output; four at once spare the memory. */
function addProducts({ inputs, outputs }: Moments, block: Float64Array, size: number, horizon: number): void {
  const width = size + horizon;
  const [second, third, fourth] = [width, 2 * width, 3 * width];
  for (let one = 0; one < size; one++) {
    const first = block[one] as number;
    const next = block[second + one] as number;
    const after = block[third + one] as number;
    const last = block[fourth + one] as number;
    const productAt = (other: number): number =>
      first * (block[other] as number) +
      next * (block[second + other] as number) +
      after * (block[third + other] as number) +
      last * (block[fourth + other] as number);
    const start = one * size;
    for (let other = 0; other <= one; other++) inputs[start + other] = (inputs[start + other] as number) + productAt(other);
    const outputStart = one * horizon;
    for (let step = 0; step < horizon; step++) {
      outputs[outputStart + step] = (outputs[outputStart + step] as number) + productAt(size + step);
    }
  }
}

function mirrored(lower: Float64Array, size: number): Float64Array {
  const full = Float64Array.from(lower);
  for (let row = 0; row < size; row++)
    for (let column = 0; column < row; column++) full[column * size + row] = at(full, row * size + column);
  return full;
}
