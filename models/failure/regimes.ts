/**
 * Operating conditions: where the columns named op* fall into regimes that move the other columns, those are standardised within
 * their regime, so that a change of condition does not look like wear, nor hide it.
 */
import type { UnitTable } from "./table.ts";

export interface Regimes {
  /** Numbers of the condition columns. */
  readonly conditions: readonly number[];
  /** For each regime, mean and standard deviation of every column. */
  readonly means: readonly (readonly number[])[];
  readonly deviations: readonly (readonly number[])[];
  /** Standard deviation of every column over all rows: the scale of distances to a regime. */
  readonly scales: readonly number[];
}

const REGIMES_MAX = 12;
/** Regimes are kept when they explain at least this share of the other columns' variance, … */
const EXPLAINED_MIN = 0.2;
/** … and more are added while each explains at least this much more. */
const EXPLAINED_STEP_MIN = 0.005;
const ROUNDS_MAX = 20;
const SAMPLE_ROWS_MAX = 5_000;
/** A column that varies less than this share of its size within a regime is rounding, not signal. */
const RELATIVE_DEVIATION_MIN = 1e-6;

export function fitRegimes(table: UnitTable): Regimes {
  const conditions = table.columns.map((name, at) => (/^op/i.test(name) ? at : -1)).filter((at) => at >= 0);
  const one = summarise(table, conditions, new Int32Array(table.rows), 1);
  const others = table.columns.map((_, at) => at).filter((at) => !conditions.includes(at) && (one.scales[at] as number) > 0);
  if (conditions.length === 0 || others.length === 0) return one;
  const sample = sampled(table);
  const points = Array.from({ length: sample.rows }, (_, row) => pointOf(sample, row, one));
  let best: readonly number[][] | undefined;
  let explainedBest = EXPLAINED_MIN;
  for (let count = 2; count <= REGIMES_MAX; count++) {
    const centres = cluster(points, count);
    if (centres === undefined) break;
    const regime = Int32Array.from(points, (point) => nearest(point, centres));
    const explained = explainedShare(summarise(sample, conditions, regime, count), regime, others);
    if (explained < explainedBest + (best === undefined ? 0 : EXPLAINED_STEP_MIN * (count - best.length))) continue;
    best = centres;
    explainedBest = explained;
  }
  if (best === undefined) return one;
  const centres = best;
  const regime = Int32Array.from({ length: table.rows }, (_, row) => nearest(pointOf(table, row, one), centres));
  return summarise(table, conditions, regime, centres.length);
}

/**
 * The regime of one row of cells. Where a condition was not measured, the other columns say which regime's means are nearest; with
 * nothing measured at all, the first.
 */
export function regimeOf(regimes: Regimes, cells: ArrayLike<number>, offset: number): number {
  if (regimes.means.length === 1) return 0;
  const isComplete = regimes.conditions.every((column) => Number.isFinite(cells[offset + column]));
  const columns = isComplete ? regimes.conditions : regimes.scales.map((_, at) => at);
  let best = 0;
  let distanceBest = Number.POSITIVE_INFINITY;
  for (const [regime, means] of regimes.means.entries()) {
    let distance = 0;
    for (const column of columns) {
      const scale = regimes.scales[column] as number;
      const value = cells[offset + column] as number;
      if (scale > 0 && Number.isFinite(value)) distance += ((value - (means[column] as number)) / scale) ** 2;
    }
    if (distance >= distanceBest) continue;
    distanceBest = distance;
    best = regime;
  }
  return best;
}

function sampled(table: UnitTable): UnitTable {
  const width = table.columns.length;
  const step = Math.max(1, Math.ceil(table.rows / SAMPLE_ROWS_MAX));
  const rows = Math.ceil(table.rows / step);
  const cells = new Float64Array(rows * width);
  for (let i = 0; i < rows; i++) cells.set(table.cells.subarray(i * step * width, (i * step + 1) * width), i * width);
  return { ...table, rows, cells };
}

