/** Units that wear out, made from a seed: two sensors follow the wear, one is noise, one counts errors, a condition moves them all. */
import { Random } from "../../models/failure/random.ts";
import type { UnitTable } from "../../models/failure/table.ts";

export interface WearOptions {
  readonly units: number;
  readonly seed: number;
  /** Whether the sensors say anything of the wear. */
  readonly isTold?: boolean;
  readonly regimes?: number;
  readonly missingShare?: number;
  /** Rows of the shortest life; the longest has twice as many. Wear grows e-fold in a quarter of it. */
  readonly lifeMin?: number;
}

export const WEAR_WINDOW = 20;

export function wearTable({ units, seed, isTold = true, regimes = 3, missingShare = 0, lifeMin = 60 }: WearOptions): UnitTable {
  const random = new Random(seed);
  const columns = ["op1", "heat", "noise", "flow", "errors"];
  const cells: number[] = [];
  const unit: number[] = [];
  const time: number[] = [];
  const timeToFailure: number[] = [];
  for (let one = 0; one < units; one++) {
    // Where nothing tells of the wear, age must not either: failures come at a constant rate.
    const life = isTold ? lifeMin + random.below(lifeMin) : 1 + Math.floor(-80 * Math.log(1 - random.next()));
    const own = random.normal();
    for (let at = 1; at <= life; at++) {
      const wear = isTold ? 4 * Math.exp(((at - life) * 4) / lifeMin) : 0;
      const regime = random.below(regimes);
      const errors = random.next() < (isTold && life - at < lifeMin / 6 ? 0.4 : 0.02) ? 1 : 0;
      const row = [
        regime * 10 + random.normal() * 0.01,
        regime * 50 + own + wear + random.normal(),
        random.normal(),
        100 - regime * 20 - wear + random.normal(),
        errors,
      ];
      cells.push(...row.map((value) => (random.next() < missingShare ? Number.NaN : value)));
      unit.push(one);
      time.push(at);
      timeToFailure.push(life - at);
    }
  }
  return {
    columns,
    rows: unit.length,
    cells: Float64Array.from(cells),
    unit: Int32Array.from(unit),
    units,
    time: Float64Array.from(time),
    timeToFailure: Float64Array.from(timeToFailure),
  };
}

/** The rows that the predicate keeps. */
export function rowsOf(table: UnitTable, keeps: (row: number) => boolean): UnitTable {
  const rows = Int32Array.from({ length: table.rows }, (_, row) => row).filter(keeps);
  const width = table.columns.length;
  const numbers = new Map<number, number>();
  for (const row of rows) numbers.set(table.unit[row] ?? -1, numbers.get(table.unit[row] ?? -1) ?? numbers.size);
  return {
    columns: table.columns,
    rows: rows.length,
    cells: Float64Array.from([...rows].flatMap((row) => [...table.cells.subarray(row * width, (row + 1) * width)])),
    unit: Int32Array.from(rows, (row) => numbers.get(table.unit[row] ?? -1) ?? -1),
    units: numbers.size,
    time: Float64Array.from(rows, (row) => table.time[row] ?? Number.NaN),
    timeToFailure: Float64Array.from(rows, (row) => table.timeToFailure[row] ?? Number.NaN),
  };
}
