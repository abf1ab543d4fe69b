/**
 * The watch over the risks: reads the last minutes of telemetry and what happens outside, scores every endpoint that serves, and returns
 * only what the swarm should hear.
 */
import type { TelemetryWindow } from "../drivers/ports.ts";
import { scoreEvidence, WATCHED_SERIES } from "../models/evidence.ts";
import { LIMITS } from "../models/limits.ts";
import { outsideRisk, placeOf } from "../models/outside-events.ts";
import type { ScoredEndpoint } from "../models/risk.ts";
import { newsAmong, scoreIntervalMs, type ToldRisk } from "../models/risk-news.ts";
import type { MemberHealth } from "../models/steering.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import type { Point } from "../models/trend.ts";
import { type ActivityDeps, asActivity, pause } from "./deps.ts";
import { SwarmHealth } from "./swarm-health.ts";

export interface RiskWatchInput {
  readonly swarm: string;
  readonly told: readonly ToldRisk[];
}

export function riskActivities(deps: ActivityDeps) {
  const health = new SwarmHealth();
  return {
    /** Empty when nothing was worth telling for long. */
    watchRisks(input: RiskWatchInput): Promise<readonly ScoredEndpoint[]> {
      return asActivity(() => watchRisks(deps, health, input));
    },
  };
}

async function watchRisks(deps: ActivityDeps, health: SwarmHealth, input: RiskWatchInput): Promise<readonly ScoredEndpoint[]> {
  const { swarm, told } = input;
  const deadlineMs = Date.now() + LIMITS.foresight.watchLongestMs;
  while (Date.now() < deadlineMs) {
    const spec = (await deps.store.specs()).find(({ name }) => name === swarm);
    if (spec === undefined || spec.foresight.mode === "off") {
      await pause(LIMITS.foresight.scoreIntervalMsMin);
      continue;
    }
    const news = newsAmong(await scoreAll(deps, health, spec), told, spec.foresight);
    if (news.length > 0) {
      await deps.store.saveRiskScores(swarm, news);
      return news;
    }
    await pause(scoreIntervalMs(spec.foresight));
  }
  return [];
}

async function scoreAll(deps: ActivityDeps, health: SwarmHealth, spec: SwarmSpec): Promise<readonly ScoredEndpoint[]> {
  const nowMs = Date.now();
  const { windowMs } = spec.foresight;
  const sinceMs = nowMs - LIMITS.foresight.pastShareMax * windowMs;
  const [window, members, heartbeats, events] = await Promise.all([
    deps.telemetry.window(spec.name, { sinceMs, metrics: WATCHED_SERIES }),
    deps.balancer.health(),
    deps.store.heartbeats(spec.name),
    deps.store.outsideEvents({ activeAtMs: nowMs, aheadMs: windowMs }),
  ]);
  const medianRttMs = medianOf(members);
  const odd = health.observe(window);
  return members
    .filter((member) => !member.ejected && !member.draining && member.weight > 0)
    .map(({ endpoint, sessions }) => {
      const place = placeOf(spec, heartbeats.find((heartbeat) => heartbeat.endpoint === endpoint)?.place);
      const evidence = {
        endpoint,
        atMs: nowMs,
        sessions,
        series: pointsOf(window, endpoint),
        medianRttMs,
        outside: outsideRisk(events, place, nowMs, windowMs),
        anomaly: odd.get(endpoint),
      };
      return { score: scoreEvidence(evidence, spec), sessions };
    });
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

function medianOf(members: readonly MemberHealth[]): number | undefined {
  const trips = members.flatMap(({ inner }) => inner.rttMsP75 ?? []).sort((a, b) => a - b);
  return trips[Math.floor((trips.length - 1) / 2)];
}
