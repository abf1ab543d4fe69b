/**
 * From what is measured of one endpoint to what is believed of it: healthy, degraded, critical, how badly, and why in words.
 * Enter and leave levels differ, so that a value that hovers about a threshold does not flap.
 */
import { LIMITS } from "./limits.ts";
import type { EndpointObservation, Observation } from "./observation.ts";
import type { Thresholds } from "./swarm-spec.ts";
import type { EndpointRecord, Signal } from "./swarm-state.ts";

export interface Reading {
  readonly signal: Signal;
  /** 0 at the threshold of degraded, 1 at that of critical. */
  readonly severity: number;
  /** Short name of what is wrong, for search attributes; empty when healthy. */
  readonly cause: string;
  /** Metric, value and threshold, for a person. */
  readonly text: string;
}

/** What each member's round trip is held against. */
export interface RoundTrips {
  /** The lower median of the members'. */
  readonly medianMs: number;
  /**
   * How far apart they are anyway: their median absolute deviation, scaled to the standard deviation of a normal distribution. Where
   * everybody is slow, as on a machine that many share, they are far apart as well, and nobody stands out for being the slowest.
   */
  readonly spreadMs: number;
}

/** Undefined before any answer. */
export function roundTrips(observation: Observation): RoundTrips | undefined {
  const trips = observation.endpoints
    .filter((one) => isServing(one) && one.innerProbes >= LIMITS.plan.probesMin)
    .map((one) => one.innerRttMsP75)
    .filter((trip) => trip !== undefined && trip !== null);
  return roundTripsOf(trips);
}

/** Milliseconds; undefined of none. */
export function roundTripsOf(trips: readonly number[]): RoundTrips | undefined {
  const medianMs = lowerMedian(trips);
  if (medianMs === undefined) return undefined;
  return { medianMs, spreadMs: MAD_SCALE * (lowerMedian(trips.map((trip) => Math.abs(trip - medianMs))) ?? 0) };
}

/** Of a normal distribution: standard deviation over median absolute deviation. */
const MAD_SCALE = 1.4826;

function lowerMedian(values: readonly number[]): number | undefined {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)];
}

/** A running member that the balancer sends clients to. */
export function isServing(one: EndpointObservation): boolean {
  return one.machine === "running" && typeof one.weight === "number" && !one.draining && !one.ejected;
}

/** Whether its probes come back through the tunnel as they should, whatever its heartbeats say. */
export function dataPathIsFine(one: EndpointObservation, thresholds: Thresholds): boolean {
  return isServing(one) && one.innerProbes >= LIMITS.plan.probesMin && one.innerLoss < thresholds.lossDegraded;
}

/** What the observation says of an endpoint of which `record` was believed. */
export function read(
  one: EndpointObservation,
  record: EndpointRecord | undefined,
  thresholds: Thresholds,
  peers: RoundTrips | undefined,
): Reading {
  if (one.revoked === true) return { signal: "critical", severity: 1, cause: "revoked", text: "it was revoked" };
  if (one.machine === "gone") return { signal: "critical", severity: 1, cause: "machine-gone", text: "its machine is gone" };
  if (one.ejected) return { signal: "critical", severity: 1, cause: "ejected", text: "the reflex has ejected it" };
  const before = record?.signal ?? "healthy";
  const readings = [...readLoss(one, before, record?.lossAtOnset ?? 0, thresholds), ...readTunnel(one)];
  readings.push(...readCpu(one, before, thresholds), ...readRtt(one, before, thresholds, peers));
  const worst = readings.reduce<Reading | undefined>(
    (held, next) => (held && rank(held) >= rank(next) ? held : next),
    undefined,
  );
  if (worst !== undefined) return worst;
  if (before !== "healthy" && one.innerProbes < LIMITS.plan.probesMin) {
    const text = `only ${one.innerProbes} probes so far; believed ${before} before`;
    return { signal: before, severity: 0, cause: "few-probes", text };
  }
  return { signal: "healthy", severity: 0, cause: "", text: "loss, round trip and CPU are within bounds" };
}

function rank(reading: Reading): number {
  return (reading.signal === "critical" ? 2 : 1) + reading.severity / 2;
}

