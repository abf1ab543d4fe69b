/** What is known of a metric before it was ever seen: differences that matter, and the range in which it should be. */
import { LIMITS } from "../limits.ts";
import { METRICS, splitSeries } from "../telemetry.ts";
import type { ScalePrior } from "./expectation.ts";

/** Smaller differences are of no consequence, by unit; a metric of an unknown unit has none. */
const MATERIAL: Readonly<Record<string, number>> = {
  share: 0.03,
  ms: 2,
  s: 5,
  bytes: 16 * 1024 * 1024,
  "bytes/s": 50_000,
  "1/s": 1,
  count: 2,
};
/** By name, where the unit's is too coarse. */
const MATERIAL_OF: Readonly<Record<string, number>> = {
  innerLossShare: 0.02,
  carriedLossShare: 0.01,
  outerLossShare: 0.02,
  /** One lost probe of those that are kept says nothing. */
  pathLossShare: 1.5 / LIMITS.paths.probesKept,
};
/** And this share of the value itself, except of shares, which are relative already. */
const MATERIAL_SHARE = 0.1;

/**
 * How much metrics of a kind vary, before one was seen, as ratios (0.25: by a quarter): on one endpoint from grain to grain, and between
 * sound endpoints of one swarm. Rough on purpose: a minute of the series itself weighs more.
 */
const RATIOS: Readonly<Record<string, { readonly deviation: number; readonly spread: number }>> = {
  share: { deviation: 0.3, spread: 0.7 },
  ms: { deviation: 0.25, spread: 0.5 },
  s: { deviation: 0.3, spread: 1 },
  bytes: { deviation: 0.1, spread: 0.7 },
  "bytes/s": { deviation: 0.5, spread: 1 },
  "1/s": { deviation: 0.5, spread: 1 },
  count: { deviation: 0.3, spread: 2 },
};
/** By name, where the unit's are too coarse: memory moves slowly. */
const RATIOS_OF: Readonly<Record<string, { readonly deviation: number; readonly spread: number }>> = {
  memoryShare: { deviation: 0.05, spread: 0.7 },
};

/** Ranges from operations, not from data: outside of them something is wrong on any endpoint. */
const RANGES: Readonly<Record<string, readonly [low: number, high: number]>> = {
  cpuShare: [0, 0.9],
  cpuStealShare: [0, 0.1],
  cpuPressureShare: [0, 0.5],
  ioPressureShare: [0, 0.5],
  memoryShare: [0, 0.92],
  memoryPressureShare: [0, 0.1],
  memoryFullPressureShare: [0, 0.05],
  innerLossShare: [0, 0.05],
  carriedLossShare: [0, 0.05],
  outerLossShare: [0, 0.05],
  pathLossShare: [0, 0.05],
  tunnelUp: [1, 1],
  /** WireGuard renews a session's keys after 120 s and drops them after 180 s. */
  handshakeAgeSMax: [0, 180],
  clockOffsetMs: [-1_000, 1_000],
  oomKillsPerS: [0, 0],
  memoryUncorrectedErrorsPerS: [0, 0],
  diskErrorsPerS: [0, 0],
};

/** Ever-growing ages, and what others show more plainly: not watched. */
const IGNORED: ReadonlySet<string> = new Set([
  "tunnelUptimeS",
  "agentUptimeS",
  "restarts",
  "cpuUserShare",
  "innerRttMsMax",
  "interfaceRxBytesPerS",
  "interfaceTxBytesPerS",
  "interfaceRxPacketsPerS",
  "interfaceTxPacketsPerS",
]);
/** What clients ask for: unusual is not yet unwell. */
const DEMAND: ReadonlySet<string> = new Set(["sessions", "rxBytesPerS", "txBytesPerS", "handshakesPerS"]);
/** Of all other metrics of the catalogue more is worse. */
const WORSE_BELOW: ReadonlySet<string> = new Set(["tunnelUp"]);
const WORSE_EITHER: ReadonlySet<string> = new Set(["clockOffsetMs"]);

export function isWatched(series: string): boolean {
  return !IGNORED.has(splitSeries(series).name);
}

/** Whether a departure in this direction can mean harm; of a metric that is not in the catalogue either can. */
export function isHarmful(series: string, direction: "above" | "below"): boolean {
  const { name } = splitSeries(series);
  if (!Object.hasOwn(METRICS, name) || WORSE_EITHER.has(name)) return true;
  return !DEMAND.has(name) && direction === (WORSE_BELOW.has(name) ? "below" : "above");
}

/** The smallest difference from `middle` that matters for the metric `name` in `unit`. */
export function materialDifference(name: string, unit: string, middle: number): number {
  const fixed = valueOf(MATERIAL_OF, name) ?? valueOf(MATERIAL, unit) ?? 0;
  return unit === "share" ? fixed : Math.max(fixed, MATERIAL_SHARE * Math.abs(middle));
}

/** What is known of the scatter of the metric `name`; undefined for a unit of which nothing is. */
export function scalePrior(name: string, unit: string): ScalePrior | undefined {
  const ratios = valueOf(RATIOS_OF, name) ?? valueOf(RATIOS, unit);
  const step = valueOf(MATERIAL_OF, name) ?? valueOf(MATERIAL, unit);
  return ratios === undefined || step === undefined ? undefined : { unit: step, ...ratios };
}

export function priorRange(series: string): { readonly low: number; readonly high: number } | undefined {
  const { name } = splitSeries(series);
  const range = valueOf(RANGES, name);
  return range === undefined ? undefined : { low: range[0], high: range[1] };
}

function valueOf<T>(table: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}
