/** Decides from a training table what kind of column each is and what features to make, and makes them. */
import type { ColumnKind, FeatureExtractor, FeaturePlan } from "./features.ts";
import type { Matrix } from "./matrix.ts";
import { fitRegimes } from "./regimes.ts";
import { medianStep, type UnitTable, unitStarts } from "./table.ts";

/** Time scales as shares of the window, and the fewest steps each must span. */
const SCALES_OF_WINDOW = [0.1, 1 / 3, 1] as const;
const SCALE_STEPS_MIN = [2, 5, 12] as const;
/** A column is a level when it changes in fewer than this share of the units, … */
const CONSTANT_UNITS_SHARE_MAX = 0.02;
/** … or when its change is the elapsed time, times one factor, at this share of the rows: a clock or a counter of days. */
const CLOCK_ROWS_SHARE_MIN = 0.9;
const EVENT_ZERO_SHARE_MIN = 0.5;
const EVENT_COUNT_MAX = 1_000;
/** Units that all begin this close to zero, in steps, have their age as time. */
const AGE_STEPS_MAX = 2;

export function planFeatures(table: UnitTable, window: number): FeaturePlan {
  const regimes = fitRegimes(table);
  const step = medianStep(table);
  const [fast, middle, slow] = SCALES_OF_WINDOW.map((share, at) =>
    Math.max(share * window, (SCALE_STEPS_MIN[at] as number) * step),
  );
  const starts = unitStarts(table);
  const timeIsAge = Array.from(starts.subarray(0, table.units)).every(
    (row) => Math.abs(table.time[row] as number) <= AGE_STEPS_MAX * step,
  );
  const kinds = table.columns.map((_, column): ColumnKind => {
    if ((regimes.scales[column] as number) <= 0) return "ignored";
    if (regimes.conditions.includes(column)) return "condition";
    if (regimes.deviations.every((deviations) => (deviations[column] as number) <= 0)) return "ignored";
    return kindOf(table, column, starts);
  });
  return {
    columns: table.columns,
    kinds,
    regimes,
    timeScales: [fast as number, middle as number, slow as number],
    timeIsAge,
    ...(table.startsUnseen === true ? { withoutAge: true } : {}),
  };
}

function kindOf(table: UnitTable, column: number, starts: Int32Array): ColumnKind {
  const width = table.columns.length;
  let zeros = 0;
  let measured = 0;
  let isCount = true;
  let changing = 0;
  for (let unit = 0; unit < table.units; unit++) {
    let first = Number.NaN;
    let changes = false;
    for (let row = starts[unit] as number; row < (starts[unit + 1] as number); row++) {
      const value = table.cells[row * width + column] as number;
      if (!Number.isFinite(value)) continue;
      measured++;
      if (value === 0) zeros++;
      if (!Number.isInteger(value) || value < 0 || value > EVENT_COUNT_MAX) isCount = false;
      if (Number.isNaN(first)) first = value;
      else if (value !== first) changes = true;
    }
    if (changes) changing++;
  }
  if (changing <= CONSTANT_UNITS_SHARE_MAX * table.units) return "level";
  if (isClock(table, column)) return "level";
  return isCount && zeros >= EVENT_ZERO_SHARE_MIN * measured ? "event" : "sensor";
}

function isClock(table: UnitTable, column: number): boolean {
  const width = table.columns.length;
  const slopes: number[] = [];
  for (let row = 1; row < table.rows; row++) {
    if (table.unit[row] !== table.unit[row - 1]) continue;
    const elapsed = (table.time[row] as number) - (table.time[row - 1] as number);
    const change = (table.cells[row * width + column] as number) - (table.cells[(row - 1) * width + column] as number);
    if (elapsed > 0 && Number.isFinite(change)) slopes.push(change / elapsed);
  }
  slopes.sort((a, b) => a - b);
  const usual = slopes[slopes.length >> 1] ?? 0;
  if (usual === 0) return false;
  return (
    slopes.filter((slope) => Math.abs(slope - usual) <= 1e-6 * Math.abs(usual)).length >= CLOCK_ROWS_SHARE_MIN * slopes.length
  );
}

/** The features of every row of a table, each made from the rows of its unit up to it. */
export function featuresOf(table: UnitTable, extractor: FeatureExtractor): Matrix {
  const columns = extractor.names.length;
  const values = new Float32Array(table.rows * columns);
  const width = table.columns.length;
  let state = extractor.start();
  for (let row = 0; row < table.rows; row++) {
    if (row > 0 && table.unit[row] !== table.unit[row - 1]) state = extractor.start();
    extractor.push(state, table.time[row] as number, table.cells, row * width, values, row * columns);
  }
  return { rows: table.rows, columns, values };
}
