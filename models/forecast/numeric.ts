/** Small numeric tools of the forecasts: array access that the compiler trusts, sorted windows, least squares. */

/** The element at an index that the caller knows to be inside the array. */
export function at(values: ArrayLike<number>, index: number): number {
  return values[index] as number;
}

/** How many of the sorted values are at most `value`. */
export function countAtMost(sorted: ArrayLike<number>, length: number, value: number): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at(sorted, middle) <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The quantile of sorted values, linear between neighbours; `level` in 0..1. */
export function quantileOfSorted(sorted: ArrayLike<number>, length: number, level: number): number {
  const place = Math.min(length - 1, Math.max(0, level * (length - 1)));
  const below = Math.floor(place);
  const above = Math.min(length - 1, below + 1);
  return at(sorted, below) + (place - below) * (at(sorted, above) - at(sorted, below));
}

/** The newest `capacity` values, kept in the order they came and sorted. */
export class SortedWindow {
  readonly sorted: Float64Array;
  private readonly capacity: number;
  private arrived: number[] = [];
  length = 0;

  constructor(capacity: number, values: readonly number[] = []) {
    this.capacity = capacity;
    this.sorted = new Float64Array(capacity);
    for (const value of values.slice(-capacity)) this.push(value);
  }

  push(value: number): void {
    if (!Number.isFinite(value)) return;
    if (this.length === this.capacity) this.dropOldest();
    const place = countAtMost(this.sorted, this.length, value);
    this.sorted.copyWithin(place + 1, place, this.length);
    this.sorted[place] = value;
    this.length += 1;
    this.arrived.push(value);
  }

  /** Forgets all but the newest `count`. */
  keepNewest(count: number): void {
    while (this.length > count) this.dropOldest();
  }

  /** Oldest first. */
  values(): number[] {
    return [...this.arrived];
  }

  private dropOldest(): void {
    const oldest = this.arrived.shift();
    if (oldest === undefined) return;
    const place = countAtMost(this.sorted, this.length, oldest) - 1;
    this.sorted.copyWithin(place, place + 1, this.length);
    this.length -= 1;
  }
}

/** The lower Cholesky factor of a symmetric matrix in rows; undefined when the matrix is not positive. */
export function factor(matrix: Float64Array, size: number): Float64Array | undefined {
  const lower = Float64Array.from(matrix);
  for (let row = 0; row < size; row++) {
    for (let column = 0; column <= row; column++) {
      let sum = lower[row * size + column] as number;
      const rowStart = row * size;
      const columnStart = column * size;
      for (let k = 0; k < column; k++) sum -= (lower[rowStart + k] as number) * (lower[columnStart + k] as number);
      if (row !== column) lower[rowStart + column] = sum / (lower[columnStart + column] as number);
      else if (sum > 0) lower[rowStart + row] = Math.sqrt(sum);
      else return undefined;
    }
  }
  return lower;
}

/** Solves for `columns` right sides at once, in place; `right` in rows of that many. */
export function solveFactored(lower: Float64Array, size: number, right: Float64Array, columns: number): void {
  for (let row = 0; row < size; row++) eliminate(lower, size, right, columns, row, 0, row, false);
  for (let row = size - 1; row >= 0; row--) eliminate(lower, size, right, columns, row, row + 1, size, true);
}

function eliminate(
  lower: Float64Array,
  size: number,
  right: Float64Array,
  columns: number,
  row: number,
  from: number,
  to: number,
  transposed: boolean,
): void {
  const start = row * columns;
  for (let k = from; k < to; k++) {
    const share = lower[transposed ? k * size + row : row * size + k] as number;
    const other = k * columns;
    for (let column = 0; column < columns; column++) {
      right[start + column] = (right[start + column] as number) - share * (right[other + column] as number);
    }
  }
  const diagonal = lower[row * size + row] as number;
  for (let column = 0; column < columns; column++) right[start + column] = (right[start + column] as number) / diagonal;
}
