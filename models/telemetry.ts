/**
 * The metrics of an endpoint: names, units, and which values can be true at all. Agents send gauges and counters; the collector makes
 * one series of each, named `metric` or `metric:label` (an interface, or the far end of a path).
 */
import { z } from "zod";
import { LIMITS } from "./limits.ts";

export interface Metric {
  /** Of the series: of the rate, where agents send a counter. */
  readonly unit: "share" | "ms" | "s" | "bytes" | "bytes/s" | "1/s" | "count";
  /** Values outside cannot be true, whatever happened. */
  readonly min: number;
  readonly max: number;
  /** Values between this and `max` come of inexact timing and stand for this. */
  readonly ceiling?: number;
  /** Name of the counter on the wire that the series is the growth per second of. Absent: a gauge, sent by the metric's own name. */
  readonly counter?: string;
  /** What the label names; absent: the metric is the whole endpoint's. */
  readonly labelled?: "interface" | "path";
}

/** Faster than any link there is: 10 Tbit/s, and as many packets of 64 bytes. */
const BYTES_PER_S_MAX = 1.25e12;
const PER_S_MAX = BYTES_PER_S_MAX / 64;
const YEAR_S = 366 * 86_400;
/** Longer round trips were given up on long before. */
const ROUND_TRIP_MS_MAX = 60_000;

const share = { unit: "share", min: 0, max: 1 } as const;
/** Seconds of something in a second: a little more than one is a late reading, twice as much is none. */
const timeShare = (counter: string) => ({ unit: "share", min: 0, max: 2, ceiling: 1, counter }) as const;
const perS = (counter: string) => ({ unit: "1/s", min: 0, max: PER_S_MAX, counter }) as const;
const bytesPerS = (counter: string) => ({ unit: "bytes/s", min: 0, max: BYTES_PER_S_MAX, counter }) as const;
const roundTripMs = { unit: "ms", min: 0, max: ROUND_TRIP_MS_MAX } as const;
const ageS = { unit: "s", min: 0, max: 100 * YEAR_S } as const;
const onInterface = <M extends object>(metric: M) => ({ ...metric, labelled: "interface" }) as const;
const onPath = <M extends object>(metric: M) => ({ ...metric, labelled: "path" }) as const;

export const METRICS = {
  /** Of all cores the endpoint may use. */
  cpuShare: share,
  cpuUserShare: timeShare("cpuUserS"),
  cpuSystemShare: timeShare("cpuSystemS"),
  /** Time that the machine's hypervisor gave to others. */
  cpuStealShare: timeShare("cpuStealS"),
  /** Time in which some task waited for a CPU (PSI), and time that all of the endpoint's threads together waited (schedstat). */
  cpuPressureShare: share,
  cpuWaitShare: { unit: "share", min: 0, max: 4_096, counter: "cpuWaitS" },
  ioPressureShare: timeShare("ioPressureS"),
  memoryShare: share,
  memoryBytes: { unit: "bytes", min: 0, max: 2 ** 50 },
  memoryPressureShare: timeShare("memoryPressureS"),
  memoryFullPressureShare: timeShare("memoryFullPressureS"),
  /** Of the tunnel's device; drops over all interfaces. */
  rxBytesPerS: bytesPerS("rxBytes"),
  txBytesPerS: bytesPerS("txBytes"),
  rxDropsPerS: perS("rxDrops"),
  txDropsPerS: perS("txDrops"),
  interfaceRxBytesPerS: onInterface(bytesPerS("interfaceRxBytes")),
  interfaceTxBytesPerS: onInterface(bytesPerS("interfaceTxBytes")),
  interfaceRxPacketsPerS: onInterface(perS("interfaceRxPackets")),
  interfaceTxPacketsPerS: onInterface(perS("interfaceTxPackets")),
  interfaceRxDropsPerS: onInterface(perS("interfaceRxDrops")),
  interfaceTxDropsPerS: onInterface(perS("interfaceTxDrops")),
  interfaceRxErrorsPerS: onInterface(perS("interfaceRxErrors")),
  interfaceTxErrorsPerS: onInterface(perS("interfaceTxErrors")),
  /** From the agent to `balancer` or to another endpoint, outside the tunnel. */
  pathRttMs: onPath(roundTripMs),
  pathJitterMs: onPath(roundTripMs),
  pathLossShare: onPath(share),
  /** The balancer's own probes of this endpoint: through the tunnel, and outside it. */
  innerRttMsP50: roundTripMs,
  innerRttMsP75: roundTripMs,
  innerRttMsMax: roundTripMs,
  innerLossShare: share,
  /** Of the packets that the router sent to the endpoint for its clients, those that never came to its tunnel. */
  carriedLossShare: share,
  outerRttMsP50: roundTripMs,
  outerLossShare: share,
  tunnelUp: { unit: "share", min: 0, max: 1 },
  tunnelUptimeS: ageS,
  tunnelRestartsPerS: perS("tunnelRestarts"),
  /** WireGuard's answer to the agent's question for its state, the slowest since the heartbeat before. */
  deviceAnswerMsMax: roundTripMs,
  sessions: { unit: "count", min: 0, max: LIMITS.reflex.sessionsMax },
  handshakesPerS: perS("handshakes"),
  /** Of the live sessions. */
  handshakeAgeSP50: ageS,
  handshakeAgeSMax: ageS,
  /** 1 in the second in which an agent reported for the first time since its start, else 0. Made by the collector. */
  restarts: { unit: "count", min: 0, max: 1 },
  agentUptimeS: ageS,
  agentCpuShare: timeShare("agentCpuS"),
  agentMemoryBytes: { unit: "bytes", min: 0, max: 2 ** 50 },
  /** How much too late the agent's own loop came round, at worst: what a starved machine does to a process. */
  agentLateMsMax: roundTripMs,
  /** The endpoint's clock less the collector's. */
  clockOffsetMs: { unit: "ms", min: -100 * YEAR_S * 1_000, max: 100 * YEAR_S * 1_000 },
  collectorRttMs: roundTripMs,
  udpInErrorsPerS: perS("udpInErrors"),
  udpReceiveBufferErrorsPerS: perS("udpReceiveBufferErrors"),
  udpSendBufferErrorsPerS: perS("udpSendBufferErrors"),
  udpNoPortsPerS: perS("udpNoPorts"),
  ipInDiscardsPerS: perS("ipInDiscards"),
  ipOutDiscardsPerS: perS("ipOutDiscards"),
  ipNoRoutesPerS: perS("ipNoRoutes"),
  tcpRetransmitsPerS: perS("tcpRetransmits"),
  softnetDropsPerS: perS("softnetDrops"),
  oomKillsPerS: perS("oomKills"),
  memoryCorrectedErrorsPerS: perS("memoryCorrectedErrors"),
  memoryUncorrectedErrorsPerS: perS("memoryUncorrectedErrors"),
  thermalThrottlesPerS: perS("thermalThrottles"),
  diskErrorsPerS: perS("diskErrors"),
  /** 1 while EC2 tells the instance that its Spot capacity is taken back, or that it is likely to be. */
  interruptionNotice: { unit: "count", min: 0, max: 1 },
  rebalanceNotice: { unit: "count", min: 0, max: 1 },
} as const satisfies Record<string, Metric>;

