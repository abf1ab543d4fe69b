/**
 * Brings what is believed of each endpoint up to date with an observation: signals and since when, phases, weights in force.
 * Decides nothing.
 */
import { LIMITS } from "./limits.ts";
import type { EndpointObservation, Observation } from "./observation.ts";
import { isServing, type Reading, read, roundTrips } from "./signals.ts";
import type { SwarmSpec } from "./swarm-spec.ts";
import { type EndpointRecord, restartSignal, type SwarmState } from "./swarm-state.ts";

/** An endpoint with what was just read of it; `seen` undefined while a run handles one that is seen no more. */
export interface Belief {
  readonly record: EndpointRecord;
  readonly seen: EndpointObservation | undefined;
  readonly reading: Reading | undefined;
}

/** Sorted by name. While the reflex is silent nothing is learned, and signals have to hold anew afterwards. */
export function believe(state: SwarmState, observation: Observation, now: number): readonly Belief[] {
  const seen = new Map(observation.endpoints.map((one) => [one.endpoint, one]));
  const held = new Map(state.endpoints.map((record) => [record.endpoint, record]));
  const names = [...new Set([...seen.keys(), ...held.keys()])].sort();
  const peers = roundTrips(observation);
  const beliefs: Belief[] = [];
  for (const name of names) {
    const before = held.get(name);
    const one = seen.get(name);
    if (!observation.reflexAnswers) {
      if (before !== undefined) beliefs.push({ record: restartSignal(before, now), seen: one, reading: undefined });
      continue;
    }
    if (one === undefined) {
      const handled = before?.phase === "draining" || before?.phase === "lost";
      if (before !== undefined && handled) beliefs.push({ record: before, seen: undefined, reading: undefined });
      continue;
    }
    if (!isEndpoint(one, before, observation)) continue;
    const reading = read(one, before, state.spec.thresholds, peers);
    beliefs.push({
      record: update(before ?? firstRecord(one, state.spec, now), one, reading, state.spec, now),
      seen: one,
      reading,
    });
  }
  return beliefs;
}

/** A revoked machine has to end, whatever it is. Else a suspended machine is a ghost, and one that is gone and no member concerns nobody, unless it is known as an endpoint. */
function isEndpoint(one: EndpointObservation, before: EndpointRecord | undefined, observation: Observation): boolean {
  const isMember = typeof one.weight === "number";
  if (isMember || (one.revoked === true && one.machine !== "gone")) return true;
  if (before === undefined) return one.machine === "running" && !observation.ghosts.includes(one.endpoint);
  return before.phase !== "joining" || one.machine === "running";
}

function firstRecord(one: EndpointObservation, spec: SwarmSpec, now: number): EndpointRecord {
  return {
    endpoint: one.endpoint,
    phase: "joining",
    seenAtMs: now,
    proven: false,
    weight: one.weight ?? spec.endpoints.weight,
    signal: "healthy",
    signalSinceMs: now,
    unhealthySinceMs: undefined,
    lossAtOnset: 0,
    lastActionAtMs: undefined,
    lastMoveAtMs: undefined,
    ejectionHandledAtMs: undefined,
    reason: "Seen for the first time.",
  };
}

function update(
  before: EndpointRecord,
  one: EndpointObservation,
  reading: Reading,
  spec: SwarmSpec,
  now: number,
): EndpointRecord {
  const wasHealthy = before.unhealthySinceMs === undefined || before.unhealthySinceMs === null;
  const isHealthy = reading.signal === "healthy";
  const record: EndpointRecord = {
    ...before,
    weight: weightInForce(before, one, now),
    signal: reading.signal,
    signalSinceMs: reading.signal === before.signal ? before.signalSinceMs : now,
    unhealthySinceMs: isHealthy ? undefined : wasHealthy ? now : before.unhealthySinceMs,
    lossAtOnset: isHealthy ? 0 : wasHealthy ? one.innerLoss : before.lossAtOnset,
  };
  return { ...record, ...nextPhase(record, one, reading, spec, now) };
}

/** What was asked for, unless the balancer holds something else long after the asking: then the asking came to nothing. */
function weightInForce(before: EndpointRecord, one: EndpointObservation, now: number): number {
  const settled = typeof before.lastActionAtMs !== "number" || now - before.lastActionAtMs >= LIMITS.plan.weightSettleMs;
  const handled = before.phase === "draining" || before.phase === "lost" || before.phase === "retired";
  return settled && !handled && typeof one.weight === "number" ? one.weight : before.weight;
}

function nextPhase(
  record: EndpointRecord,
  one: EndpointObservation,
  reading: Reading,
  spec: SwarmSpec,
  now: number,
): Pick<EndpointRecord, "phase" | "reason"> & Partial<EndpointRecord> {
  const { phase, reason } = record;
  if ((phase === "active" || phase === "degraded") && typeof one.weight !== "number" && one.machine === "running") {
    return { phase: "joining", reason: "The balancer does not hold it as a member." };
  }
  if (phase === "joining" && record.signal === "healthy" && isServing(one) && one.innerProbes >= LIMITS.plan.probesMin) {
    return { phase: "active", proven: true, reason: `Healthy: ${reading.text}.` };
  }
  if (phase === "active" && isUnhealthyFor(record, spec.thresholds.holdMs, now)) {
    return { phase: "degraded", reason: `Not healthy: ${reading.text}.` };
  }
  if (phase === "degraded" && record.signal === "healthy" && now - record.signalSinceMs >= spec.thresholds.recoverAfterMs) {
    return { phase: "active", reason: `Healthy again: ${reading.text}.` };
  }
  return { phase, reason };
}

export function isUnhealthyFor(record: EndpointRecord, heldMs: number, now: number): boolean {
  return typeof record.unhealthySinceMs === "number" && now - record.unhealthySinceMs >= heldMs;
}
