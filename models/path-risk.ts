/**
 * The risk of ways: from a region of clients over an endpoint to an upstream. Its legs are what agents measure towards the balancer, where
 * clients come in, and towards the other endpoints; its ends are the regions that outside events may reach. The machine itself is
 * no part of it: that is the endpoint's own score.
 */
import { delayLevel, lossLevel, surestCrossing } from "./evidence.ts";
import { LIMITS } from "./limits.ts";
import { type OutsideEvent, outsideRisk, type Place, placeOf } from "./outside-events.ts";
import { anyOf, type Estimate, highest, orderly, type PathRisk, type RiskTerm } from "./risk.ts";
import type { SwarmSpec } from "./swarm-spec.ts";
import { splitSeries } from "./telemetry.ts";
import type { Point } from "./trend.ts";

/** Metrics of the legs, each with a label for the far end. */
export const PATH_METRICS = ["pathRttMs", "pathJitterMs", "pathLossShare"] as const;
type PathMetric = (typeof PATH_METRICS)[number];

/** The far end of the leg on which clients come in. */
const BALANCER = "balancer";
/** An upstream that the swarm file does not name. */
const UPSTREAM_DEFAULT = "internet";
/** With fewer other endpoints the trouble may be theirs. */
const FAR_ENDS_MIN = 2;
/** What a feed says of itself is not exact. */
const OUTSIDE_SPREAD = 0.15;
const TERM_SHOWN_MIN = 0.02;

export interface PathEvidence {
  readonly endpoint: string;
  readonly atMs: number;
  readonly place: Place;
  /** Of PATH_METRICS, by name with label, in the order of time. */
  readonly series: Readonly<Record<string, readonly Point[]>>;
}

interface Finding {
  readonly name: string;
  readonly text: string;
  readonly estimate: Estimate;
}

/** One for each region of clients and each upstream of each endpoint. `evidence`: of all endpoints, so that usual round trips are known. */
export function pathRisks(
  evidence: readonly PathEvidence[],
  events: readonly OutsideEvent[],
  spec: SwarmSpec,
): readonly PathRisk[] {
  const legs = evidence.map((one) => ({ one, near: legOf(one, [BALANCER]), far: legOf(one, farEnds(one)) }));
  const usualNear = usualOf(legs.map(({ near }) => near));
  const usualFar = usualOf(legs.map(({ far }) => far));
  return legs.flatMap(({ one, near, far }) => {
    const ways = [
      ...legFindings(near, "clients", "the way to the balancer", usualNear, spec, one.atMs),
      ...legFindings(far, "upstream", "the way to the other endpoints", usualFar, spec, one.atMs),
    ];
    return routesOf(spec).map(({ clients, upstream, regions }): PathRisk => {
      const around = regions
        .filter(({ place }) => place.region !== one.place.region)
        .flatMap(({ name, place }) => regionFinding(name, place, events, one.atMs, spec.foresight.windowMs) ?? []);
      const risk = anyOf([highest(ways.map(({ estimate }) => estimate)), ...around.map(({ estimate }) => estimate)]);
      return { clients, endpoint: one.endpoint, upstream, risk, terms: termsOf([...ways, ...around]) };
    });
  });
}

interface Route {
  readonly clients: string;
  readonly upstream: string;
  readonly regions: readonly { readonly name: string; readonly place: Place }[];
}

/** Without any statement: clients and upstream where the swarm is. */
function routesOf(spec: SwarmSpec): readonly Route[] {
  const home = placeOf(spec).region;
  const { clientRegions, upstreams } = spec.paths ?? { clientRegions: [], upstreams: [] };
  const clients = clientRegions.length === 0 ? [home] : clientRegions;
  const far = upstreams.length === 0 ? [{ name: UPSTREAM_DEFAULT, region: home }] : upstreams;
  return clients.flatMap((region) =>
    far.map(({ name, region: stated }) => ({
      clients: region,
      upstream: name,
      regions: [
        { name: `the clients' region ${region}`, place: { region } },
        { name: `the region of ${name}`, place: { region: stated ?? home } },
      ],
    })),
  );
}

type Leg = Readonly<Record<PathMetric, readonly Point[]>>;

function farEnds({ series }: PathEvidence): readonly string[] {
  const labels = new Set(Object.keys(series).flatMap((name) => splitSeries(name).label ?? []));
  labels.delete(BALANCER);
  return labels.size < FAR_ENDS_MIN ? [] : [...labels];
}

