/**
 * The watch over the risks: reads the last minutes of telemetry and what happens outside, scores every endpoint that serves, and returns
 * only what the swarm should hear.
 */
import type { Balancer, Hypervisor, Machine, TelemetryWindow } from "../drivers/ports.ts";
import { scoreEvidence, WATCHED_SERIES } from "../models/evidence.ts";
import { leadTimeMs } from "../models/lead-time.ts";
import { LIMITS } from "../models/limits.ts";
import { type MachineNotice, noticeEvents } from "../models/machine-notices.ts";
import { outsideRisk, placeOf } from "../models/outside-events.ts";
import { PATH_METRICS, pathRisks } from "../models/path-risk.ts";
import type { ScoredEndpoint } from "../models/risk.ts";
import { newsAmong, nextLookMs, type ToldRisk } from "../models/risk-news.ts";
import { type DemandForecast, endpointsFor } from "../models/scale.ts";
import { greaterDemand, sessionsAhead, sessionTrend, sumOfSessions } from "../models/session-trend.ts";
import { roundTripsOf } from "../models/signals.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import type { Point } from "../models/trend.ts";
import { SwarmDemand } from "./demand.ts";
import { type ActivityDeps, asActivity, pause } from "./deps.ts";
import { type LaunchTrail, measuredLaunchTimes } from "./launch-time.ts";
import { SwarmHealth } from "./swarm-health.ts";
import { SwarmModel } from "./swarm-model.ts";

export interface RiskWatchInput {
  readonly swarm: string;
  readonly told: readonly ToldRisk[];
  readonly toldDemand?: DemandForecast | undefined;
}

/** What the swarm should hear; empty when nothing was worth telling for long. */
export interface RiskNews {
  readonly scores: readonly ScoredEndpoint[];
  readonly demand?: DemandForecast | undefined;
}

/** What scoring stands on. */
type ScoringDeps = Pick<ActivityDeps, "store" | "telemetry"> & {
  readonly balancer: Pick<Balancer, "health">;
  readonly hypervisor?: Pick<Hypervisor, "notices">;
};

/** What the load's forecast stands on. */
interface DemandDeps {
  readonly store: LaunchTrail;
  readonly telemetry: ActivityDeps["telemetry"];
  readonly balancer: { health(): Promise<readonly unknown[]> };
  readonly hypervisor: { list(swarm: string): Promise<readonly Pick<Machine, "state">[]> };
}

export function riskActivities(deps: ActivityDeps) {
  const models: Models = { health: new SwarmHealth(), demand: new SwarmDemand(deps.store), learned: new SwarmModel(deps) };
  return {
    watchRisks(input: RiskWatchInput): Promise<RiskNews> {
      return asActivity(() => watchRisks(deps, models, input));
    },
  };
}

interface Models {
  readonly health: SwarmHealth;
  readonly learned: SwarmModel;
  readonly demand: SwarmDemand;
}

async function watchRisks(deps: ActivityDeps, models: Models, input: RiskWatchInput): Promise<RiskNews> {
  const { swarm, told } = input;
  const deadlineMs = Date.now() + LIMITS.foresight.watchLongestMs;
  while (Date.now() < deadlineMs) {
    const spec = (await deps.store.specs()).find(({ name }) => name === swarm);
    if (spec === undefined || spec.foresight.mode === "off") {
      await pause(LIMITS.foresight.scoreIntervalMsMin);
      continue;
    }
    const scores = newsAmong(await scoreAll(deps, models, spec, Date.now()), told, spec.foresight);
    const demand = demandNews(await demandOf(deps, models.demand, spec), input.toldDemand, spec);
    if (scores.length > 0 || demand !== undefined) {
      await deps.store.saveRiskScores(swarm, scores);
      return { scores, demand };
    }
    await pause(nextLookMs(told, spec.foresight, Date.now()));
  }
  return { scores: [] };
}

/** By the course of the days, or by the last minutes, whichever asks for more. */
export async function demandOf(deps: DemandDeps, demand: SwarmDemand, spec: SwarmSpec): Promise<DemandForecast | undefined> {
  const { windowMs } = spec.foresight;
  const nowMs = Date.now();
  const launchMs = async () => (await measuredLaunchTimes(deps.store, spec.name)).launchMs;
  const window = await deps.telemetry.window(spec.name, { sinceMs: nowMs - windowMs, metrics: ["sessions"] });
  const points = sumOfSessions(Object.keys(window.endpoints).map((endpoint) => pointsOf(window, endpoint)["sessions"] ?? []));
  const grows = sessionTrend(points, windowMs, windowMs) !== undefined;
  const trend = grows ? sessionsAhead(points, windowMs, await leadOf(deps, spec)) : undefined;
  return greaterDemand(await demand.forecast(spec.name, nowMs, launchMs), trend);
}