function readLoss(one: EndpointObservation, before: Signal, onset: number, thresholds: Thresholds): Reading[] {
  if (one.innerProbes < LIMITS.plan.probesMin) return [];
  const { lossDegraded, lossCritical } = thresholds;
  const misses = Math.round(one.innerLoss * one.innerProbes);
  const enough = before === "healthy" ? LIMITS.plan.lossMissesMin : 1;
  if (misses < enough) return [];
  const loss = `loss through the tunnel ${percent(one.innerLoss)}`;
  const critical: Reading = {
    signal: "critical",
    severity: 1,
    cause: "loss",
    text: `${loss} (${bounds("critical", lossCritical)})`,
  };
  if (one.innerLoss >= lossCritical) return [critical];
  if (!reaches(one.innerLoss, lossDegraded, before !== "healthy")) return [];
  const severity = share(one.innerLoss, lossDegraded, lossCritical);
  const rise = (lossCritical * LIMITS.plan.lossRiseSharePercent) / 100;
  if (before !== "healthy" && reaches(one.innerLoss - onset, rise, before === "critical")) {
    const text = `${loss} and rising, from ${percent(onset)} (${bounds("degraded", lossDegraded)}, rising by ${percent(rise)})`;
    return [{ signal: "critical", severity, cause: "rising-loss", text }];
  }
  if (reaches(one.innerLoss, lossCritical, before === "critical")) return [critical];
  return [{ signal: "degraded", severity, cause: "loss", text: `${loss} (${bounds("degraded", lossDegraded)})` }];
}

/** The agent says the tunnel is down: only as long as its heartbeats are fresh. */
function readTunnel(one: EndpointObservation): Reading[] {
  if (one.tunnelUp !== false || !isFresh(one)) return [];
  return [{ signal: "critical", severity: 1, cause: "tunnel-down", text: "its agent reports that the tunnel is down" }];
}

function readCpu(one: EndpointObservation, before: Signal, thresholds: Thresholds): Reading[] {
  if (!isFresh(one)) return [];
  const used = one.cpuShare ?? 0;
  const waiting = one.cpuPressure ?? 0;
  const cpu = Math.max(used, waiting);
  const name = used >= waiting ? "CPU" : "waiting for the CPU";
  const { cpuDegraded, cpuCritical } = thresholds;
  if (reaches(cpu, cpuCritical, before === "critical")) {
    return [
      {
        signal: "critical",
        severity: 1,
        cause: "cpu",
        text: `${name} ${percent(cpu)} (${bounds("critical", cpuCritical)})`,
      },
    ];
  }
  if (!reaches(cpu, cpuDegraded, before !== "healthy")) return [];
  const severity = share(cpu, cpuDegraded, cpuCritical);
  return [{ signal: "degraded", severity, cause: "cpu", text: `${name} ${percent(cpu)} (${bounds("degraded", cpuDegraded)})` }];
}

function readRtt(
  one: EndpointObservation,
  before: Signal,
  { rttFactor, rttExcessMsMin }: Thresholds,
  peers: RoundTrips | undefined,
): Reading[] {
  const trip = one.innerRttMsP75 ?? undefined;
  if (trip === undefined || peers === undefined || one.innerProbes < LIMITS.plan.probesMin) return [];
  const { medianMs, spreadMs } = peers;
  const on = before !== "healthy";
  const excessMs = Math.max(rttExcessMsMin, LIMITS.plan.rttSpreads * spreadMs);
  if (trip <= medianMs || !reaches(trip, medianMs * rttFactor, on) || !reaches(trip - medianMs, excessMs, on)) return [];
  const severity = share(trip, medianMs * rttFactor, medianMs * rttFactor * 3 + excessMs);
  const bound = `degraded from ${rttFactor} times the swarm's median of ${milliseconds(medianMs)} and ${milliseconds(excessMs)} above it`;
  return [{ signal: "degraded", severity, cause: "rtt", text: `round trip's upper quartile ${milliseconds(trip)} (${bound})` }];
}

function isFresh(one: EndpointObservation): boolean {
  return typeof one.heartbeatAgeMs === "number" && one.heartbeatAgeMs <= LIMITS.plan.heartbeatFreshMs;
}

/** A signal that is on stays on down to a share of the level that turned it on. */
function reaches(value: number, level: number, on: boolean): boolean {
  return value >= (on ? (level * LIMITS.plan.leaveSharePercent) / 100 : level);
}

function share(value: number, from: number, to: number): number {
  return to <= from ? 1 : Math.min(1, Math.max(0, (value - from) / (to - from)));
}

/** The level a signal comes on at, and the lower one it goes off at. */
function bounds(signal: Signal, level: number): string {
  return `${signal} from ${percent(level)} until below ${percent((level * LIMITS.plan.leaveSharePercent) / 100)}`;
}

function percent(part: number): string {
  return `${Number((part * 100).toFixed(1))} %`;
}

function milliseconds(value: number): string {
  return `${Number(value.toFixed(1))} ms`;
}
