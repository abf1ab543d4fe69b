/**
 * Health monitor: the metrics of all endpoints of a swarm come in, the anomalies that hold come out, each with its severity and one
 * sentence that says why. It learns as it goes, and leaves the choice of what to do to others.
 */
import { LIMITS } from "../limits.ts";
import { parseInput } from "../parse.ts";
import { METRICS, splitSeries } from "../telemetry.ts";
import { type Case, follow, kindOf, severityOf } from "./case.ts";
import { changePoint } from "./change-point.ts";
import { Grain, type HealthSamples, type Means, PeerTable } from "./grain.ts";
import { HealthState } from "./health-state.ts";
import { JointOutlier } from "./joint-outlier.ts";
import { type Evidence, GRAINS, SeriesHealth } from "./series-health.ts";
import { caseText } from "./words.ts";

export interface HealthAnomaly {
  readonly endpoint: string;
  /** The series that show it, the strongest first. */
  readonly metrics: readonly string[];
  /** 0..1. */
  readonly severity: number;
  /** Unix milliseconds at which it began, as far as can be told. */
  readonly sinceMs: number;
  /** `step`: the level has changed and stays. `joint`: metrics that do not go together as usual. */
  readonly kind: "spike" | "step" | "joint";
  /** `everybody`: most peers show the same, so the cause is not the endpoint's own. */
  readonly scope: "endpoint" | "everybody";
  readonly explanation: string;
}

interface Watched {
  readonly health: SeriesHealth;
  /** The strengths of the newest grains, the newest last. */
  votes: number[];
  seenAtMs: number;
}

interface WatchedEndpoint {
  readonly series: Map<string, Watched>;
  readonly joint: JointOutlier;
  jointVotes: number[];
  seenAtMs: number;
}

export class HealthMonitor {
  readonly #unitOf: (series: string) => string;
  readonly #endpoints = new Map<string, WatchedEndpoint>();
  /** By endpoint and series; closed ones too while their rest lasts. */
  readonly #cases = new Map<string, Case>();
  #grainIndex = Number.NEGATIVE_INFINITY;
  #grain = new Grain();
  #seenAtMs = 0;

  /** `unitOf` a series, "" where it has none; by default the telemetry's catalogue. */
  constructor(unitOf: (series: string) => string = catalogueUnit) {
    this.#unitOf = unitOf;
  }

