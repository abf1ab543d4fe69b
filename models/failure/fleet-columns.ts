/**
 * Which telemetry series (models/telemetry.ts) become the columns of the failure engine's table on the fleet, one row an endpoint and
 * minute. A model is trained on these and asked about these: whoever changes them makes older models foreign.
 */
import type { MetricName } from "../telemetry.ts";
import type { Rollup } from "../telemetry-rollup.ts";

/** What a minute holds of one endpoint, by the name of the series. */
export type SeriesMinute = ReadonlyMap<string, Rollup>;

export interface FleetColumn {
  readonly name: string;
  /** As a person reads it. */
  readonly label: string;
}

type Part = "mean" | "max" | "min" | "p95";

interface Measured extends FleetColumn {
  /** Summed up: drops in and out are drops. */
  readonly metrics: readonly MetricName[];
  /** Of series that differ in their label (interfaces, far ends of paths): the worst, all together, or the one of this label. */
  readonly over?: "worst" | "sum" | { readonly label: string };
  readonly part?: Part;
  /** The table's unit times this is the metric's; seconds to minutes, for one. */
  readonly divisor?: number;
  /** Growth per second becomes a count of the minute, in whole numbers: rare events. */
  readonly counted?: boolean;
  /** Also as its distance from the median of the other endpoints in the same minute … */
  readonly peers?: boolean;
  /** … and from what it has been on the same endpoint for an hour, for a day and for a week. */
  readonly own?: boolean;
}

const BALANCER = { label: "balancer" } as const;
const SECONDS = 60;

const MEASURED: readonly Measured[] = [
  { name: "cpu", label: "CPU", metrics: ["cpuShare"], peers: true, own: true },
  { name: "cpuPeak", label: "CPU at its peak", metrics: ["cpuShare"], part: "p95" },
  { name: "cpuSystem", label: "CPU of the kernel", metrics: ["cpuSystemShare"] },
  { name: "cpuSteal", label: "CPU stolen", metrics: ["cpuStealShare"], peers: true },
  { name: "cpuPressure", label: "waiting for the CPU", metrics: ["cpuPressureShare"], peers: true },
  { name: "cpuWait", label: "threads waiting for the CPU", metrics: ["cpuWaitShare"] },
  { name: "ioPressure", label: "waiting for disks", metrics: ["ioPressureShare"] },
  { name: "memory", label: "memory", metrics: ["memoryShare"], peers: true, own: true },
  { name: "memoryPressure", label: "waiting for memory", metrics: ["memoryPressureShare"] },
  { name: "memoryFullPressure", label: "all waiting for memory", metrics: ["memoryFullPressureShare"] },
  { name: "agentMemory", label: "the agent's memory", metrics: ["agentMemoryBytes"] },
  { name: "received", label: "bytes received", metrics: ["rxBytesPerS"] },
  { name: "sent", label: "bytes sent", metrics: ["txBytesPerS"] },
  { name: "sessions", label: "sessions", metrics: ["sessions"], peers: true, own: true },
  { name: "handshakes", label: "handshakes", metrics: ["handshakesPerS"], peers: true },
  { name: "handshakeAge", label: "age of handshakes", metrics: ["handshakeAgeSP50"] },
  { name: "tunnelUp", label: "tunnel", metrics: ["tunnelUp"], part: "min" },
  { name: "deviceAnswer", label: "WireGuard's answers", metrics: ["deviceAnswerMsMax"], part: "max", peers: true },
  { name: "agentLate", label: "the agent's delay", metrics: ["agentLateMsMax"], part: "max", peers: true },
  { name: "innerTrip", label: "round trip through the tunnel", metrics: ["innerRttMsP75"], peers: true, own: true },
  { name: "innerLoss", label: "loss through the tunnel", metrics: ["innerLossShare"], peers: true },
  { name: "outerTrip", label: "round trip outside the tunnel", metrics: ["outerRttMsP50"] },
  { name: "outerLoss", label: "loss outside the tunnel", metrics: ["outerLossShare"] },
  { name: "balancerTrip", label: "round trip to the balancer", metrics: ["pathRttMs"], over: BALANCER, peers: true, own: true },
  { name: "balancerJitter", label: "jitter to the balancer", metrics: ["pathJitterMs"], over: BALANCER },
  { name: "balancerLoss", label: "loss to the balancer", metrics: ["pathLossShare"], over: BALANCER, peers: true },
  { name: "worstTrip", label: "worst round trip of its paths", metrics: ["pathRttMs"], over: "worst" },
  { name: "worstJitter", label: "worst jitter of its paths", metrics: ["pathJitterMs"], over: "worst" },
  { name: "worstLoss", label: "worst loss of its paths", metrics: ["pathLossShare"], over: "worst" },
  { name: "collectorTrip", label: "round trip to the collector", metrics: ["collectorRttMs"] },
  { name: "retransmits", label: "TCP retransmits", metrics: ["tcpRetransmitsPerS"] },
  { name: "sinceRestart", label: "minutes since its restart", metrics: ["agentUptimeS"], part: "max", divisor: SECONDS },
  {
    name: "sinceTunnelRestart",
    label: "minutes since the tunnel's restart",
    metrics: ["tunnelUptimeS"],
    part: "max",
    divisor: SECONDS,
  },
  { name: "drops", label: "packets dropped", metrics: ["rxDropsPerS", "txDropsPerS"], counted: true },
  {
    name: "interfaceErrors",
    label: "errors of its interfaces",
    metrics: ["interfaceRxErrorsPerS", "interfaceTxErrorsPerS"],
    over: "sum",
    counted: true,
  },
  {
    name: "datagramErrors",
    label: "UDP errors",
    metrics: ["udpInErrorsPerS", "udpReceiveBufferErrorsPerS", "udpSendBufferErrorsPerS"],
    counted: true,
  },
  {
    name: "discards",
    label: "IP discards",
    metrics: ["ipInDiscardsPerS", "ipOutDiscardsPerS", "softnetDropsPerS"],
    counted: true,
  },
  { name: "oomKills", label: "processes killed for want of memory", metrics: ["oomKillsPerS"], counted: true },
  { name: "memoryErrors", label: "corrected memory errors", metrics: ["memoryCorrectedErrorsPerS"], counted: true },
  { name: "memoryFaults", label: "uncorrected memory errors", metrics: ["memoryUncorrectedErrorsPerS"], counted: true },
  { name: "throttles", label: "CPU throttled for heat", metrics: ["thermalThrottlesPerS"], counted: true },
  { name: "diskErrors", label: "disk errors", metrics: ["diskErrorsPerS"], counted: true },
  { name: "restarts", label: "restarts", metrics: ["restarts"], counted: true },
  { name: "tunnelRestarts", label: "restarts of the tunnel", metrics: ["tunnelRestartsPerS"], counted: true },
];

