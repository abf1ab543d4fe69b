/**
 * What is known of an endpoint's near future: metrics on their way to where users feel them, rare events with stated priors, what happens
 * outside, and what a trained model says, once there is one. Each piece of evidence carries its sentence.
 */
import type { LearnedRisk } from "./failure/fleet-model.ts";
import { withoutStep } from "./level-shift.ts";
import { LIMITS } from "./limits.ts";
import { type LossGrowth, lossGrowth } from "./loss-growth.ts";
import { beyondOthers, withoutSharedLosses } from "./others.ts";
import type { OutsideRisk } from "./outside-events.ts";
import { anyOf, type Estimate, highest, NO_RISK, orderly, type RiskScore, type RiskTerm } from "./risk.ts";
import type { SwarmSpec } from "./swarm-spec.ts";
import { type Crossing, crossing, type Point, trendOf } from "./trend.ts";

/** What is known of one endpoint at one moment. */
export interface Evidence {
  readonly endpoint: string;
  readonly atMs: number;
  readonly sessions: number;
  /** Recent values by series name (models/telemetry.ts), in the order of time. */
  readonly series: Readonly<Record<string, readonly Point[]>>;
  /** The same series of the other endpoints: what all of them show is nobody's own. */
  readonly others?: ((series: string) => readonly (readonly Point[])[]) | undefined;
  /** Of the swarm: the middle of its members' round trips; undefined before any answer. */
  readonly medianRttMs: number | undefined;
  /** How far apart they are anyway (signals.ts); taken for nothing unless stated. */
  readonly rttSpreadMs?: number | undefined;
  readonly outside: OutsideRisk;
  /** From the health monitor: how odd its metrics are, 0..1, and in what; undefined where nothing is odd. */
  readonly anomaly?: { readonly severity: number; readonly text: string } | undefined;
  /** From the model in use; undefined where none is, or it is not asked. */
  readonly learned?: LearnedRisk | undefined;
}

interface Watched {
  readonly series: string;
  /** Metrics of one resource rise together; of these the surest counts. */
  readonly resource: "loss" | "delay" | "cpu" | "memory";
  readonly label: string;
  readonly unit: "share" | "ms";
  readonly threshold: (spec: SwarmSpec, medianRttMs: number | undefined, rttSpreadMs?: number) => number | undefined;
  /** Of a share of probes: how many there are in a second. */
  readonly probesPerS?: (spec: SwarmSpec) => number;
  /** For so long a share remembers a probe; absent where it is but a moment. */
  readonly memoryMs?: number;
}

/** A machine with less memory than this left kills processes. */
const MEMORY_FULL_SHARE = 0.97;
const MEMORY_STALLED_SHARE = 0.5;
const STEAL_CRITICAL_SHARE = 0.5;
/** An agent, or a device, that takes this long to answer has no CPU left. */
const ANSWER_CRITICAL_MS = 500;

const CARRIED_LOSS = "carriedLossShare";
/** Of the window: the latest past that loss must grow in. A quick growth shows in a short one, few packets want a long one. */
const GROWTH_SPAN_SHARES = [1 / 3, 1 / 2];

