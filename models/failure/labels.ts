/**
 * Labels where one's own actions hide the outcome. A unit that was taken out before its failure is no proof that it would have lasted:
 * its last window is left out of the training. What is left out is made up for by a small control slice, units with an alarm on which
 * nothing drastic was done (their weight is lowered later, no session suffers): they stand for all units with an alarm.
 */
import type { UnitTable } from "./table.ts";

/** What was done about one unit. Times in the unit of the table's. */
export interface Handling {
  /** When the alarm was raised; undefined: never. */
  readonly alarmAt: number | undefined;
  /** From when on nothing is hidden any more, where the unit went on after it; absent: the alarm stood to the unit's end. */
  readonly overAt?: number | undefined;
  /** Whether the unit was in the control slice, so that its outcome was seen. */
  readonly isControl: boolean;
}

/** Share of the units with an alarm that are in the control slice. */
export const CONTROL_SHARE_DEFAULT = 0.1;

/**
 * Weights of the rows for training: 0 where the outcome was hidden; for a control unit, from one window before its alarm on, as many as it
 * stands for; else 1. Rows more than a window before the action are certain: the unit was still there.
 */
export function retrainingWeights(
  table: UnitTable,
  window: number,
  handling: readonly Handling[],
  controlShare: number,
): Float64Array {
  const standsFor = unitsPerControl(table, handling, controlShare);
  return Float64Array.from(table.unit, (unit, row) => {
    const { alarmAt, overAt, isControl } = handling[unit] ?? { alarmAt: undefined, overAt: undefined, isControl: false };
    const time = table.time[row] as number;
    if (alarmAt === undefined || time <= alarmAt - window || time > (overAt ?? Number.POSITIVE_INFINITY)) return 1;
    return isControl ? standsFor : 0;
  });
}

/**
 * Units with an alarm for each in the control slice, as they came to be and not as the share has it: a slice that happened to be small or
 * large would else raise or lower all probabilities (Hajek's ratio instead of Horvitz and Thompson's). The share itself counts as one control
 * unit more, so that few of them do not stand for everything. An alarm before a unit's first row is another unit's.
 */
function unitsPerControl(table: UnitTable, handling: readonly Handling[], controlShare: number): number {
  if (controlShare >= 1) return 1;
  const startOf = new Map<number, number>();
  for (const [row, unit] of table.unit.entries()) if (!startOf.has(unit)) startOf.set(unit, table.time[row] as number);
  const alarmed = handling.filter(({ alarmAt }, unit) => alarmAt !== undefined && alarmAt >= (startOf.get(unit) ?? 0));
  const controls = alarmed.filter(({ isControl }) => isControl).length;
  return (alarmed.length + 1 / controlShare) / (controls + 1);
}