  /**
   * Takes the values of one moment (Unix milliseconds) of all endpoints, as often as they come, and gives the anomalies that hold,
   * the most severe first. Values within 5 s are averaged and judged once the next 5 s begin; older ones come too late.
   */
  observe(atMs: number, samples: HealthSamples): readonly HealthAnomaly[] {
    const index = Math.floor(atMs / GRAINS.fastMs);
    if (!Number.isFinite(index) || index < this.#grainIndex) return this.anomalies();
    if (index > this.#grainIndex) {
      if (!this.#grain.isEmpty) this.#judge(this.#grain.means(), (this.#grainIndex + 1) * GRAINS.fastMs);
      this.#grainIndex = index;
      this.#grain = new Grain();
    }
    this.#grain.take(samples);
    return this.anomalies();
  }

  /** One for each endpoint and scope: what goes on at the same time on the same endpoint is told together. */
  anomalies(): readonly HealthAnomaly[] {
    const groups = Map.groupBy(
      [...this.#cases.values()].filter(({ closedAtMs }) => closedAtMs === undefined),
      ({ endpoint, scope }) => `${scope} ${endpoint}`,
    );
    const anomalies = [...groups.values()].flatMap((cases) => this.#anomaly(cases));
    return anomalies.sort((one, other) => other.severity - one.severity);
  }

  #anomaly(cases: readonly Case[]): readonly HealthAnomaly[] {
    const [worst, ...others] = cases.toSorted((one, other) => severityOf(other) - severityOf(one));
    if (worst === undefined) return [];
    const metrics = [...new Set([worst, ...others].flatMap((one) => one.metrics))].slice(0, LIMITS.health.metricsNamedMax);
    return [
      {
        endpoint: worst.endpoint,
        metrics,
        severity: severityOf(worst),
        sinceMs: Math.min(...cases.map(({ sinceMs }) => sinceMs)),
        kind: kindOf(worst, this.#seenAtMs),
        scope: worst.scope,
        explanation: caseText(
          worst,
          this.#unitOf,
          metrics.filter((metric) => !worst.metrics.includes(metric)),
        ),
      },
    ];
  }

  #judge(means: Means, atMs: number): void {
    this.#seenAtMs = atMs;
    const evidence = new Map<string, Map<string, Evidence>>();
    const peers = new PeerTable(means);
    for (const [endpoint, values] of means) {
      const watched = this.#endpoint(endpoint, atMs);
      const found = new Map<string, Evidence>();
      for (const [series, value] of values) {
        const one = this.#series(watched, series, atMs);
        if (one !== undefined) found.set(series, one.health.observe(value, peers.of(series, value), atMs));
      }
      evidence.set(endpoint, found);
    }
    const showing = countShowing(evidence);
    for (const [endpoint, found] of evidence) {
      for (const [series, one] of found) {
        this.#weigh(endpoint, series, one, found.size, showing.get(series) ?? 0, peers.reporting(series), atMs);
      }
      this.#weighTogether(endpoint, found, atMs);
    }
    this.#forget(atMs);
  }

  #weigh(
    endpoint: string,
    series: string,
    evidence: Evidence,
    tests: number,
    showing: number,
    reporting: number,
    atMs: number,
  ): void {
    const watched = this.#endpoints.get(endpoint)?.series.get(series);
    if (watched === undefined) return;
    const isEverybody = showing >= LIMITS.health.peersMin && showing > reporting * LIMITS.health.everybodyShare;
    const { own, peers } = evidence;
    const strength = peers === undefined || (isEverybody && own > peers) ? own : strengthOf(own, peers, evidence);
    const enter = enterStrength(tests);
    watched.votes = [...watched.votes, strength].slice(-LIMITS.health.confirmationsOf);
    const key = `${endpoint} ${series}`;
    const known = this.#cases.get(key);
    const { value, peerMedian } = evidence;
    if (known !== undefined && known.closedAtMs === undefined) {
      const isStep = !known.isStep && changePoint(watched.health.recent()) !== undefined;
      this.#cases.set(key, follow(known, { atMs, strength, value, peerMedian, isStep }, enter));
      return;
    }
    if (!isConfirmed(watched.votes, enter) || evidence.expected === undefined) return;
    const change = changePoint(watched.health.recent());
    const ageGrains = change === undefined ? LIMITS.health.confirmations : watched.health.recent().length - change.index;
    const { low, high } = evidence.expected;
    this.#cases.set(key, {
      endpoint,
      metrics: [series],
      isJoint: false,
      sinceMs: known?.sinceMs ?? atMs - ageGrains * GRAINS.fastMs,
      openedAtMs: atMs,
      peak: Math.max(...watched.votes),
      latest: strength,
      scope: isEverybody && own > (peers ?? own) ? "everybody" : "endpoint",
      showing,
      reporting,
      low,
      high,
      value,
      ...(peerMedian === undefined ? {} : { peerMedian }),
      calmGrains: 0,
      isStep: change !== undefined,
    });
  }