/** Where users feel it: what the swarm file calls degraded for loss and delay, and critical for the machine's resources. */
const WATCHED: readonly Watched[] = [
  {
    series: "innerLossShare",
    resource: "loss",
    label: "loss through the tunnel",
    unit: "share",
    threshold: lossLevel,
    probesPerS: ({ outlier }) => 1_000 / outlier.probeIntervalMs,
  },
  { series: CARRIED_LOSS, resource: "loss", label: "loss of what clients are sent", unit: "share", threshold: lossLevel },
  {
    series: "pathLossShare:balancer",
    resource: "loss",
    label: "loss towards the balancer",
    unit: "share",
    threshold: lossLevel,
    probesPerS: () => 1_000 / LIMITS.paths.probeIntervalMs,
    memoryMs: LIMITS.paths.probesKept * LIMITS.paths.probeIntervalMs,
  },
  { series: "innerRttMsP75", resource: "delay", label: "round trip through the tunnel", unit: "ms", threshold: delayLevel },
  { series: "pathRttMs:balancer", resource: "delay", label: "round trip to the balancer", unit: "ms", threshold: delayLevel },
  {
    series: "deviceAnswerMsMax",
    resource: "cpu",
    label: "WireGuard's answers",
    unit: "ms",
    threshold: () => ANSWER_CRITICAL_MS,
  },
  { series: "agentLateMsMax", resource: "cpu", label: "the agent's delay", unit: "ms", threshold: () => ANSWER_CRITICAL_MS },
  { series: "cpuShare", resource: "cpu", label: "CPU", unit: "share", threshold: ({ thresholds }) => thresholds.cpuCritical },
  {
    series: "cpuPressureShare",
    resource: "cpu",
    label: "waiting for the CPU",
    unit: "share",
    threshold: ({ thresholds }) => thresholds.cpuCritical,
  },
  { series: "cpuStealShare", resource: "cpu", label: "CPU stolen", unit: "share", threshold: () => STEAL_CRITICAL_SHARE },
  { series: "memoryShare", resource: "memory", label: "memory", unit: "share", threshold: () => MEMORY_FULL_SHARE },
  {
    series: "memoryFullPressureShare",
    resource: "memory",
    label: "waiting for memory",
    unit: "share",
    threshold: () => MEMORY_STALLED_SHARE,
  },
];

/** Priors: the chance that an endpoint of which this was seen within the window fails in the next one. Stated, to be replaced by what is learned. */
const EVENT_PRIORS: readonly { series: string; label: string; prior: Estimate }[] = [
  {
    series: "oomKillsPerS",
    label: "the kernel killed a process for want of memory",
    prior: { value: 0.5, low: 0.2, high: 0.8 },
  },
  {
    series: "memoryUncorrectedErrorsPerS",
    label: "memory errors could not be corrected",
    prior: { value: 0.6, low: 0.3, high: 0.9 },
  },
  { series: "diskErrorsPerS", label: "the disk reports errors", prior: { value: 0.2, low: 0.05, high: 0.5 } },
  // A deed that is announced, and a guess that holds often enough to send new sessions elsewhere.
  {
    series: "interruptionNotice",
    label: "the provider takes its Spot capacity back within two minutes",
    prior: { value: 0.99, low: 0.95, high: 1 },
  },
  {
    series: "rebalanceNotice",
    label: "the provider is likely to take its Spot capacity back",
    prior: { value: 0.5, low: 0.3, high: 0.7 },
  },
  { series: "thermalThrottlesPerS", label: "the CPU is throttled for its heat", prior: { value: 0.1, low: 0.02, high: 0.3 } },
];
const ANOMALY_PRIOR: Estimate = { value: 0.2, low: 0.02, high: 0.5 };
/** What a feed says of itself is not exact. */
const OUTSIDE_SPREAD = 0.15;

/** Spans of the past that trends are looked for in, as shares of the window looked ahead. */
const SPAN_SHARES = [1 / 3, 2 / 3, 3 / 2];
/** A line that goes on as it did is a model, and models err: so much of what it says is believed, and at the lower bound. */
const LINE_TRUST = 0.95;
const LINE_TRUST_LOW = 0.85;
const POINTS_MIN = 12;
const FRESH_MS = 15_000;

/** Everything that evidence is looked for in. */
export const WATCHED_SERIES: readonly string[] = ["sessions", ...[...WATCHED, ...EVENT_PRIORS].map(({ series }) => series)];

/**
 * One score from all the evidence there is. Terms are the strongest first. Independent causes add up as such. A trained model has seen
 * the same telemetry that trends and anomalies are found in, so of these the highest counts, value and bounds each for itself: what it has
 * not met before can still raise the risk, and nothing counts twice. The stated prior of an event that it has learned gives way to it. What
 * happens outside is in no telemetry and stays a cause of its own.
 */
