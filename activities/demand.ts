/**
 * What a swarm will have to carry: sessions of all its endpoints, read from telemetry in five-minute steps, and forecast online. What was
 * forecast is stored, and later what came of it.
 */
import { setImmediate } from "node:timers/promises";
import type { Store, TelemetrySeries } from "../drivers/ports.ts";
import {
  demandForecast,
  FORECASTER,
  type HorizonForecast,
  type HourlyPlan,
  LoadForecaster,
  type PeerRise,
} from "../models/forecast/forecaster.ts";
import { HISTORY } from "../models/forecast/series-history.ts";
import { type EndpointStep, SwarmTotal } from "../models/forecast/swarm-total.ts";
import type { LoadOutcome, ToldForecast } from "../models/forecast/track-record.ts";
import { LIMITS } from "../models/limits.ts";
import type { DemandForecast } from "../models/scale.ts";

const DAY_MS = 86_400_000;
const { stepMs: STEP_MS } = FORECASTER;

type DemandStore = Pick<Store, "telemetry" | "specs" | "saveLoadForecasts" | "saveLoadOutcomes">;

interface Followed {
  readonly forecaster: LoadForecaster;
  readonly total: SwarmTotal;
  /** Beginning of the first step that was not observed yet. */
  nextAtMs: number;
  /** The forecast from the newest step, once it was made. */
  made: { readonly atMs: number; readonly demand: DemandForecast | undefined } | undefined;
  /** Not stored yet. */
  outcomes: LoadOutcome[];
  /** One reader at a time: a swarm is followed for itself and for its peers. */
  reading: Promise<void>;
}

/** The next two days by the hour, and when the first hour begins. */
export interface LoadPlan extends HourlyPlan {
  readonly fromMs: number;
  /** Days of telemetry that are known of the swarm. */
  readonly days: number;
}

/** Keeps one forecaster a swarm; it is made anew from telemetry after a restart. */
export class SwarmDemand {
  private readonly store: DemandStore;
  private readonly warmUpMs: number;
  private readonly followed = new Map<string, Followed>();

  /** `warmUpMs`: forecasts of so much of the past are made again, to calibrate the next ones; a plan alone needs none. */
  constructor(store: DemandStore, { warmUpMs = LIMITS.foresight.demandWarmUpMs }: { readonly warmUpMs?: number } = {}) {
    this.store = store;
    this.warmUpMs = warmUpMs;
  }

  /** `launchMs`: measures the time until a machine that is asked for serves. Undefined while nothing was measured. */
  async forecast(swarm: string, nowMs: number, launchMs: () => Promise<number>): Promise<DemandForecast | undefined> {
    const { followed, peerRise } = await this.current(swarm, nowMs);
    const { forecaster, nextAtMs: atMs } = followed;
    if (followed.made?.atMs !== atMs) {
      const forecasts = forecaster.forecasts(peerRise);
      const demand = demandForecast(forecasts, atMs, await launchMs(), daysOf(forecaster));
      await this.store.saveLoadForecasts(swarm, toldForecasts(forecasts, atMs));
      followed.made = { atMs, demand };
    }
    return followed.made.demand;
  }

  /** Undefined while nothing was measured. */
  async plan(swarm: string, nowMs: number): Promise<LoadPlan | undefined> {
    const { followed, peerRise } = await this.current(swarm, nowMs);
    const plan = followed.forecaster.plan(peerRise);
    return plan === undefined ? undefined : { ...plan, fromMs: followed.nextAtMs, days: daysOf(followed.forecaster) };
  }

  /** The swarm up to the present, and what its peers' load usually does from here while it has too little past of its own. */
  private async current(swarm: string, nowMs: number): Promise<{ followed: Followed; peerRise: PeerRise | undefined }> {
    const followed = await this.follow(swarm, nowMs);
    if (followed.forecaster.observations * STEP_MS >= LIMITS.foresight.peersUntilMs) return { followed, peerRise: undefined };
    const names = (await this.store.specs()).map(({ name }) => name).filter((name) => name !== swarm);
    const peers: Followed[] = [];
    for (const name of names.slice(0, LIMITS.foresight.peerSwarmsMax)) peers.push(await this.follow(name, nowMs));
    return { followed, peerRise: (lead) => usualRiseOf(peers, followed.nextAtMs, lead) };
  }

