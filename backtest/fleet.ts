/**
 * A made-up fleet under the real chain of models: telemetry -> health monitor -> evidence -> scores -> plan(), second by second. What does
 * automation do to a fleet that is sound, and how early does it leave a machine that is about to fail?
 */

import { scoreEvidence } from "../models/evidence.ts";
import { FAILS_WITHIN } from "../models/foresight.ts";
import { HealthMonitor } from "../models/health/monitor.ts";
import { LIMITS } from "../models/limits.ts";
import type { EndpointObservation, Observation } from "../models/observation.ts";
import { type OutsideEvent, outsideRisk } from "../models/outside-events.ts";
import { PATH_METRICS, pathRisks } from "../models/path-risk.ts";
import {
  initialState,
  type Plan,
  plan,
  recordDisruptionEnd,
  recordLaunchEnd,
  recordReliefEnd,
  type SwarmState,
  takeScores,
} from "../models/plan.ts";
import type { ScoredEndpoint } from "../models/risk.ts";
import { newsAmong, scoreIntervalMs, type ToldRisk, toldAfter } from "../models/risk-news.ts";
import { roundTripsOf } from "../models/signals.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { splitSeries } from "../models/telemetry.ts";
import type { Point } from "../models/trend.ts";
import { type EndpointSecond, type Fault, FleetTelemetry } from "./fleet-telemetry.ts";

/** One automatic step. */
export interface FleetStep {
  readonly second: number;
  readonly endpoint: string;
  readonly kind: "drain" | "weight";
  /** On the strength of a prediction; else in reaction to what is measured. */
  readonly isPredicted: boolean;
  readonly cause: string;
  readonly reason: string;
}

export interface FleetRunOptions {
  readonly spec: SwarmSpec;
  readonly seed: number;
  readonly seconds: number;
  readonly fault?: Fault | undefined;
  /** What is announced for the place of an endpoint: known from when to when it holds. */
  readonly announced?:
    | readonly { readonly endpoint: string; readonly knownFromS: number; readonly event: OutsideEvent }[]
    | undefined;
  /** Asked after each second; true ends the run. */
  readonly isOver?: ((second: number, seen: readonly EndpointSecond[]) => boolean) | undefined;
}

export const START_MS = 1_700_000_000_000;
/** A drain takes so long, and then another machine has taken its place. */
const DRAIN_S = 20;
/** Share of what an endpoint carries that it holds on average. */
const LOAD_SHARE = 0.4;
const PROBES_PER_S = 10;
const PLACE = { region: "local" };

/** Plays the fleet and gives the automatic steps, in order. */
export function playFleet(options: FleetRunOptions): readonly FleetStep[] {
  const run = new FleetRun(options);
  for (let second = 0; second < options.seconds; second++) {
    const seen = run.step(second);
    if (options.isOver?.(second, seen) === true) break;
  }
  return run.steps;
}

class FleetRun {
  readonly steps: FleetStep[] = [];
  readonly #options: FleetRunOptions;
  readonly #fleet: FleetTelemetry;
  readonly #health = new HealthMonitor();
  readonly #past = new Past();
  readonly #drains = new Map<string, number>();
  readonly #weights = new Map<string, number>();
  #state: SwarmState;
  #told: readonly ToldRisk[] = [];

  constructor(options: FleetRunOptions) {
    const { spec, seed, fault } = options;
    const { count, capacitySessions } = spec.endpoints;
    this.#options = options;
    this.#state = initialState(spec);
    const size = { endpoints: count, seed, sessionsMean: capacitySessions * LOAD_SHARE, probesPerS: PROBES_PER_S };
    this.#fleet = new FleetTelemetry(size, fault);
  }

  step(second: number): readonly EndpointSecond[] {
    const now = START_MS + second * 1_000;
    this.#endDrains(second, now);
    const seen = this.#fleet.at(second);
    this.#health.observe(now, Object.fromEntries(seen.map(({ endpoint, series }) => [endpoint, series])));
    for (const one of seen) this.#past.push(one, now);
    const { foresight } = this.#options.spec;
    if (foresight.mode !== "off" && (second * 1_000) % scoreIntervalMs(foresight) < 1_000) this.#score(seen, second, now);
    this.#decide(seen, second, now);
    return seen;
  }