export function scoreEvidence(evidence: Evidence, spec: SwarmSpec): RiskScore {
  const { windowMs } = spec.foresight;
  const { learned } = evidence;
  const growth = growthTerm(evidence, spec) ?? [];
  const trends = WATCHED.flatMap((watched) => watchedTerm(watched, evidence, spec) ?? []).concat(growth);
  const trend = best(trends)?.estimate ?? NO_RISK;
  const events = EVENT_PRIORS.filter(({ series }) => learned?.knows.has(series) !== true).flatMap(
    (event) => eventTerm(event, evidence, windowMs) ?? [],
  );
  const outside = outsideTerms(evidence);
  const anomaly = anomalyTerm(evidence);
  const estimates = (findings: readonly Finding[]) => findings.map(({ estimate }) => estimate);
  const seen =
    learned === undefined ? anyOf([trend, ...estimates(anomaly)]) : highest([learned.failure, trend, ...estimates(anomaly)]);
  const failure = anyOf([seen, ...estimates(events), ...estimates(outside)]);
  const said = learned === undefined ? [] : [{ name: "model", text: learned.text, estimate: learned.failure }];
  const others = [...said, ...events, ...outside, ...anomaly];
  const load = overload(evidence, spec);
  const terms = [...trends, ...others, ...(load.term === undefined ? [] : [load.term])]
    .filter(({ estimate }) => estimate.value >= TERM_SHOWN_MIN)
    .toSorted((a, b) => b.estimate.low - a.estimate.low || b.estimate.value - a.estimate.value)
    .map(({ name, text, estimate }): RiskTerm => ({ name, text, value: estimate.value }));
  return {
    endpoint: evidence.endpoint,
    atMs: evidence.atMs,
    failure,
    overload: load.estimate,
    carriesSignal: hasSignal(evidence) || evidence.outside.value > 0,
    terms,
  };
}

/** Weaker evidence than this is not worth a sentence. */
const TERM_SHOWN_MIN = 0.02;

interface Finding {
  readonly name: string;
  readonly text: string;
  readonly estimate: Estimate;
}

function watchedTerm(watched: Watched, evidence: Evidence, spec: SwarmSpec): Finding | undefined {
  const threshold = watched.threshold(spec, evidence.medianRttMs, evidence.rttSpreadMs);
  const points = evidence.series[watched.series];
  if (threshold === undefined || points === undefined) return undefined;
  const kind = { comesAndGoes: comesAndGoes(watched), probesPerS: watched.probesPerS?.(spec) };
  const surest = (values: readonly Point[]) => surestCrossing(values, threshold, spec.foresight.windowMs, evidence.atMs, kind);
  let found = surest(points);
  if (found === undefined || found.trend.slope === 0 || found.probability.value < TERM_SHOWN_MIN) return undefined;
  const own = watched.resource === "loss" ? ownLosses(points, evidence, threshold, watched.memoryMs) : points;
  const beyond = beyondOthers(own, evidence.others?.(watched.series) ?? []);
  if (beyond !== points) found = surest(beyond);
  if (found === undefined || found.trend.slope === 0) return undefined;
  const { level } = found.trend;
  const when = found.inMs === undefined ? "it is there" : `it reaches ${shown(threshold, watched.unit)} in ${span(found.inMs)}`;
  const text = `${watched.label} is ${shown(level, watched.unit)} and rising; at this rate ${when}`;
  return { name: watched.resource, text, estimate: found.probability };
}

/** Less what was lost while the others lost too, be it probes or packets. */
function ownLosses(points: readonly Point[], { others }: Evidence, level: number, memoryMs = 0): readonly Point[] {
  if (others === undefined) return points;
  const losses = WATCHED.filter(({ resource }) => resource === "loss").map(({ series }) => others(series));
  return withoutSharedLosses(points, losses, level, memoryMs);
}

/** Of the traffic's own loss, which has no reading of its own moment before it: growth by a factor, seen while it is small. */
function growthTerm({ series, others, ...rest }: Evidence, spec: SwarmSpec): Finding | undefined {
  const { windowMs } = spec.foresight;
  const level = lossLevel(spec);
  const points = series[CARRIED_LOSS] ?? [];
  const found = GROWTH_SPAN_SHARES.flatMap((share) => {
    const recent = points.filter(({ atMs }) => atMs > rest.atMs - windowMs * share);
    if (lossGrowth(recent, level, windowMs) === undefined) return [];
    const own = ownLosses(recent, { series, others, ...rest }, level);
    const growth = lossGrowth(beyondOthers(own, others?.(CARRIED_LOSS) ?? []), level, windowMs);
    return growth === undefined ? [] : [growthFinding(growth, level)];
  });
  return best(found);
}

