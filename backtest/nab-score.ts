/**
 * Score of the Numenta Anomaly Benchmark (Lavin and Ahmad 2015, arXiv:1510.03336; constants as in its published scorer): the first
 * alarm in a window counts, the earlier the more; an alarm outside costs, the less the closer it follows a window; 0 is a detector
 * that never alarms, 100 one that alarms at the first row of every window.
 */

/** First and last row of an anomaly, both inside it. Windows are in order and do not overlap. */
export interface Window {
  readonly first: number;
  readonly last: number;
}

export interface ScoredSeries {
  readonly rows: number;
  readonly windows: readonly Window[];
  /** Rows at which there was an alarm, in order. */
  readonly alarms: readonly number[];
}

/** What each kind of outcome weighs. */
export interface Profile {
  readonly truePositive: number;
  readonly falsePositive: number;
  readonly falseNegative: number;
}

export const PROFILES = {
  standard: { truePositive: 1, falsePositive: 0.11, falseNegative: 1 },
  lowFp: { truePositive: 1, falsePositive: 0.22, falseNegative: 1 },
  lowFn: { truePositive: 1, falsePositive: 0.11, falseNegative: 2 },
} as const satisfies Record<string, Profile>;

const PROBATION = { share: 0.15, rowsMax: 750 } as const;
/** Steepness of the sigmoid, and the widths behind a window from which a false alarm costs all. */
const SIGMOID = { slope: 5, widthsBehindMax: 3 } as const;

/** Rows at the start of a series that are for learning and not scored. */
export function probationRows(rows: number): number {
  return Math.min(Math.floor(PROBATION.share * rows), PROBATION.rowsMax);
}

/** Windows with at least one row that is scored: the others cannot be detected. */
export function scoredWindows({ rows, windows }: Pick<ScoredSeries, "rows" | "windows">): readonly Window[] {
  return windows.filter(({ last }) => last >= probationRows(rows));
}

/** Alarms that are scored. */
export function scoredAlarms({ rows, alarms }: Pick<ScoredSeries, "rows" | "alarms">): readonly number[] {
  return alarms.filter((row) => row >= probationRows(rows));
}

/** 0..100 over all series together (below 0 for worse than silence); undefined where no window can be detected. */
export function nabScore(series: readonly ScoredSeries[], profile: Profile): number | undefined {
  const windows = series.reduce((sum, each) => sum + scoredWindows(each).length, 0);
  if (windows === 0) return undefined;
  const raw = series.reduce((sum, each) => sum + rawScore(each, profile), 0);
  const silent = -profile.falseNegative * windows;
  const perfect = profile.truePositive * windows;
  return (100 * (raw - silent)) / (perfect - silent);
}

/** The sum before it is normalised: what windows earn or miss, less what false alarms cost. */
export function rawScore(series: ScoredSeries, profile: Profile): number {
  const earned = new Map<Window, number>(scoredWindows(series).map((window) => [window, -profile.falseNegative]));
  let cost = 0;
  for (const row of scoredAlarms(series)) {
    const window = series.windows.find(({ first, last }) => row >= first && row <= last);
    if (window === undefined) cost += profile.falsePositive * sigmoid(widthsBehind(series.windows, row));
    else earned.set(window, Math.max(earned.get(window) ?? 0, profile.truePositive * earliness(window, row)));
  }
  return cost + [...earned.values()].reduce((sum, each) => sum + each, 0);
}

/** 1 at the first row of a window, near 0 at its last. */
function earliness({ first, last }: Window, row: number): number {
  return sigmoid(-(last - row + 1) / (last - first + 1)) / sigmoid(-1);
}

/** How far a row lies behind the last window before it, in widths of that window. */
function widthsBehind(windows: readonly Window[], row: number): number {
  const before = windows.findLast(({ last }) => last < row);
  if (before === undefined) return SIGMOID.widthsBehindMax;
  return (row - before.last) / Math.max(1, before.last - before.first);
}

/** From 1 (far before) over 0 to -1 (far behind). */
function sigmoid(position: number): number {
  if (position >= SIGMOID.widthsBehindMax) return -1;
  return 2 / (1 + Math.exp(SIGMOID.slope * position)) - 1;
}
