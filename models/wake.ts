/** When to decide again although nothing has changed: the next moment at which a hold, a cool-down or a window runs out. */
import { LIMITS } from "./limits.ts";
import type { Observation } from "./observation.ts";
import { reliefForgottenAtMs } from "./relieve.ts";
import type { EndpointRecord, SwarmState } from "./swarm-state.ts";

/** Unix milliseconds, later than `now`; undefined when time alone changes nothing. */
export function nextDecisionAtMs(state: SwarmState, observation: Observation, now: number): number | undefined {
  const moments = [
    ...state.endpoints.flatMap((record) => endpointMoments(record, state, observation, now)),
    ...state.pending.map((one) => one.sinceMs + LIMITS.plan.launchTimeoutMs),
  ];
  for (const { band, score } of state.risks ?? []) {
    if (band !== "low") moments.push(score.atMs + state.spec.foresight.scoreStaleMs + 1);
  }
  moments.push(...(state.reliefs ?? []).flatMap((one) => reliefForgottenAtMs(one, state.spec.thresholds.coolDownMs) ?? []));
  moments.push(...later(state.surplusSinceMs, state.spec.endpoints.scaleInAfterMs));
  if (hasWaiting(state)) {
    moments.push(...state.disruptions.flatMap((one) => later(one.endedAtMs, state.spec.budget.windowMs)));
  }
  const { ghostAgeMaxMs } = state.spec.endpoints;
  if (ghostAgeMaxMs !== undefined)
    moments.push(...Object.values(observation.ghostsSinceMs ?? {}).map((sinceMs) => sinceMs + ghostAgeMaxMs));
  moments.push(...later(state.reflexSilentSinceMs, LIMITS.plan.reflexSilentPageMs));
  const coming = moments.filter((moment) => moment > now);
  return coming.length === 0 ? undefined : Math.min(...coming);
}

function hasWaiting(state: SwarmState): boolean {
  const isPredicted = (state.risks ?? []).some(({ band }) => band === "high");
  const isRolling = (state.roll?.endpoints ?? []).length > 0;
  return (
    isPredicted || isRolling || state.requested.length > 0 || state.endpoints.some((record) => record.signal !== "healthy")
  );
}

function endpointMoments(record: EndpointRecord, state: SwarmState, observation: Observation, now: number): readonly number[] {
  if (record.phase === "draining" || record.phase === "lost" || record.phase === "retired") return [];
  const { holdMs, replaceAfterMs, recoverAfterMs, coolDownMs } = state.spec.thresholds;
  const seen = observation.endpoints.find((one) => one.endpoint === record.endpoint);
  const moments: number[] = [];
  if (record.phase === "joining") moments.push(record.seenAtMs + LIMITS.plan.launchTimeoutMs);
  if (typeof seen?.heartbeatAgeMs === "number") moments.push(now - seen.heartbeatAgeMs + LIMITS.plan.heartbeatLostPageMs);
  const isSettled = record.signal === "healthy" && record.weight === state.spec.endpoints.weight && record.phase === "active";
  const risk = state.risks?.find(({ score }) => score.endpoint === record.endpoint);
  if (isSettled && (risk?.band ?? "low") === "low") return moments;
  moments.push(record.signalSinceMs + holdMs, record.signalSinceMs + recoverAfterMs);
  moments.push(...later(record.unhealthySinceMs, holdMs), ...later(record.unhealthySinceMs, replaceAfterMs));
  moments.push(...later(record.lastActionAtMs, coolDownMs), ...later(record.lastActionAtMs, LIMITS.plan.weightSettleMs));
  moments.push(...later(record.lastMoveAtMs, coolDownMs), ...later(record.lastMoveAtMs, LIMITS.plan.lostRetryMs));
  return moments;
}

function later(atMs: number | undefined, afterMs: number): readonly number[] {
  return typeof atMs === "number" ? [atMs + afterMs] : [];
}