function growthFinding({ factorPerS, inMs, level, probability }: LossGrowth, threshold: number): Finding {
  const { value, low, high } = probability;
  const estimate = orderly({ value: value * LINE_TRUST, low: low * LINE_TRUST_LOW, high });
  const when = inMs === undefined ? "it is there" : `it reaches ${shown(threshold, "share")} in ${span(inMs)}`;
  const faster = Math.round((factorPerS - 1) * 100);
  const text = `loss of what clients are sent is ${shown(level, "share")} and grows by ${faster} % a second; at this rate ${when}`;
  return { name: "loss", text, estimate };
}

/** What fills up stays full; loads and delays come and go. */
function comesAndGoes({ resource }: Watched): boolean {
  return resource === "delay" || resource === "cpu";
}

interface RiseKind {
  readonly comesAndGoes?: boolean;
  /** What moves from machine to machine at once: a step of it is no growth. */
  readonly comesInSteps?: boolean;
  readonly probesPerS?: number | undefined;
}

/** Of several spans of the past the one whose lower bound is highest: a slow creep needs a long one, a steep rise a short one. */
export function surestCrossing(
  points: readonly Point[],
  threshold: number,
  windowMs: number,
  nowMs: number,
  kind: RiseKind = {},
): Crossing | undefined {
  const { probesPerS, comesInSteps = false } = kind;
  let surest: Crossing | undefined;
  for (const share of SPAN_SHARES) {
    const recent = since(points, nowMs - windowMs * share);
    if (recent.length < POINTS_MIN) continue;
    if (probesPerS !== undefined && probesLost(recent, probesPerS) < LIMITS.plan.lossMissesMin) continue;
    const plain = crossingOf(recent, threshold, windowMs, kind);
    if (plain === undefined) continue;
    // A step is looked for only where there is something to take back.
    const isRise = comesInSteps && plain.trend.slope > 0 && plain.probability.value >= TERM_SHOWN_MIN;
    const stepless = isRise ? crossingOf(withoutStep(recent), threshold, windowMs, kind) : undefined;
    const found = stepless !== undefined && stepless.probability.low < plain.probability.low ? stepless : plain;
    if (surest === undefined || found.probability.low > surest.probability.low) surest = found;
  }
  return surest;
}

function crossingOf(points: readonly Point[], threshold: number, windowMs: number, kind: RiseKind): Crossing | undefined {
  const trend = trendOf(points);
  return trend === undefined ? undefined : believed(crossing(trend, threshold, windowMs), kind);
}

/** A share over a window counts each lost probe as long as the window is, so its mean over time is that of the probes. */
function probesLost(points: readonly Point[], probesPerS: number): number {
  const sum = points.reduce((total, { value }) => total + (Number.isFinite(value) ? value : 0), 0);
  return (sum * probesPerS * LIMITS.telemetry.stepMs) / 1_000;
}

/** Those after a moment, of points in the order of time. */
function since(points: readonly Point[], atMs: number): readonly Point[] {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((points[middle]?.atMs ?? 0) > atMs) high = middle;
    else low = middle + 1;
  }
  return low === 0 ? points : points.slice(low);
}

/**
 * What comes and goes is as likely to go on for another while as it has lasted: a share `span / (span + rest)` of such rises lasts the
 * rest of the way (the rule of Gott 1993 for anything met at a random moment of its life).
 */
function believed(found: Crossing, { comesAndGoes = false }: RiseKind): Crossing {
  const { value, low, high } = found.probability;
  const { spanMs } = found.trend;
  const lasts = !comesAndGoes || found.inMs === undefined ? 1 : spanMs / (spanMs + found.inMs);
  return { ...found, probability: orderly({ value: value * LINE_TRUST * lasts, low: low * LINE_TRUST_LOW * lasts, high }) };
}

