/**
 * From the rows of pieces to what is learned from and what is judged by: weights that leave out what is not known, and a newest stretch of
 * time that no model has seen.
 */
import { FLEET_MINUTE_MS } from "../failure/fleet-table.ts";
import { type Handling, retrainingWeights } from "../failure/labels.ts";
import type { UnitTable } from "../failure/table.ts";
import { LIMITS } from "../limits.ts";
import { counted } from "../words.ts";
import type { Piece } from "./lives.ts";

/** Rows with what each counts; time, time to failure and window in the table's unit. */
export interface TrainingSet {
  readonly table: UnitTable;
  /** 0 where it is not known what came. */
  readonly weights: Float64Array;
}

/**
 * A row counts for as many as its piece was drawn from; for none where the end of its life hid what would have come within the window; and
 * by retrainingWeights where something was done on a prediction. `pieces` are those of the table's units.
 */
export function weighedRows(table: UnitTable, pieces: readonly Piece[], window: number, controlShare: number): Float64Array {
  const handling = pieces.map(({ alarm }): Handling => {
    if (alarm === undefined) return { alarmAt: undefined, isControl: false };
    const { atMs, overAtMs, isControl } = alarm;
    return { alarmAt: atMs / FLEET_MINUTE_MS, overAt: overAtMs / FLEET_MINUTE_MS, isControl };
  });
  // A slice that is switched off stands for nobody else any more.
  const weights = retrainingWeights(table, window, handling, controlShare > 0 ? controlShare : 1);
  const ends = endsOfLives(table, pieces);
  return weights.map((weight, row) => {
    const { life, keptShare } = pieces[table.unit[row] as number] as Piece;
    const isKnown =
      table.timeToFailure[row] !== Number.POSITIVE_INFINITY || (table.time[row] as number) <= (ends.get(life) ?? 0) - window;
    return isKnown ? weight / keptShare : 0;
  });
}

/** The time of each life's last row; Infinity for one that ends in a failure, of which everything before is known. */
function endsOfLives(table: UnitTable, pieces: readonly Piece[]): ReadonlyMap<number, number> {
  const ends = new Map<number, number>();
  for (const [row, unit] of table.unit.entries()) {
    const { life, failedAtMs } = pieces[unit] as Piece;
    const end = failedAtMs === undefined ? (table.time[row] as number) : Number.POSITIVE_INFINITY;
    ends.set(life, Math.max(ends.get(life) ?? Number.NEGATIVE_INFINITY, end));
  }
  return ends;
}

/** Times of the failures that rows within the window before them tell of, in order. */
export function failureTimes({ table, weights }: TrainingSet, window: number): readonly number[] {
  const times = new Map<number, number>();
  for (const [row, left] of table.timeToFailure.entries()) {
    if (left > window || (weights[row] as number) === 0) continue;
    times.set(table.unit[row] as number, (table.time[row] as number) + left);
  }
  return [...times.values()].sort((a, b) => a - b);
}

export interface Unseen {
  /** Rows from here on are judged by, rows a window before are learned from. */
  readonly from: number;
  readonly failures: number;
}

/**
 * Where the newest stretch begins that neither model has seen: before the newest failures, after everything that the champion knew. In words
 * why there is none.
 */
export function unseenSince(
  failures: readonly number[],
  window: number,
  championUntil: number | undefined,
  failuresMin: number,
): Unseen | { readonly tooFew: string } {
  if (failures.length < failuresMin) {
    return {
      tooFew: `telemetry was there before ${counted(failures.length, "failure")}, ${failuresMin} are wanted (foresight.retrain.failuresMin)`,
    };
  }
  const { unseenShare, unseenFailuresMin } = LIMITS.training;
  const wanted = Math.max(unseenFailuresMin, Math.ceil(failures.length * unseenShare));
  const beforeNewest = (failures[Math.max(0, failures.length - wanted)] as number) - window;
  const from = Math.max(beforeNewest, (championUntil ?? Number.NEGATIVE_INFINITY) + window);
  const left = failures.filter((at) => at - window >= from).length;
  if (left >= unseenFailuresMin) return { from, failures: left };
  const what = championUntil === undefined ? "in the newest stretch of time" : "that the model in use has not learned from";
  return {
    tooFew: `there ${left === 1 ? "is" : "are"} only ${counted(left, "failure")} ${what}, ${unseenFailuresMin} are wanted to compare by`,
  };
}

/** The rows that may be learned from: what they are labelled by happened before `from`. */
export function learnedFrom({ table, weights }: TrainingSet, from: number, window: number): TrainingSet {
  const rows = [...table.time.keys()].filter((row) => (table.time[row] as number) <= from - window);
  const width = table.columns.length;
  const numbers = new Map<number, number>();
  for (const row of rows) {
    const unit = table.unit[row] as number;
    if (!numbers.has(unit)) numbers.set(unit, numbers.size);
  }
  const cells = new Float64Array(rows.length * width);
  for (const [at, row] of rows.entries()) cells.set(table.cells.subarray(row * width, (row + 1) * width), at * width);
  return {
    table: {
      ...table,
      rows: rows.length,
      cells,
      unit: Int32Array.from(rows, (row) => numbers.get(table.unit[row] as number) as number),
      units: numbers.size,
      time: Float64Array.from(rows, (row) => table.time[row] as number),
      timeToFailure: Float64Array.from(rows, (row) => table.timeToFailure[row] as number),
    },
    weights: Float64Array.from(rows, (row) => weights[row] as number),
  };
}