/** Minutes that half of an own baseline comes from. Each column with baselines keeps two numbers for each: 240 bytes an endpoint. */
const OWN_HALF_LIVES = { Hour: 60, Day: 1_440, Week: 10_080 } as const;
const OWN = Object.entries(OWN_HALF_LIVES);
/** With fewer other endpoints than this their median says nothing. */
const PEERS_MIN = 2;

const WITH_PEERS = MEASURED.map((column, at) => ({ ...column, at })).filter(({ peers }) => peers === true);
const WITH_OWN = MEASURED.map((column, at) => ({ ...column, at })).filter(({ own }) => own === true);

/** In the order of the cells. */
export const FLEET_COLUMNS: readonly FleetColumn[] = [
  ...MEASURED.map(({ name, label }) => ({ name, label })),
  ...WITH_PEERS.map(({ name, label }) => ({ name: `${name}VsPeers`, label: `${label}, against its peers,` })),
  ...WITH_OWN.flatMap(({ name, label }) =>
    OWN.map(([span]) => ({ name: `${name}Vs${span}`, label: `${label}, against its own ${span.toLowerCase()},` })),
  ),
];

/** Metrics that the columns are made of: what has to be read of a live window. */
export const FLEET_METRICS: readonly string[] = [...new Set(MEASURED.flatMap(({ metrics }) => metrics))];

/** What a column is made of. */
export function metricsOf(column: string): readonly MetricName[] {
  return MEASURED.find(({ name }) => name === column)?.metrics ?? [];
}

/** What one minute shows of one endpoint, before it is compared with anything; NaN where nothing was measured. */
export function measuredOf(series: SeriesMinute, byMetric = groupedByMetric(series)): Float64Array {
  return Float64Array.from(MEASURED, (column) => {
    const values = column.metrics.map((metric) => reduced(column, metric, byMetric)).filter((value) => !Number.isNaN(value));
    if (values.length === 0) return Number.NaN;
    const sum = values.reduce((all, value) => all + value, 0);
    return column.counted === true ? Math.round(sum * SECONDS) : sum / (column.divisor ?? 1);
  });
}

