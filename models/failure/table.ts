/** Observations of units over time: what the failure engine learns from and what it scores. */

/** Rows in the order of unit, then time; each unit's rows are neighbours. */
export interface UnitTable {
  /** Names of the numeric columns, in the order of the cells. */
  readonly columns: readonly string[];
  readonly rows: number;
  /** Row-major: the cell of row r and column c is `cells[r * columns.length + c]`; NaN where nothing was measured. */
  readonly cells: Float64Array;
  /** Number of the row's unit, counted from 0 in the order of the rows. */
  readonly unit: Int32Array;
  readonly units: number;
  /** In any unit of time that grows, the same for `time` and `timeToFailure`. */
  readonly time: Float64Array;
  /** Infinity where the unit does not fail within any window asked. */
  readonly timeToFailure: Float64Array;
  /** The units were there before their first rows, which say nothing of their age. */
  readonly startsUnseen?: boolean;
}

/** First row of each unit, and the number of rows at the end. */
export function unitStarts(table: UnitTable): Int32Array {
  const starts = new Int32Array(table.units + 1).fill(table.rows);
  for (let row = table.rows - 1; row >= 0; row--) starts[table.unit[row] as number] = row;
  return starts;
}

/** 1 where the unit fails within the window. */
export function labelsWithin(table: UnitTable, window: number): Uint8Array {
  return Uint8Array.from(table.timeToFailure, (left) => (left <= window ? 1 : 0));
}

/** Typical time between two observations of a unit: the median over the rows; 1 where no unit has two. */
export function medianStep(table: UnitTable): number {
  const steps: number[] = [];
  for (let row = 1; row < table.rows; row++) {
    if (table.unit[row] !== table.unit[row - 1]) continue;
    const step = (table.time[row] as number) - (table.time[row - 1] as number);
    if (step > 0) steps.push(step);
  }
  steps.sort((a, b) => a - b);
  return steps[steps.length >> 1] ?? 1;
}
