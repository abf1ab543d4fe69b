/**
 * `foreshift backtest anomaly`: how well anomalies are found in labelled series, online and with one configuration for all of them.
 */
import { ALARMS, AlarmGate, SeriesDetector } from "../models/health/detector.ts";
import { type LabelledSeries, readCorpus } from "./anomaly-corpus.ts";
import { nabScore, PROFILES, probationRows, type ScoredSeries, scoredAlarms, scoredWindows } from "./nab-score.ts";

export interface AnomalyReport {
  /** Scores of the benchmark's three profiles, all with the one fixed threshold; null where no file has an anomaly. */
  readonly standard: number | null;
  readonly lowFp: number | null;
  readonly lowFn: number | null;
  /** Share of the alarms inside a window, share of the windows with an alarm. */
  readonly eventPrecision: number | null;
  readonly eventRecall: number | null;
  /** From the first row of a window to its first alarm, over the windows that were found. */
  readonly delayRowsMean: number | null;
  readonly delayMinutesMean: number | null;
  readonly alarmsPerDay: number;
  /** Of CPU time, in the detector alone. */
  readonly microsecondsPerPoint: number;
  readonly files: number;
  readonly rows: number;
  readonly windows: number;
  /** Of the surprise, the same for all files and profiles. */
  readonly threshold: number;
  readonly series: Record<string, SeriesReport>;
}

interface SeriesReport {
  readonly standard: number | null;
  readonly windows: number;
  readonly found: number;
  readonly falseAlarms: number;
}

/** Runs the detector over every series in `directory` and scores it. */
export async function backtestAnomaly(directory: string): Promise<AnomalyReport> {
  const corpus = await readCorpus(directory);
  const before = process.cpuUsage();
  const scores = corpus.map(surprises);
  const { user, system } = process.cpuUsage(before);
  const rows = corpus.reduce((sum, { values }) => sum + values.length, 0);
  const alarmed = corpus.map((series, index) => scored(series, scores[index] ?? []));
  return {
    standard: rounded(nabScore(alarmed, PROFILES.standard)),
    lowFp: rounded(nabScore(alarmed, PROFILES.lowFp)),
    lowFn: rounded(nabScore(alarmed, PROFILES.lowFn)),
    ...events(corpus, alarmed),
    microsecondsPerPoint: rounded((user + system) / Math.max(1, rows)) ?? 0,
    files: corpus.length,
    rows,
    windows: alarmed.reduce((sum, each) => sum + scoredWindows(each).length, 0),
    threshold: ALARMS.threshold,
    series: Object.fromEntries(corpus.map(({ name }, index) => [name, seriesReport(alarmed[index])])),
  };
}

/** A surprise for each value, from those before it alone. */
function surprises({ values, atMs }: LabelledSeries): readonly number[] {
  const detector = new SeriesDetector();
  return values.map((value, row) => detector.observe(value, atMs[row] ?? Number.NaN));
}

/** The alarms of a series: none in the rows that are for learning. */
function scored({ values, windows }: LabelledSeries, scores: readonly number[]): ScoredSeries {
  const gate = new AlarmGate();
  const learning = probationRows(values.length);
  const alarms = scores.flatMap((score, row) => (row >= learning && gate.observe(score) ? [row] : []));
  return { rows: values.length, windows, alarms };
}

function events(corpus: readonly LabelledSeries[], scoredSeries: readonly ScoredSeries[]) {
  let alarms = 0;
  let trueAlarms = 0;
  let windows = 0;
  let days = 0;
  const delays: { rows: number; minutes: number }[] = [];
  scoredSeries.forEach((each, index) => {
    const raised = scoredAlarms(each);
    alarms += raised.length;
    const atMs = corpus[index]?.atMs ?? [];
    days += ((atMs.at(-1) ?? 0) - (atMs[probationRows(each.rows)] ?? 0)) / 86_400_000;
    for (const { first, last } of scoredWindows(each)) {
      const inside = raised.filter((row) => row >= first && row <= last);
      windows++;
      trueAlarms += inside.length;
      const [earliest] = inside;
      if (earliest === undefined) continue;
      delays.push({ rows: earliest - first, minutes: ((atMs[earliest] ?? 0) - (atMs[first] ?? 0)) / 60_000 });
    }
  });
  return {
    eventPrecision: rounded(ratio(trueAlarms, alarms)),
    eventRecall: rounded(ratio(delays.length, windows)),
    delayRowsMean: rounded(ratio(sumOf(delays.map(({ rows }) => rows)), delays.length)),
    delayMinutesMean: rounded(ratio(sumOf(delays.map(({ minutes }) => minutes)), delays.length)),
    alarmsPerDay: rounded(ratio(alarms, days)) ?? 0,
  };
}

function seriesReport(series: ScoredSeries | undefined): SeriesReport {
  if (series === undefined) return { standard: null, windows: 0, found: 0, falseAlarms: 0 };
  const windows = scoredWindows(series);
  const alarms = scoredAlarms(series);
  const inside = ({ first, last }: { first: number; last: number }) =>
    alarms.filter((row) => row >= first && row <= last).length;
  return {
    standard: rounded(nabScore([series], PROFILES.standard)),
    windows: windows.length,
    found: windows.filter((window) => inside(window) > 0).length,
    falseAlarms: alarms.length - sumOf(windows.map(inside)),
  };
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

function ratio(part: number, whole: number): number | undefined {
  return whole > 0 ? part / whole : undefined;
}

/** Three digits after the point; null for what is not known. */
function rounded(value: number | undefined): number | null {
  return value === undefined ? null : Math.round(value * 1000) / 1000;
}