/** An endpoint's own usual values: what its later minutes are compared with. Plain numbers, NaN before the first. */
export interface OwnUsual {
  /** For each column with a baseline of its own and each of its spans. */
  readonly means: Float64Array;
  /** Minutes that each is made of. */
  readonly seen: Float64Array;
}

export function noUsual(): OwnUsual {
  const count = WITH_OWN.length * OWN.length;
  return { means: new Float64Array(count).fill(Number.NaN), seen: new Float64Array(count) };
}

/** For each column that is compared with peers, what the endpoints of one minute show, in order. */
export function peersOf(measured: readonly Float64Array[]): readonly Float64Array[] {
  return WITH_PEERS.map(({ at }) =>
    Float64Array.from(measured.map((cells) => cells[at] as number).filter((value) => !Number.isNaN(value))).sort(),
  );
}

/** A whole row: what was measured, against the peers of the same minute and against what was usual on the endpoint before. */
export function rowOf(measured: Float64Array, peers: readonly Float64Array[], { means }: OwnUsual): Float64Array {
  const vsPeers = WITH_PEERS.map(({ at }, column) => {
    const own = measured[at] as number;
    return own - medianWithout(peers[column] as Float64Array, own);
  });
  const vsOwn = WITH_OWN.flatMap(({ at }, own) =>
    OWN.map((_, span) => (measured[at] as number) - (means[own * OWN.length + span] as number)),
  );
  return Float64Array.from([...measured, ...vsPeers, ...vsOwn]);
}

/**
 * Averages that forget, and begin as plain means. `elapsed`: minutes since the row before; `minutes`: those that the row is the mean of, for
 * a past that is read in longer steps.
 */
export function learnUsual({ means, seen }: OwnUsual, measured: Float64Array, elapsed: number, minutes = 1): OwnUsual {
  const next = { means: means.slice(), seen: seen.slice() };
  for (const [own, { at }] of WITH_OWN.entries()) {
    const value = measured[at] as number;
    if (Number.isNaN(value)) continue;
    for (const [span, [, halfLife]] of OWN.entries()) {
      const slot = own * OWN.length + span;
      const before = (seen[slot] as number) === 0 ? value : (means[slot] as number);
      const count = (seen[slot] as number) + minutes;
      const rate = Math.max(minutes / count, 1 - 2 ** (-elapsed / halfLife));
      next.seen[slot] = count;
      next.means[slot] = before + rate * (value - before);
    }
  }
  return next;
}

type ByMetric = ReadonlyMap<string, readonly (readonly [label: string, values: Rollup])[]>;

function groupedByMetric(series: SeriesMinute): ByMetric {
  const grouped = new Map<string, (readonly [string, Rollup])[]>();
  for (const [name, values] of series) {
    const at = name.indexOf(":");
    const metric = at < 0 ? name : name.slice(0, at);
    const label = at < 0 ? "" : name.slice(at + 1);
    const own = grouped.get(metric);
    if (own === undefined) grouped.set(metric, [[label, values]]);
    else own.push([label, values]);
  }
  return grouped;
}

function reduced({ over, part = "mean" }: Measured, metric: string, byMetric: ByMetric): number {
  const labelled = byMetric.get(metric) ?? [];
  if (typeof over === "object") return labelled.find(([label]) => label === over.label)?.[1][part] ?? Number.NaN;
  const values = labelled.map(([, one]) => one[part]).filter((value) => Number.isFinite(value));
  if (values.length === 0) return Number.NaN;
  return over === "sum" ? values.reduce((all, value) => all + value, 0) : Math.max(...values);
}

/** The median of what is left when one value is taken out of those in order; NaN where too few are left. */
function medianWithout(sorted: Float64Array, value: number): number {
  const left = sorted.length - 1;
  const out = sorted.indexOf(value);
  if (out < 0 || left < PEERS_MIN) return Number.NaN;
  const at = (rank: number) => sorted[rank < out ? rank : rank + 1] as number;
  return (at(Math.ceil(left / 2) - 1) + at(Math.floor(left / 2))) / 2;
}