  /** All metrics of an endpoint as one; told only where no single one of them is. */
  #weighTogether(endpoint: string, found: ReadonlyMap<string, Evidence>, atMs: number): void {
    const watched = this.#endpoints.get(endpoint);
    if (watched === undefined) return;
    const scores = new Map(
      [...found].flatMap(([series, { score }]) => (score === undefined ? [] : [[series, score] as const])),
    );
    const verdict = watched.joint.observe(scores);
    watched.jointVotes = [...watched.jointVotes, verdict.surprise].slice(-LIMITS.health.confirmationsOf);
    const key = `${endpoint} `;
    const known = this.#cases.get(key);
    const seen = { atMs, strength: verdict.surprise, value: verdict.surprise, peerMedian: undefined, isStep: false };
    const enter = enterStrength(found.size);
    if (known !== undefined && known.closedAtMs === undefined) {
      this.#cases.set(key, follow(known, seen, enter));
      return;
    }
    const isTold = [...found.keys()].some((series) => this.#cases.get(`${endpoint} ${series}`) !== undefined);
    if (isTold || !isConfirmed(watched.jointVotes, enter)) return;
    this.#cases.set(key, {
      endpoint,
      metrics: verdict.contributions.slice(0, LIMITS.health.metricsNamedMax).map(({ metric }) => metric),
      isJoint: true,
      sinceMs: known?.sinceMs ?? atMs - LIMITS.health.confirmations * GRAINS.fastMs,
      openedAtMs: atMs,
      peak: Math.max(...watched.jointVotes),
      latest: verdict.surprise,
      scope: "endpoint",
      showing: 1,
      reporting: 1,
      low: 0,
      high: enter,
      value: verdict.surprise,
      calmGrains: 0,
      isStep: false,
    });
  }

  #endpoint(name: string, atMs: number): WatchedEndpoint {
    const watched = this.#endpoints.get(name) ?? {
      series: new Map(),
      joint: new JointOutlier(),
      jointVotes: [],
      seenAtMs: atMs,
    };
    watched.seenAtMs = atMs;
    this.#endpoints.set(name, watched);
    return watched;
  }

  #series(endpoint: WatchedEndpoint, series: string, atMs: number): Watched | undefined {
    const known = endpoint.series.get(series);
    if (known === undefined && endpoint.series.size >= LIMITS.health.seriesPerEndpointMax) return undefined;
    const watched = known ?? { health: new SeriesHealth(series, this.#unitOf(series)), votes: [], seenAtMs: atMs };
    watched.seenAtMs = atMs;
    endpoint.series.set(series, watched);
    return watched;
  }

  /** Endpoints and series that send nothing any more, and cases whose rest is over or whose series is silent. */
  #forget(atMs: number): void {
    const isPast = (seenAtMs: number, ms: number) => atMs - seenAtMs > ms;
    for (const [name, endpoint] of this.#endpoints) {
      for (const [series, { seenAtMs }] of endpoint.series) {
        if (isPast(seenAtMs, LIMITS.health.forgetAfterMs)) endpoint.series.delete(series);
      }
      if (isPast(endpoint.seenAtMs, LIMITS.health.forgetAfterMs)) this.#endpoints.delete(name);
    }
    for (const [key, one] of this.#cases) {
      const endpoint = this.#endpoints.get(one.endpoint);
      const seenAtMs = (one.isJoint ? endpoint?.seenAtMs : endpoint?.series.get(one.metrics[0] ?? "")?.seenAtMs) ?? 0;
      if (isPast(one.closedAtMs ?? seenAtMs, LIMITS.health.restMs)) this.#cases.delete(key);
    }
  }

  /** Everything it has learned, as plain JSON of bounded size; the values of the grain that is not over yet are left out. */
  snapshot(): HealthState {
    return {
      version: 2,
      seenAtMs: this.#seenAtMs,
      endpoints: [...this.#endpoints].map(([endpoint, { series, joint, jointVotes, seenAtMs }]) => ({
        endpoint,
        seenAtMs,
        joint: joint.snapshot(),
        jointVotes,
        series: [...series].map(([name, one]) => ({
          name,
          votes: one.votes,
          seenAtMs: one.seenAtMs,
          state: one.health.snapshot(),
        })),
      })),
      cases: [...this.#cases].map(([key, one]) => ({ key, case: one })),
    };
  }

  /** A monitor that goes on from a snapshot; INVALID_FIELD where it is none. */
  static restore(snapshot: unknown, unitOf: (series: string) => string = catalogueUnit): HealthMonitor {
    const state = parseInput(HealthState, snapshot, "health snapshot");
    const monitor = new HealthMonitor(unitOf);
    monitor.#seenAtMs = state.seenAtMs;
    for (const { endpoint, seenAtMs, joint, jointVotes, series } of state.endpoints) {
      const watched = monitor.#endpoint(endpoint, seenAtMs);
      watched.joint.restore(joint);
      watched.jointVotes = [...jointVotes];
      for (const { name, votes, seenAtMs: seriesSeenAtMs, state: health } of series) {
        const one = monitor.#series(watched, name, seriesSeenAtMs);
        one?.health.restore(health);
        if (one !== undefined) one.votes = [...votes];
      }
    }
    for (const { key, case: one } of state.cases) monitor.#cases.set(key, one);
    return monitor;
  }
}

function catalogueUnit(series: string): string {
  const { name } = splitSeries(series);
  const catalogue: Readonly<Record<string, { readonly unit: string }>> = METRICS;
  return Object.hasOwn(catalogue, name) ? (catalogue[name]?.unit ?? "") : "";
}

/** For each series the endpoints on which it is unlike its own past. */
function countShowing(evidence: ReadonlyMap<string, ReadonlyMap<string, Evidence>>): ReadonlyMap<string, number> {
  const showing = new Map<string, number>();
  for (const found of evidence.values()) {
    for (const [series, { own }] of found) {
      if (own >= LIMITS.health.enterSurprise) showing.set(series, (showing.get(series) ?? 0) + 1);
    }
  }
  return showing;
}

/** What its own past and its peers say of a value, each by how much it knows. */
function strengthOf(own: number, peers: number, { ownWeight, peersWeight }: Evidence): number {
  const together = ownWeight + peersWeight;
  return together > 0 ? (own * ownWeight + peers * peersWeight) / together : 0;
}

/** More is asked of each the more are looked at (Bonferroni). */
function enterStrength(tests: number): number {
  return LIMITS.health.enterSurprise + Math.log10(Math.max(1, tests));
}

function isConfirmed(votes: readonly number[], enter: number): boolean {
  return votes.filter((vote) => vote >= enter).length >= LIMITS.health.confirmations;
}
