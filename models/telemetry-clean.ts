/**
 * From what an agent sent to what may be believed: duplicates, latecomers, gaps, counters that began anew and values that cannot be
 * true are told apart, counted, and never averaged in. Times become the collector's.
 */
import { LIMITS } from "./limits.ts";
import type { Heartbeat } from "./observation.ts";
import { counterMetric, gaugeMetric, METRICS, type Metric, plausible } from "./telemetry.ts";

/** What may be wrong with a heartbeat or with one reading of it. */
export const TELEMETRY_FAULTS = [
  /** Sent or delivered twice. */
  "duplicate",
  /** Too old when it came, of an agent's earlier life, or overtaken. */
  "late",
  /** Longer since the reading before than rates may be taken over. */
  "gap",
  /** A counter that is lower than before. */
  "reset",
  /** A value outside what can be true. */
  "impossible",
  /** A name that is not in the catalogue. */
  "unknown",
  /** The endpoint's clock was set. */
  "clock-step",
] as const;
export type TelemetryFault = (typeof TELEMETRY_FAULTS)[number];
export type FaultCounts = Readonly<Partial<Record<TelemetryFault, number>>>;

interface CounterReading {
  readonly value: number;
  /** By the agent's monotonic clock where it has one, else by its clock. */
  readonly atMs: number;
}

/** What is remembered of one endpoint between its heartbeats. */
export interface CleanState {
  readonly startedAtMs: number;
  /** The newest last. */
  readonly sequences: readonly number[];
  /** Collector's clock less the endpoint's, the way of the fastest heartbeats included. */
  readonly delayMs: number;
  readonly receivedAtMs: number;
  readonly lateInARow: number;
  readonly counters: ReadonlyMap<string, CounterReading>;
}

export interface Cleaned {
  readonly state: CleanState;
  /** By the collector's clock; undefined when nothing of the heartbeat counts. */
  readonly atMs: number | undefined;
  /** By the name of the series. */
  readonly values: ReadonlyMap<string, number>;
  readonly faults: FaultCounts;
  /** The agent began a new life. */
  readonly restarted: boolean;
}

/** `state` is what the endpoint's last heartbeat left, undefined for its first. */
export function cleanHeartbeat(state: CleanState | undefined, heartbeat: Heartbeat, receivedAtMs: number): Cleaned {
  const sameLife = state !== undefined && heartbeat.startedAtMs === state.startedAtMs;
  if (state !== undefined && heartbeat.startedAtMs < state.startedAtMs) return refused(state, "late");
  if (sameLife && state.sequences.includes(heartbeat.sequence)) return refused(state, "duplicate");
  if (sameLife && heartbeat.sequence < (state.sequences.at(-1) ?? 0)) return refused(state, "late");
  const time = placeInTime(state, heartbeat.atMs, receivedAtMs);
  const sequences = [...(sameLife ? state.sequences : []), heartbeat.sequence].slice(-LIMITS.telemetry.sequencesKeptMax);
  const seen = { startedAtMs: heartbeat.startedAtMs, sequences, delayMs: time.delayMs, receivedAtMs };
  const faults = new Map<TelemetryFault, number>();
  if (time.stepped) add(faults, "clock-step");
  if (time.late) {
    add(faults, "late");
    const counters = sameLife ? state.counters : new Map<string, CounterReading>();
    const after = { ...seen, lateInARow: (state?.lateInARow ?? 0) + 1, counters };
    return { state: after, atMs: undefined, values: new Map(), faults: Object.fromEntries(faults), restarted: false };
  }
  const values = new Map<string, number>();
  takeGauges(gaugesOf(heartbeat), values, faults);
  // A clock that was set makes the time between two readings a matter of chance, unless the agent has another one.
  const known = sameLife && !(time.stepped && heartbeat.sample === undefined) ? state.counters : undefined;
  const counters = takeCounters(heartbeat, known, values, faults);
  const restarted = state !== undefined && !sameLife;
  values.set("restarts", restarted ? 1 : 0);
  return {
    state: { ...seen, lateInARow: 0, counters },
    atMs: heartbeat.atMs + time.delayMs,
    values,
    faults: Object.fromEntries(faults),
    restarted,
  };
}

export type Rate = { readonly perS: number } | { readonly fault: "gap" | "reset" } | "too-soon";

/** Growth per second between two readings of a counter. A lower reading is a new beginning, of which nothing is known yet. */
export function counterRate(before: CounterReading, now: CounterReading): Rate {
  if (now.value < before.value) return { fault: "reset" };
  const elapsedMs = now.atMs - before.atMs;
  if (elapsedMs > LIMITS.telemetry.gapMsMax || elapsedMs < 0) return { fault: "gap" };
  if (elapsedMs < LIMITS.telemetry.rateOverMsMin) return "too-soon";
  return { perS: (now.value - before.value) / (elapsedMs / 1_000) };
}

