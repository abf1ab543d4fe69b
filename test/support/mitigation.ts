/** A fleet whose failures are acted on by the model that is then trained again on what was left to see. Pure and seeded. */
import { UnitWatch } from "../../models/failure/acting.ts";
import { FeatureExtractor } from "../../models/failure/features.ts";
import type { Handling } from "../../models/failure/labels.ts";
import { type FailureModel, predict } from "../../models/failure/model.ts";
import { featuresOf } from "../../models/failure/plan-features.ts";
import { Random } from "../../models/failure/random.ts";
import { labelsWithin, type UnitTable } from "../../models/failure/table.ts";
import { rowsOf } from "./wear.ts";

export interface Seen {
  /** What was left to see: a unit that was taken out ends at its alarm and is not known to fail. */
  readonly table: UnitTable;
  readonly handling: readonly Handling[];
}

/** One round: every unit is watched by the model and taken out at its first alarm, but for the control slice. */
export function mitigate(table: UnitTable, model: FailureModel, controlShare: number, seed: number): Seen {
  const random = new Random(seed);
  const features = featuresOf(table, new FeatureExtractor(model.plan));
  const handling: Handling[] = [];
  let watch = new UnitWatch(model.window, model.metrics.carriesSignal);
  for (let row = 0; row < table.rows; row++) {
    const unit = table.unit[row] ?? 0;
    if (handling[unit] === undefined) {
      watch = new UnitWatch(model.window, model.metrics.carriesSignal);
      handling[unit] = { alarmAt: undefined, isControl: random.next() < controlShare };
    }
    const time = table.time[row] ?? 0;
    const isActing = watch.look(predict(model, features.values, row * features.columns), time);
    const { alarmAt, isControl } = handling[unit] ?? { alarmAt: undefined, isControl: false };
    if (isActing && alarmAt === undefined) handling[unit] = { alarmAt: time, isControl };
  }
  const isTakenOut = (row: number) => {
    const { alarmAt, isControl } = handling[table.unit[row] ?? 0] ?? { alarmAt: undefined, isControl: false };
    return alarmAt === undefined || isControl ? undefined : alarmAt;
  };
  const timeToFailure = table.timeToFailure.map((left, row) =>
    isTakenOut(row) === undefined ? left : Number.POSITIVE_INFINITY,
  );
  const seen = rowsOf(
    { ...table, timeToFailure },
    (row) => (table.time[row] ?? 0) <= (isTakenOut(row) ?? Number.POSITIVE_INFINITY),
  );
  return { table: seen, handling };
}

/** F1 of the alarms at the model's own threshold, against what really came. */
export function f1Of(model: FailureModel, table: UnitTable): number {
  const features = featuresOf(table, new FeatureExtractor(model.plan));
  const labels = labelsWithin(table, model.window);
  let found = 0;
  let alarms = 0;
  labels.forEach((label, row) => {
    if (predict(model, features.values, row * features.columns).probability < model.metrics.bestF1.threshold) return;
    alarms++;
    found += label;
  });
  return (2 * found) / (alarms + labels.reduce((sum, label) => sum + label, 0));
}

/** Several tables one after the other, their units numbered on. */
export function joined(tables: readonly UnitTable[]): UnitTable {
  let units = 0;
  const numbered = tables.map((table) => {
    const first = units;
    units += table.units;
    return Array.from(table.unit, (unit) => unit + first);
  });
  return {
    columns: tables[0]?.columns ?? [],
    rows: tables.reduce((sum, table) => sum + table.rows, 0),
    cells: Float64Array.from(tables.flatMap((table) => [...table.cells])),
    unit: Int32Array.from(numbered.flat()),
    units,
    time: Float64Array.from(tables.flatMap((table) => [...table.time])),
    timeToFailure: Float64Array.from(tables.flatMap((table) => [...table.timeToFailure])),
  };
}
