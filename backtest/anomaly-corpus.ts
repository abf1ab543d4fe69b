/** Labelled series as the anomaly backtest reads them: the layout of the Numenta Anomaly Benchmark, or tables of value and label. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileTrouble, messageOf } from "../models/errors.ts";
import type { Window } from "./nab-score.ts";
import { badFile, numberOf, readTable, type Table } from "./table.ts";

export interface LabelledSeries {
  readonly name: string;
  /** Unix milliseconds, and the value then; NaN where it is missing. */
  readonly atMs: readonly number[];
  readonly values: readonly number[];
  readonly windows: readonly Window[];
}

/** Tables of value and label have no times: their rows are one minute apart. */
const ROW_MS = 60_000;
/**
 * A run of labelled rows becomes a window from its first row on, as long as the benchmark would make it (a tenth of the file shared
 * by its anomalies) but at most this, and at least as long as the run. No row before the anomaly is in it: nothing is earned by luck.
 */
const WINDOW = { shareOfRows: 0.1, rowsMax: 120 } as const;

/** Reads every series in `directory`; throws INVALID_FIELD naming the file and what is wrong with it. */
export async function readCorpus(directory: string): Promise<readonly LabelledSeries[]> {
  const labels = join(directory, "labels", "combined_windows.json");
  const series = existsSync(labels) ? await readBenchmark(directory, labels) : await readLabelled(directory);
  if (series.length > 0) return series;
  const expected = "*/NAME.csv with labels/combined_windows.json, or *.csv.gz with the columns value,label";
  throw badFile(directory, `no series is in it; expected ${expected}`);
}

async function readBenchmark(directory: string, labelsFile: string): Promise<readonly LabelledSeries[]> {
  const labels = await readWindows(labelsFile);
  const series: LabelledSeries[] = [];
  for (const folder of await list(directory)) {
    if (!folder.isDirectory() || folder.name === "labels") continue;
    for (const file of await list(join(directory, folder.name))) {
      if (!/\.csv(\.gz)?$/.test(file.name)) continue;
      const name = `${folder.name}/${file.name.replace(/\.gz$/, "")}`;
      series.push(withWindows(name, await readTable(join(directory, folder.name, file.name)), labels, labelsFile));
    }
  }
  return series;
}

function withWindows(name: string, table: Table, labels: Map<string, readonly [string, string][]>, labelsFile: string) {
  const intervals = labels.get(name);
  if (intervals === undefined)
    throw badFile(labelsFile, `it has no entry for ${name}; an empty list says that nothing is wrong there`);
  const at = columnOf(table, "timestamp");
  const value = columnOf(table, "value");
  const atMs = table.rows.map((cells, row) => {
    const parsed = timeOf(cells[at] ?? "");
    if (Number.isFinite(parsed)) return parsed;
    throw badFile(table.file, `line ${row + 2}, column timestamp: ${JSON.stringify(cells[at])} is not a time`);
  });
  const windows = intervals
    .map(([from, to]) => ({ first: atMs.findIndex((time) => time >= timeOf(from)), last: lastRow(atMs, timeOf(to)) }))
    .filter(({ first, last }) => first >= 0 && last >= first)
    .sort((one, other) => one.first - other.first);
  return { name, atMs, values: table.rows.map((_, row) => numberOf(table, row, value)), windows };
}

/** The first row at `time`, else the last before it: the clock of some files goes back an hour. */
function lastRow(atMs: readonly number[], time: number): number {
  const exact = atMs.indexOf(time);
  return exact >= 0 ? exact : atMs.findLastIndex((each) => each <= time);
}

/** Times without a zone are taken as UTC. */
function timeOf(text: string): number {
  return Date.parse(/(?:Z|[+-]\d\d:?\d\d)$/.test(text) ? text : `${text.trim().replace(" ", "T")}Z`);
}

async function readWindows(file: string): Promise<Map<string, readonly [string, string][]>> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(file, "utf8"));
  } catch (thrown) {
    throw badFile(file, `it is not JSON: ${messageOf(thrown)}`);
  }
  if (typeof parsed !== "object" || parsed === null) throw badFile(file, "expected an object of file names");
  return new Map(Object.entries(parsed).map(([name, intervals]) => [name, intervalsOf(file, name, intervals)]));
}

function intervalsOf(file: string, name: string, intervals: unknown): readonly [string, string][] {
  const wrong = badFile(file, `${name}: expected a list of [first time, last time]`);
  if (!Array.isArray(intervals)) throw wrong;
  return intervals.map((interval: unknown) => {
    if (!Array.isArray(interval) || interval.length !== 2) throw wrong;
    const [from, to]: unknown[] = interval;
    if (typeof from !== "string" || typeof to !== "string") throw wrong;
    if (timeOf(from) <= timeOf(to)) return [from, to];
    throw badFile(file, `${name}: ${JSON.stringify(from)} to ${JSON.stringify(to)} is not an interval of time`);
  });
}

async function readLabelled(directory: string): Promise<readonly LabelledSeries[]> {
  const series: LabelledSeries[] = [];
  for (const file of await list(directory)) {
    if (!/\.csv(\.gz)?$/.test(file.name)) continue;
    series.push(labelled(await readTable(join(directory, file.name))));
  }
  return series;
}

function labelled(table: Table): LabelledSeries {
  const value = columnOf(table, "value");
  const label = columnOf(table, "label");
  const values = table.rows.map((_, row) => numberOf(table, row, value));
  const anomalous = table.rows.map((cells, row) => {
    const cell = Number(cells[label] === "" ? Number.NaN : cells[label]);
    if (cell === 0 || cell === 1) return cell === 1;
    throw badFile(table.file, `line ${row + 2}, column label: expected 0 or 1, got ${JSON.stringify(cells[label])}`);
  });
  const atMs = values.map((_, row) => row * ROW_MS);
  return { name: basename(table.file), atMs, values, windows: windowsOfLabels(anomalous) };
}

/** Windows of the runs of labelled rows; runs whose windows touch are one. */
export function windowsOfLabels(anomalous: readonly boolean[]): readonly Window[] {
  const starts = anomalous.flatMap((is, row) => (is && anomalous[row - 1] !== true ? [row] : []));
  const length = Math.max(1, Math.min(WINDOW.rowsMax, Math.floor((WINDOW.shareOfRows * anomalous.length) / starts.length)));
  const windows: { first: number; last: number }[] = [];
  for (const first of starts) {
    const end = anomalous.indexOf(false, first);
    const runLast = (end < 0 ? anomalous.length : end) - 1;
    const last = Math.min(anomalous.length - 1, Math.max(runLast, first + length - 1));
    const before = windows.at(-1);
    if (before !== undefined && first <= before.last + 1) before.last = Math.max(before.last, last);
    else windows.push({ first, last });
  }
  return windows;
}

function columnOf(table: Table, name: string): number {
  const column = table.columns.indexOf(name);
  if (column >= 0) return column;
  throw badFile(table.file, `it has no column ${JSON.stringify(name)}; its columns are ${table.columns.join(", ")}`);
}

async function list(directory: string) {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    return entries.sort((one, other) => (one.name < other.name ? -1 : 1));
  } catch (thrown) {
    throw badFile(directory, fileTrouble(thrown));
  }
}