  /** Observes the whole steps up to now. */
  private async follow(swarm: string, nowMs: number): Promise<Followed> {
    const followed = this.followed.get(swarm) ?? {
      forecaster: new LoadForecaster(),
      total: new SwarmTotal(),
      nextAtMs: stepOf(nowMs - HISTORY.windowDays * DAY_MS),
      made: undefined,
      outcomes: [],
      reading: Promise.resolve(),
    };
    this.followed.set(swarm, followed);
    const untilMs = stepOf(nowMs - LIMITS.foresight.demandDelayMs);
    const reading = followed.reading.catch(() => undefined).then(() => this.catchUp(swarm, followed, untilMs));
    followed.reading = reading;
    await reading;
    return followed;
  }

  /** A day at a time, so that an answer stays within its limit. */
  private async catchUp(swarm: string, followed: Followed, untilMs: number): Promise<void> {
    const warmFromMs = untilMs - this.warmUpMs;
    while (followed.nextAtMs < untilMs) {
      const sinceMs = followed.nextAtMs;
      const dayEndMs = Math.min(untilMs, sinceMs + DAY_MS);
      const query = { swarm, metric: "sessions", sinceMs, untilMs: dayEndMs, stepMs: STEP_MS };
      const steps = byStep(await this.store.telemetry(query));
      for (let atMs = sinceMs; atMs < dayEndMs; atMs += STEP_MS) {
        const sessions = followed.total.take(steps.get(atMs) ?? new Map());
        followed.nextAtMs = atMs + STEP_MS;
        // Before the first value ever there is nothing to follow.
        if (Number.isNaN(sessions) && followed.forecaster.observations === 0) continue;
        followed.forecaster.observe(sessions);
        if (followed.forecaster.newestIsKnown) followed.outcomes.push({ targetAtMs: followed.nextAtMs, sessions });
        if (atMs < warmFromMs || followed.nextAtMs === untilMs) continue;
        // Its own past forecasts calibrate it; other activities get their turn in between.
        followed.forecaster.forecasts();
        await setImmediate();
      }
      await this.store.saveLoadOutcomes(swarm, followed.outcomes);
      followed.outcomes = [];
    }
  }
}

function toldForecasts(forecasts: readonly HorizonForecast[], atMs: number): ToldForecast[] {
  return forecasts.map(({ horizonMs, ...told }) => ({ ...told, madeAtMs: atMs, targetAtMs: atMs + horizonMs }));
}

/** The median over the peers that know their day. */
function usualRiseOf(peers: readonly Followed[], nextAtMs: number, lead: number): number {
  const rises = peers
    .map((peer) => peer.forecaster.usualRise(lead, Math.round((peer.nextAtMs - nextAtMs) / STEP_MS)))
    .filter(Number.isFinite)
    .toSorted((one, other) => one - other);
  const middle = rises.length / 2;
  const [low, high] = [rises[Math.ceil(middle) - 1], rises[Math.floor(middle)]];
  return low === undefined || high === undefined ? Number.NaN : (low + high) / 2;
}

function daysOf(forecaster: LoadForecaster): number {
  return (forecaster.observations * STEP_MS) / DAY_MS;
}

function stepOf(atMs: number): number {
  return Math.floor(atMs / STEP_MS) * STEP_MS;
}

function byStep(series: readonly TelemetrySeries[]): ReadonlyMap<number, ReadonlyMap<string, EndpointStep>> {
  const steps = new Map<number, Map<string, EndpointStep>>();
  for (const { endpoint, points } of series) {
    for (const { atMs, mean, count } of points) {
      const step = steps.get(stepOf(atMs)) ?? new Map<string, EndpointStep>();
      step.set(endpoint, { sessions: mean, count });
      steps.set(stepOf(atMs), step);
    }
  }
  return steps;
}