/** Lloyd's k-means, from centres that lie farthest apart: the same data give the same regimes. Undefined: fewer distinct points. */
function cluster(points: readonly (readonly number[])[], count: number): number[][] | undefined {
  const width = points[0]?.length ?? 0;
  let centres: number[][] = [[...(points[0] ?? [])]];
  const gaps = new Float64Array(points.length).fill(Number.POSITIVE_INFINITY);
  while (centres.length < count) {
    const newest = centres.at(-1) as number[];
    points.forEach((point, i) => {
      gaps[i] = Math.min(gaps[i] as number, distance(point, newest));
    });
    const farthest = gaps.reduce((held, gap, i) => (gap > (gaps[held] as number) ? i : held), 0);
    if ((gaps[farthest] as number) <= 0) return undefined;
    centres.push([...(points[farthest] as number[])]);
  }
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const sums = centres.map(() => new Float64Array(width + 1));
    for (const point of points) {
      const sum = sums[nearest(point, centres)] as Float64Array;
      for (let at = 0; at < width; at++) sum[at] = (sum[at] as number) + (point[at] as number);
      sum[width] = (sum[width] as number) + 1;
    }
    const moved = centres.map((centre, at) => {
      const sum = sums[at] as Float64Array;
      return sum[width] === 0 ? centre : centre.map((_, i) => (sum[i] as number) / (sum[width] as number));
    });
    const isSettled = moved.every((centre, at) => distance(centre, centres[at] as number[]) < 1e-12);
    centres = moved;
    if (isSettled) break;
  }
  return centres;
}

function pointOf(table: UnitTable, row: number, { conditions, means, scales }: Regimes): number[] {
  return conditions.map((column) => {
    const value = table.cells[row * table.columns.length + column] as number;
    const scale = scales[column] as number;
    return scale > 0 && Number.isFinite(value) ? (value - (means[0]?.[column] as number)) / scale : 0;
  });
}

function distance(a: readonly number[], b: readonly number[]): number {
  let sum = 0;
  for (let at = 0; at < a.length; at++) sum += ((a[at] as number) - (b[at] as number)) ** 2;
  return sum;
}

function nearest(point: readonly number[], centres: readonly (readonly number[])[]): number {
  let best = 0;
  let distanceBest = Number.POSITIVE_INFINITY;
  for (const [at, centre] of centres.entries()) {
    const away = distance(point, centre);
    if (away >= distanceBest) continue;
    distanceBest = away;
    best = at;
  }
  return best;
}

function summarise(table: UnitTable, conditions: readonly number[], regime: Int32Array, count: number): Regimes {
  const width = table.columns.length;
  const all = momentsOf(table, undefined, regime);
  const own = Array.from({ length: count }, (_, at) => momentsOf(table, at, regime));
  const means = own.map(({ mean }) => mean.map((value, at) => (Number.isFinite(value) ? value : (all.mean[at] as number))));
  const deviations = own.map(({ deviation }, r) =>
    deviation.map((value, at) => {
      const size = Math.abs(means[r]?.[at] as number);
      return value > RELATIVE_DEVIATION_MIN * size ? value : 0;
    }),
  );
  const scales = Array.from({ length: width }, (_, at) => {
    const value = all.deviation[at] as number;
    return value > RELATIVE_DEVIATION_MIN * Math.abs(all.mean[at] as number) ? value : 0;
  });
  return { conditions, means: means.map((row) => row.map(orZero)), deviations, scales };
}

function orZero(value: number): number {
  return Number.isFinite(value) ? value : 0;
}

/** Mean and deviation of every column over the rows of one regime, or of all; NaN and 0 where nothing was measured. */
function momentsOf(table: UnitTable, wanted: number | undefined, regime: Int32Array): { mean: number[]; deviation: number[] } {
  const width = table.columns.length;
  const count = new Float64Array(width);
  const mean = new Float64Array(width);
  const squares = new Float64Array(width);
  for (let row = 0; row < table.rows; row++) {
    if (wanted !== undefined && regime[row] !== wanted) continue;
    for (let column = 0; column < width; column++) {
      const value = table.cells[row * width + column] as number;
      if (!Number.isFinite(value)) continue;
      const seen = (count[column] as number) + 1;
      const away = value - (mean[column] as number);
      count[column] = seen;
      mean[column] = (mean[column] as number) + away / seen;
      squares[column] = (squares[column] as number) + away * (value - (mean[column] as number));
    }
  }
  return {
    mean: Array.from(mean, (value, at) => ((count[at] as number) > 0 ? value : Number.NaN)),
    deviation: Array.from(squares, (value, at) => ((count[at] as number) > 1 ? Math.sqrt(value / (count[at] as number)) : 0)),
  };
}

/** Share of the other columns' variance, averaged over them, that knowing the regime takes away; adjusted for their number. */
function explainedShare(regimes: Regimes, regime: Int32Array, others: readonly number[]): number {
  const counts = new Float64Array(regimes.means.length);
  for (const one of regime) counts[one] = (counts[one] as number) + 1;
  const shares = others.map((column) => {
    const within = regimes.deviations.reduce(
      (sum, deviations, at) => sum + (counts[at] as number) * (deviations[column] as number) ** 2,
      0,
    );
    return 1 - within / Math.max(1, regime.length - counts.length) / (regimes.scales[column] as number) ** 2;
  });
  return shares.reduce((sum, share) => sum + share, 0) / shares.length;
}