  /** As activities/risk.ts does, and what the swarm's workflow makes of it. */
  #score(seen: readonly EndpointSecond[], second: number, now: number): void {
    const { spec } = this.#options;
    const { windowMs } = spec.foresight;
    const trips = roundTripsOf(seen.map(({ innerRttMsP75 }) => innerRttMsP75));
    const common = { atMs: now, medianRttMs: trips?.medianMs, rttSpreadMs: trips?.spreadMs };
    const odd = new Map<string, { severity: number; text: string }>();
    for (const { endpoint, explanation, scope, severity } of this.#health.anomalies()) {
      if (scope === "endpoint" && severity >= LIMITS.foresight.severityMin && !odd.has(endpoint))
        odd.set(endpoint, { severity, text: explanation });
    }
    const kept = (LIMITS.foresight.pastShareMax * windowMs) / LIMITS.telemetry.stepMs;
    const past = new Map(seen.map(({ endpoint }) => [endpoint, this.#past.newest(endpoint, kept)]));
    const legs = seen.map(({ endpoint }) => ({ endpoint, atMs: now, place: PLACE, series: legsOf(past.get(endpoint) ?? {}) }));
    const ways = Map.groupBy(pathRisks(legs, [], spec), ({ endpoint }) => endpoint);
    const scores = seen
      .filter(({ endpoint }) => !this.#drains.has(endpoint))
      .map(({ endpoint, sessions }): ScoredEndpoint => {
        const outside = outsideRisk(this.#eventsOf(endpoint, second), PLACE, now, windowMs);
        const series = past.get(endpoint) ?? {};
        const others = (name: string) =>
          [...past].flatMap(([other, all]) => (other === endpoint || all[name] === undefined ? [] : [all[name]]));
        const evidence = { ...common, endpoint, sessions, series, others, outside, anomaly: odd.get(endpoint) };
        return { score: { ...scoreEvidence(evidence, spec), paths: ways.get(endpoint) ?? [] }, sessions };
      });
    const news = newsAmong(scores, this.#told, spec.foresight);
    this.#told = toldAfter(this.#told, news);
    this.#state = takeScores(this.#state, news, now);
  }

  #eventsOf(endpoint: string, second: number): readonly OutsideEvent[] {
    const announced = this.#options.announced ?? [];
    return announced.filter((one) => one.endpoint === endpoint && second >= one.knownFromS).map(({ event }) => event);
  }

  #decide(seen: readonly EndpointSecond[], second: number, now: number): void {
    const endpoints = seen.map((one) => this.#observationOf(one));
    const ghosts = Array.from({ length: this.#options.spec.endpoints.ghosts }, (_, index) => `ghost-${index + 1}`);
    const observation: Observation = { atMs: now, endpoints, ghosts, reflexSeq: 0, reflexAnswers: true };
    const made = plan(this.#state, observation, now);
    this.#state = made.state;
    this.#carryOut(made, second);
  }

  #observationOf(one: EndpointSecond): EndpointObservation {
    return {
      endpoint: one.endpoint,
      machine: "running",
      weight: this.#weights.get(one.endpoint) ?? this.#options.spec.endpoints.weight,
      draining: this.#drains.has(one.endpoint),
      ejected: false,
      ejectedAtMs: undefined,
      ejections: 0,
      innerLoss: one.innerLoss,
      innerRttMsP75: one.innerRttMsP75,
      innerRttMsMax: one.innerRttMsMax,
      innerMissesInARow: 0,
      innerProbes: PROBES_PER_S * 3,
      outerAnswers: true,
      heartbeatAgeMs: one.heartbeatAgeMs,
      cpuShare: one.cpuShare,
      cpuPressure: one.cpuPressure,
      tunnelUp: true,
      sessions: one.sessions,
    };
  }

  #carryOut({ steps }: Plan, second: number): void {
    for (const step of steps) {
      if (step.kind === "replenish-ghosts") this.#state = recordLaunchEnd(this.#state, "ghost");
      if (step.kind === "add-endpoints") this.#state = recordLaunchEnd(this.#state, "endpoint");
      if (step.kind === "relieve") this.#state = recordReliefEnd(this.#state, step.endpoint, false, START_MS + second * 1_000);
      if (step.kind !== "set-weight" && step.kind !== "drain-and-replace" && step.kind !== "finish-lost") continue;
      const { endpoint, reason } = step;
      const isWeight = step.kind === "set-weight";
      const isRaised = isWeight && step.weight >= (this.#weights.get(endpoint) ?? this.#options.spec.endpoints.weight);
      if (isWeight) this.#weights.set(endpoint, step.weight);
      else this.#drains.set(endpoint, second + DRAIN_S);
      if (isRaised) continue;
      const cause = isWeight ? (reason.includes(FAILS_WITHIN) ? "predicted" : "measured") : step.cause;
      this.steps.push({
        second,
        endpoint,
        kind: isWeight ? "weight" : "drain",
        isPredicted: cause.startsWith("predicted"),
        cause,
        reason,
      });
    }
  }

  #endDrains(second: number, now: number): void {
    for (const [endpoint, untilS] of this.#drains) {
      if (second < untilS) continue;
      this.#drains.delete(endpoint);
      this.#weights.delete(endpoint);
      this.#past.forget(endpoint);
      this.#fleet.replace(endpoint);
      this.#state = recordDisruptionEnd(this.#state, endpoint, "replaced", now);
    }
  }
}

/** The last minutes of every series, as the collector's window keeps them. */
class Past {
  readonly #endpoints = new Map<string, Map<string, Point[]>>();

  push({ endpoint, series }: EndpointSecond, atMs: number): void {
    let known = this.#endpoints.get(endpoint);
    if (known === undefined) {
      known = new Map();
      this.#endpoints.set(endpoint, known);
    }
    for (const name of Object.keys(series)) {
      const value = series[name] ?? Number.NaN;
      const points = known.get(name);
      if (points === undefined) known.set(name, [{ atMs, value }]);
      else points.push({ atMs, value });
      if (points !== undefined && points.length > 2 * KEPT_POINTS) points.splice(0, points.length - KEPT_POINTS);
    }
  }

  /** A value a second, but for gaps: so many of the newest are no older than that, or a few less. */
  newest(endpoint: string, count: number): Readonly<Record<string, readonly Point[]>> {
    const series: Record<string, readonly Point[]> = {};
    for (const [name, points] of this.#endpoints.get(endpoint) ?? []) {
      series[name] = points.length <= count ? points : points.slice(-count);
    }
    return series;
  }

  forget(endpoint: string): void {
    this.#endpoints.delete(endpoint);
  }
}

function legsOf(series: Readonly<Record<string, readonly Point[]>>): Readonly<Record<string, readonly Point[]>> {
  const isLeg = (name: string) => (PATH_METRICS as readonly string[]).includes(splitSeries(name).name);
  return Object.fromEntries(Object.entries(series).filter(([name]) => isLeg(name)));
}

/** One a second over the collector's window. */
const KEPT_POINTS = LIMITS.telemetry.windowMs / LIMITS.telemetry.stepMs;