function refused(state: CleanState, fault: TelemetryFault): Cleaned {
  return { state, atMs: undefined, values: new Map(), faults: { [fault]: 1 }, restarted: false };
}

/**
 * The endpoint's clock may be wrong, and a heartbeat may be under way for long. The least difference between sending (endpoint's
 * clock) and reception (collector's) is the clocks' offset plus the shortest way; what a heartbeat takes beyond it is its lateness.
 * That least difference may grow only as clocks drift. Many "late" ones in a row mean that the clock was set back.
 */
function placeInTime(state: CleanState | undefined, atMs: number, receivedAtMs: number) {
  const { clockDriftPpm, clockStepMs, lateMsMax, lateInARowMax } = LIMITS.telemetry;
  const delayMs = receivedAtMs - atMs;
  if (state === undefined) return { delayMs, late: false, stepped: false };
  const drifted = state.delayMs + (Math.max(0, receivedAtMs - state.receivedAtMs) * clockDriftPpm) / 1e6;
  if (delayMs <= drifted) return { delayMs, late: false, stepped: state.delayMs - delayMs > clockStepMs };
  if (delayMs - drifted <= lateMsMax) return { delayMs: drifted, late: false, stepped: false };
  if (state.lateInARow + 1 > lateInARowMax) return { delayMs, late: false, stepped: true };
  return { delayMs: drifted, late: true, stepped: false };
}

/** Those of the heartbeat's own fields come first: agents that know no sample have only them. */
function gaugesOf(heartbeat: Heartbeat): readonly (readonly [string, number | null])[] {
  const own: [string, number | undefined][] = [
    ["cpuShare", heartbeat.cpuShare],
    ["cpuPressureShare", heartbeat.cpuPressure],
    ["memoryShare", heartbeat.memoryShare],
    ["tunnelUp", heartbeat.tunnelUp ? 1 : 0],
    ["sessions", heartbeat.sessions],
  ];
  const known = own.flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const]));
  return [...known, ...Object.entries(heartbeat.sample?.gauges ?? {})];
}

function takeGauges(
  gauges: readonly (readonly [string, number | null])[],
  values: Map<string, number>,
  faults: Map<TelemetryFault, number>,
): void {
  for (const [series, reading] of gauges) {
    const metric = gaugeMetric(series);
    if (metric === undefined || metric === METRICS.restarts) add(faults, "unknown");
    else take(series, metric, reading, values, faults);
  }
}

function take(
  series: string,
  metric: Metric,
  reading: number | null,
  values: Map<string, number>,
  faults: Map<TelemetryFault, number>,
): void {
  const value = reading === null ? undefined : plausible(metric, reading);
  if (value === undefined) add(faults, "impossible");
  else values.set(series, value);
}

function takeCounters(
  heartbeat: Heartbeat,
  known: ReadonlyMap<string, CounterReading> | undefined,
  values: Map<string, number>,
  faults: Map<TelemetryFault, number>,
): ReadonlyMap<string, CounterReading> {
  const { rxBytes, txBytes, rxDrops, txDrops, sample } = heartbeat;
  const atMs = sample?.monotonicMs ?? heartbeat.atMs;
  const readings = { rxBytes, txBytes, rxDrops, txDrops, ...sample?.counters };
  const counters = new Map<string, CounterReading>();
  const rateFaults = new Set<TelemetryFault>();
  for (const [name, value] of Object.entries(readings)) {
    const target = counterMetric(name);
    if (target === undefined || value === null || !Number.isFinite(value) || value < 0) {
      add(faults, target === undefined ? "unknown" : "impossible");
      continue;
    }
    const before = known?.get(name);
    const rate = before === undefined ? undefined : counterRate(before, { value, atMs });
    if (before !== undefined && rate === "too-soon") {
      counters.set(name, before);
      continue;
    }
    counters.set(name, { value, atMs });
    if (rate === undefined || rate === "too-soon") continue;
    if ("perS" in rate) take(target.series, target.metric, rate.perS, values, faults);
    else if (rate.fault === "reset") add(faults, "reset");
    else rateFaults.add(rate.fault);
  }
  // A gap is one of the heartbeats, however many counters it tears.
  for (const fault of rateFaults) add(faults, fault);
  return counters;
}

function add(faults: Map<TelemetryFault, number>, fault: TelemetryFault): void {
  faults.set(fault, (faults.get(fault) ?? 0) + 1);
}