/** That the sessions of the endpoint outgrow what it can carry. */
function overload(evidence: Evidence, spec: SwarmSpec): { estimate: Estimate; term: Finding | undefined } {
  const { capacitySessions } = spec.endpoints;
  const { windowMs } = spec.foresight;
  const { atMs: nowMs } = evidence;
  const points = evidence.series["sessions"];
  if (evidence.sessions >= capacitySessions) {
    const estimate = { value: 1, low: 1, high: 1 };
    const text = `${evidence.sessions} sessions, and it carries ${capacitySessions}`;
    return { estimate, term: { name: "overload", text, estimate } };
  }
  const found =
    points === undefined ? undefined : surestCrossing(points, capacitySessions, windowMs, nowMs, { comesInSteps: true });
  if (found === undefined || found.trend.slope === 0) return { estimate: NO_RISK, term: undefined };
  const when = found.inMs === undefined ? "now" : `in ${span(found.inMs)}`;
  const text = `${evidence.sessions} sessions and growing; it carries ${capacitySessions}, which is reached ${when}`;
  return { estimate: orderly(found.probability), term: { name: "overload", text, estimate: found.probability } };
}

function eventTerm(
  { series, label, prior }: (typeof EVENT_PRIORS)[number],
  evidence: Evidence,
  windowMs: number,
): Finding | undefined {
  const recent = since(evidence.series[series] ?? [], evidence.atMs - windowMs);
  return recent.some(({ value }) => value > 0) ? { name: "event", text: label, estimate: prior } : undefined;
}

function outsideTerms({ outside }: Evidence): readonly Finding[] {
  if (!(outside.value > 0)) return [];
  const { value } = outside;
  const estimate = orderly({ value, low: value * (1 - OUTSIDE_SPREAD), high: value * (1 + OUTSIDE_SPREAD) });
  return [{ name: "outside", text: outside.terms[0]?.text ?? "an outside event", estimate }];
}

function anomalyTerm({ anomaly }: Evidence): readonly Finding[] {
  if (anomaly === undefined || !(anomaly.severity > 0)) return [];
  const scale = (part: number) => part * Math.min(1, anomaly.severity);
  const estimate = { value: scale(ANOMALY_PRIOR.value), low: scale(ANOMALY_PRIOR.low), high: scale(ANOMALY_PRIOR.high) };
  return [{ name: "anomaly", text: anomaly.text, estimate }];
}

function best(findings: readonly Finding[]): Finding | undefined {
  return findings.reduce<Finding | undefined>(
    (held, next) => (held !== undefined && held.estimate.low >= next.estimate.low ? held : next),
    undefined,
  );
}

/** Enough of it, and fresh: silence is for the reflex to judge, not for a prediction. */
function hasSignal({ atMs, series }: Evidence): boolean {
  return Object.values(series).some((points) => {
    const last = points.at(-1);
    return points.length >= POINTS_MIN && last !== undefined && atMs - last.atMs <= FRESH_MS;
  });
}

export function lossLevel({ thresholds }: SwarmSpec): number {
  return thresholds.lossDegraded;
}

/** As reaction has it: where all are slow and far apart, nobody stands out for being the slowest. */
export function delayLevel({ thresholds }: SwarmSpec, medianRttMs: number | undefined, rttSpreadMs = 0): number | undefined {
  if (medianRttMs === undefined) return undefined;
  const excessMs = Math.max(thresholds.rttExcessMsMin, LIMITS.plan.rttSpreads * rttSpreadMs);
  return Math.max(medianRttMs * thresholds.rttFactor, medianRttMs + excessMs);
}

function shown(value: number, unit: "share" | "ms"): string {
  return unit === "share" ? `${Number((value * 100).toFixed(1))} %` : `${Number(value.toFixed(1))} ms`;
}

function span(ms: number): string {
  return ms < 120_000 ? `${Math.round(ms / 1_000)} s` : `${Math.round(ms / 60_000)} min`;
}