export type MetricName = keyof typeof METRICS;

const CATALOGUE: Readonly<Record<string, Metric>> = METRICS;
const BY_COUNTER: ReadonlyMap<string, string> = new Map(
  Object.entries(CATALOGUE).flatMap(([name, { counter }]) => (counter === undefined ? [] : [[counter, name] as const])),
);

/** `pathRttMs`, `ep-2` of `pathRttMs:ep-2`. */
export function splitSeries(series: string): { readonly name: string; readonly label: string | undefined } {
  const at = series.indexOf(":");
  return at < 0 ? { name: series, label: undefined } : { name: series.slice(0, at), label: series.slice(at + 1) };
}

/** The metric of a gauge's series; undefined when there is none of that name, or the label is missing, extra or malformed. */
export function gaugeMetric(series: string): Metric | undefined {
  const { name, label } = splitSeries(series);
  const metric = Object.hasOwn(CATALOGUE, name) ? CATALOGUE[name] : undefined;
  return metric !== undefined && metric.counter === undefined && hasLabel(metric, label) ? metric : undefined;
}

/** The series and the metric of a counter on the wire, e.g. `interfaceRxDrops:up0`; undefined as for gauges. */
export function counterMetric(wireName: string): { readonly series: string; readonly metric: Metric } | undefined {
  const { name, label } = splitSeries(wireName);
  const metricName = BY_COUNTER.get(name);
  const metric = metricName === undefined ? undefined : CATALOGUE[metricName];
  if (metricName === undefined || metric === undefined || !hasLabel(metric, label)) return undefined;
  return { series: label === undefined ? metricName : `${metricName}:${label}`, metric };
}

/** The value as it counts; undefined where it cannot be true. */
export function plausible(metric: Metric, value: number): number | undefined {
  if (!Number.isFinite(value) || value < metric.min || value > metric.max) return undefined;
  return metric.ceiling === undefined ? value : Math.min(value, metric.ceiling);
}

const LABEL = /^[\w.@-]{1,31}$/;

function hasLabel(metric: Metric, label: string | undefined): boolean {
  return metric.labelled === undefined ? label === undefined : label !== undefined && LABEL.test(label);
}

const SeriesName = z.string().max(LIMITS.telemetry.seriesNameCharsMax);
/** A number that an agent could not make sense of travels as null. */
const Readings = z
  .record(SeriesName, z.number().nullable())
  .refine((readings) => Object.keys(readings).length <= LIMITS.telemetry.readingsMax, {
    message: `expected at most ${LIMITS.telemetry.readingsMax} readings`,
  });

/** What an agent read at one moment. Names that are not in the catalogue are counted and left aside. */
export const TelemetrySample = z.strictObject({
  /** By a clock that is never set, milliseconds since any moment: what rates are taken over. */
  monotonicMs: z.number().nonnegative(),
  gauges: Readings,
  counters: Readings,
});
export type TelemetrySample = z.infer<typeof TelemetrySample>;
