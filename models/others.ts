/** What an endpoint shows beyond what all others show: a rise that everybody shares is nobody's own, and moving sessions cures it nowhere. */
import type { Point } from "./trend.ts";

/** The others are compared by their means over so long. */
const CELL_MS = 5_000;
/** Their level of the moment is the middle of so many newest cells. */
const CELLS_NOW = 2;

/**
 * The own values, those of the past raised by what the others' median has grown by since then; the same list where there are no others or
 * where their median has not grown. All in the order of time.
 */
export function beyondOthers(own: readonly Point[], others: readonly (readonly Point[])[]): readonly Point[] {
  const first = own[0];
  const last = own.at(-1);
  if (first === undefined || last === undefined || others.length === 0) return own;
  const from = Math.floor(first.atMs / CELL_MS);
  const cells = Math.floor(last.atMs / CELL_MS) - from + 1;
  const means = others.map((points) => meansOf(points, from, cells));
  const medians = Array.from({ length: cells }, (_, cell) => middle(means.flatMap((each) => each[cell] ?? [])));
  const known = medians.filter((median) => median !== undefined);
  const present = middle(known.slice(-CELLS_NOW));
  if (present === undefined || !known.some((median) => median < present)) return own;
  return own.map((point) => {
    const median = medians[Math.floor(point.atMs / CELL_MS) - from];
    return median === undefined || median >= present ? point : { ...point, value: point.value + present - median };
  });
}

/**
 * Shares of loss, less what was lost while most of the others lost as well: `others` has for each metric that tells of it their series. In an
 * episode that meets everybody one loses three probes in a row and another none, by chance, while all lose packets: so any of the metrics may
 * show it, and `level` or more of the others' middle is an episode. A share over the probes of the last `memoryMs` is lowered by those for as
 * long as it remembers them, never below zero; moments of what remembers nothing (0) are left out.
 */
export function withoutSharedLosses(
  own: readonly Point[],
  others: readonly (readonly (readonly Point[])[])[],
  level: number,
  memoryMs: number,
): readonly Point[] {
  const first = own[0];
  const last = own.at(-1);
  if (first === undefined || last === undefined) return own;
  const from = Math.floor(first.atMs / CELL_MS);
  const cells = Math.floor(last.atMs / CELL_MS) - from + 1;
  const episodes = new Set<number>();
  for (const lists of others) {
    const highest = lists.map((points) => highestOf(points, from, cells));
    for (let cell = 0; cell < cells; cell++) {
      if ((middle(highest.flatMap((each) => each[cell] ?? [])) ?? 0) >= level) episodes.add(cell);
    }
  }
  if (episodes.size === 0) return own;
  // Told a moment later it may be in the next cell: a probe is lost once its time is over.
  const isShared = (atMs: number) => [0, 1].some((late) => episodes.has(Math.floor(atMs / CELL_MS) - from - late));
  if (memoryMs === 0) return own.filter(({ atMs }) => !isShared(atMs));
  let before = first.value;
  let shared: { readonly untilMs: number; readonly share: number }[] = [];
  return own.map((point) => {
    const more = point.value - before;
    if (Number.isFinite(point.value)) before = point.value;
    shared = shared.filter(({ untilMs }) => untilMs > point.atMs);
    if (more > 0 && isShared(point.atMs)) shared.push({ untilMs: point.atMs + memoryMs, share: more });
    const excused = shared.reduce((sum, { share }) => sum + share, 0);
    return excused > 0 ? { ...point, value: Math.max(0, point.value - excused) } : point;
  });
}

/** By cell; undefined where nothing was measured. An episode of a second shows whole. */
function highestOf(points: readonly Point[], from: number, cells: number): readonly (number | undefined)[] {
  const highest: (number | undefined)[] = Array.from({ length: cells });
  for (const { atMs, value } of points) {
    const cell = Math.floor(atMs / CELL_MS) - from;
    if (cell >= 0 && cell < cells && Number.isFinite(value)) highest[cell] = Math.max(highest[cell] ?? value, value);
  }
  return highest;
}

/** By cell; undefined where nothing was measured. */
function meansOf(points: readonly Point[], from: number, cells: number): readonly (number | undefined)[] {
  const sums = new Float64Array(cells);
  const counts = new Float64Array(cells);
  for (const { atMs, value } of points) {
    const cell = Math.floor(atMs / CELL_MS) - from;
    if (cell < 0 || cell >= cells || !Number.isFinite(value)) continue;
    sums[cell] = (sums[cell] ?? 0) + value;
    counts[cell] = (counts[cell] ?? 0) + 1;
  }
  return Array.from(sums, (sum, cell) => ((counts[cell] ?? 0) > 0 ? sum / (counts[cell] ?? 1) : undefined));
}

/** The lower of the middle two of an even number: the others are said to have grown by no more than half of them did. */
function middle(values: readonly number[]): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[(sorted.length - 1) >> 1];
}