/** The middle of the far ends at each moment: what one alone shows is that one's trouble. */
function legOf({ series }: PathEvidence, ends: readonly string[]): Leg {
  const leg = (metric: PathMetric): readonly Point[] => {
    const all = ends.map((end) => series[`${metric}:${end}`] ?? []);
    if (all.length === 1) return all[0] ?? [];
    const values = new Map<number, number[]>();
    for (const { atMs, value } of all.flat()) values.set(atMs, [...(values.get(atMs) ?? []), value]);
    return [...values]
      .filter(([, held]) => held.length >= FAR_ENDS_MIN)
      .toSorted(([a], [b]) => a - b)
      .map(([atMs, held]) => ({ atMs, value: middle(held) ?? 0 }));
  };
  return { pathRttMs: leg("pathRttMs"), pathJitterMs: leg("pathJitterMs"), pathLossShare: leg("pathLossShare") };
}

/** How the endpoints' own middle values lie: where all are slow, or far apart, nobody stands out. */
interface Usual {
  readonly middleMs: number | undefined;
  readonly spreadMs: number;
}

type UsualLeg = Readonly<Record<"pathRttMs" | "pathJitterMs", Usual>>;

function usualOf(legs: readonly Leg[]): UsualLeg {
  const of = (metric: "pathRttMs" | "pathJitterMs"): Usual => {
    const own = legs.flatMap((leg) => middle(leg[metric].map(({ value }) => value)) ?? []);
    const middleMs = middle(own);
    return { middleMs, spreadMs: middle(own.map((value) => Math.abs(value - (middleMs ?? value)))) ?? 0 };
  };
  return { pathRttMs: of("pathRttMs"), pathJitterMs: of("pathJitterMs") };
}

/** Loss, round trip and jitter that are, or are on their way to, what the swarm file calls degraded. */
function legFindings(
  leg: Leg,
  name: string,
  way: string,
  { pathRttMs: trip, pathJitterMs: jitter }: UsualLeg,
  spec: SwarmSpec,
  nowMs: number,
): readonly Finding[] {
  const levels: Readonly<Record<PathMetric, number | undefined>> = {
    pathRttMs: delayLevel(spec, trip.middleMs, trip.spreadMs),
    pathJitterMs: delayLevel(spec, jitter.middleMs, jitter.spreadMs),
    pathLossShare: lossLevel(spec),
  };
  return PATH_METRICS.flatMap((metric) => {
    const level = levels[metric];
    const kind = metric === "pathLossShare" ? { probesPerS: 1_000 / LIMITS.paths.probeIntervalMs } : { comesAndGoes: true };
    const found = level === undefined ? undefined : surestCrossing(leg[metric], level, spec.foresight.windowMs, nowMs, kind);
    if (level === undefined || found === undefined) return [];
    const text = `${way}: ${LABELS[metric]} ${shown(metric, found.trend.level)}, and ${shown(metric, level)} is degraded`;
    return [{ name, text, estimate: orderly(found.probability) }];
  });
}

const LABELS: Readonly<Record<PathMetric, string>> = {
  pathRttMs: "the round trip is",
  pathJitterMs: "the jitter is",
  pathLossShare: "the loss is",
};

function regionFinding(
  name: string,
  place: Place,
  events: readonly OutsideEvent[],
  nowMs: number,
  windowMs: number,
): Finding | undefined {
  const { value, terms } = outsideRisk(events, place, nowMs, windowMs);
  if (!(value > 0)) return undefined;
  const estimate = orderly({ value, low: value * (1 - OUTSIDE_SPREAD), high: value * (1 + OUTSIDE_SPREAD) });
  return { name: "outside", text: `${name}: ${terms[0]?.text ?? "an outside event"}`, estimate };
}

function termsOf(findings: readonly Finding[]): readonly RiskTerm[] {
  return findings
    .filter(({ estimate }) => estimate.value >= TERM_SHOWN_MIN)
    .toSorted((a, b) => b.estimate.value - a.estimate.value)
    .map(({ name, text, estimate }) => ({ name, text, value: estimate.value }));
}

function middle(values: readonly number[]): number | undefined {
  const sorted = values.filter((value) => Number.isFinite(value)).toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)];
}

function shown(metric: PathMetric, value: number): string {
  return metric === "pathLossShare" ? `${Number((value * 100).toFixed(1))} %` : `${Number(value.toFixed(1))} ms`;
}