/** How long before so many sessions are there their endpoints have to be asked for, with the ghosts that wait at this moment. */
async function leadOf(deps: DemandDeps, spec: SwarmSpec): Promise<(sessions: number) => number> {
  const [times, members, machines] = await Promise.all([
    measuredLaunchTimes(deps.store, spec.name),
    deps.balancer.health(),
    // Of a hypervisor that does not answer no ghost is expected; the scores do not wait for it.
    deps.hypervisor.list(spec.name).catch(() => []),
  ]);
  const ghosts = machines.filter(({ state }) => state === "suspended").length;
  return (sessions) => leadTimeMs(Math.max(1, endpointsFor(spec, sessions) - members.length), ghosts, times);
}

/** Another forecast than the one that was told, or one that would grow stale. */
function demandNews(
  found: DemandForecast | undefined,
  told: DemandForecast | undefined,
  spec: SwarmSpec,
): DemandForecast | undefined {
  if (found === undefined || found.atMs <= (told?.atMs ?? Number.NEGATIVE_INFINITY)) return undefined;
  const isOld = told === undefined || found.atMs - told.atMs >= spec.foresight.demandStaleMs / 2;
  const change = Math.abs(found.sessionsUpper - (told?.sessionsUpper ?? 0));
  return isOld || change >= LIMITS.foresight.demandChangeShareMin * found.sessionsUpper ? found : undefined;
}

/** Every endpoint that serves, scored at this moment. */
export async function scoreAll(
  deps: ScoringDeps,
  { health, learned }: Pick<Models, "health" | "learned">,
  spec: SwarmSpec,
  nowMs: number,
): Promise<readonly ScoredEndpoint[]> {
  const { windowMs } = spec.foresight;
  const sinceMs = nowMs - LIMITS.foresight.pastShareMax * windowMs;
  const [window, legs, all, heartbeats, events, notices, model] = await Promise.all([
    deps.telemetry.window(spec.name, { sinceMs, metrics: WATCHED_SERIES }),
    deps.telemetry.window(spec.name, { sinceMs, metrics: PATH_METRICS }),
    deps.balancer.health(),
    deps.store.heartbeats(spec.name),
    deps.store.outsideEvents({ activeAtMs: nowMs, aheadMs: windowMs }),
    noticesFor(deps, spec.name),
    learned.risks(spec.name, windowMs, nowMs),
  ]);
  const trips = roundTripsOf(all.flatMap(({ inner }) => inner.rttMsP75 ?? []));
  const odd = health.observe(window);
  const members = all
    .filter((member) => !member.ejected && !member.draining && member.weight > 0)
    .map(({ endpoint, sessions }) => {
      const place = placeOf(spec, heartbeats.find((heartbeat) => heartbeat.endpoint === endpoint)?.place);
      return { endpoint, sessions, place, atMs: nowMs };
    });
  const ways = members.map((member) => ({ ...member, series: pointsOf(legs, member.endpoint) }));
  const paths = Map.groupBy(pathRisks(ways, events, spec), ({ endpoint }) => endpoint);
  const series = new Map(Object.keys(window.endpoints).map((endpoint) => [endpoint, pointsOf(window, endpoint)]));
  return members.map(({ endpoint, sessions, place }) => {
    const evidence = {
      endpoint,
      atMs: nowMs,
      sessions,
      series: series.get(endpoint) ?? {},
      others: (name: string) => [...series].flatMap(([other, all]) => (other === endpoint ? [] : [all[name] ?? []])),
      medianRttMs: trips?.medianMs,
      rttSpreadMs: trips?.spreadMs,
      outside: outsideRisk([...events, ...noticeEvents(notices, endpoint, nowMs)], place, nowMs, windowMs),
      anomaly: odd.get(endpoint),
      learned: model.risks.get(endpoint),
    };
    const about = model.about === undefined ? {} : { model: model.about };
    return { score: { ...scoreEvidence(evidence, spec), ...about, paths: paths.get(endpoint) ?? [] }, sessions };
  });
}

/** A provider that does not answer has said nothing: scoring goes on without it. */
async function noticesFor({ hypervisor }: ScoringDeps, swarm: string): Promise<readonly MachineNotice[]> {
  return (await hypervisor?.notices?.(swarm).catch(() => undefined)) ?? [];
}

function pointsOf(window: TelemetryWindow, endpoint: string): Readonly<Record<string, readonly Point[]>> {
  const series = window.endpoints[endpoint] ?? {};
  return Object.fromEntries(
    Object.entries(series).map(([name, { values }]) => [
      name,
      values.flatMap((value, step) => (value === null ? [] : [{ atMs: window.fromMs + step * window.stepMs, value }])),
    ]),
  );
}
