/** Rows of features, and the same cut into at most 255 bins a column for the histogram trainers. */

/** Row-major: the value of row r and column c is `values[r * columns + c]`. Every value is finite. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float32Array;
}

/** Column-major: the bin of row r and column c is `codes[c * rows + r]`, and it is the number of cuts at or below the value. */
export interface Bins {
  readonly rows: number;
  readonly columns: number;
  readonly codes: Uint8Array;
  /** Ascending, for each column; a row whose value is below `cuts[c][k]` has a code of k or less. */
  readonly cuts: readonly Float64Array[];
}

/** Bins are quantiles of a sample of this many rows: sorting more changes no cut that matters. */
const SAMPLE_ROWS_MAX = 20_000;

/**
 * Cuts between quantiles, midway between two values that occur, so that rows beside a cut stay on their side under rounding.
 * `codes` may be given, so that they lie in memory that threads share.
 */
export function binned(
  matrix: Matrix,
  binsMax: number,
  codes: Uint8Array = new Uint8Array(matrix.rows * matrix.columns),
): Bins {
  const { rows, columns, values } = matrix;
  const step = Math.max(1, Math.ceil(rows / SAMPLE_ROWS_MAX));
  const sample = new Float32Array(Math.ceil(rows / step));
  const cuts: Float64Array[] = [];
  for (let column = 0; column < columns; column++) {
    for (let i = 0; i < sample.length; i++) sample[i] = values[i * step * columns + column] as number;
    const own = quantileCuts(sample.slice().sort(), binsMax);
    for (let row = 0; row < rows; row++) codes[column * rows + row] = codeOf(values[row * columns + column] as number, own);
    cuts.push(own);
  }
  return { rows, columns, codes, cuts };
}

function quantileCuts(sorted: Float32Array, binsMax: number): Float64Array {
  const cuts: number[] = [];
  for (let bin = 1; bin < binsMax; bin++) {
    const at = Math.floor((bin * sorted.length) / binsMax);
    const value = sorted[at] as number;
    const last = cuts.at(-1);
    if (last !== undefined && value < last) continue;
    const above = firstAbove(sorted, value);
    if (above === undefined) break;
    const cut = (value + above) / 2;
    if (last === undefined || cut > last) cuts.push(cut);
  }
  return Float64Array.from(cuts);
}

function firstAbove(sorted: Float32Array, value: number): number | undefined {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as number) > value) high = middle;
    else low = middle + 1;
  }
  return sorted[low];
}

function codeOf(value: number, cuts: Float64Array): number {
  let low = 0;
  let high = cuts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((cuts[middle] as number) <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}
