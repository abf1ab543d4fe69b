/**
 * What Foreshift may choose to disrupt: shares of the swarm at once and in a window of time, and the capacity that the present load
 * needs. Answers are sentences: undefined means "go ahead".
 */

import { ForeshiftError } from "./errors.ts";
import type { Observation } from "./observation.ts";
import { isServing } from "./signals.ts";
import type { SwarmSpec } from "./swarm-spec.ts";
import type { Disruption, EndpointRecord, SwarmState } from "./swarm-state.ts";

export interface BudgetUse {
  readonly underWay: number;
  readonly underWayMax: number;
  /** Disruptions that were under way at any time within the window. */
  readonly inWindow: number;
  readonly inWindowMax: number;
}

/** `live`: endpoints that are there. A spec that wants more than there are does not widen the budget. */
export function budgetUse(spec: SwarmSpec, disruptions: readonly Disruption[], live: number, now: number): BudgetUse {
  const size = Math.max(1, Math.min(spec.endpoints.count, live));
  const { disruptedShareMaxPercent, windowShareMaxPercent, windowMs } = spec.budget;
  return {
    underWay: disruptions.filter(isUnderWay).length,
    underWayMax: atLeastOne(size, disruptedShareMaxPercent),
    inWindow: disruptions.filter((one) => isWithin(one, windowMs, now)).length,
    inWindowMax: atLeastOne(size, windowShareMaxPercent),
  };
}

function atLeastOne(size: number, sharePercent: number): number {
  return Math.max(1, Math.floor((size * sharePercent) / 100));
}

export function isUnderWay(one: Disruption): boolean {
  return typeof one.endedAtMs !== "number";
}

/** Whether it overlaps the window that ends now. */
export function isWithin(one: Disruption, windowMs: number, now: number): boolean {
  return typeof one.endedAtMs !== "number" || one.endedAtMs > now - windowMs;
}

export function whyOverBudget(use: BudgetUse, windowMs: number): string | undefined {
  if (use.underWay >= use.underWayMax) {
    return `budget: ${use.underWay} of at most ${use.underWayMax} endpoints are being disrupted already`;
  }
  if (use.inWindow >= use.inWindowMax) {
    const window = `${Math.round(windowMs / 1000)} s`;
    return `budget: ${use.inWindow} of at most ${use.inWindowMax} endpoints were disrupted within the last ${window}`;
  }
  return undefined;
}

/** Sessions that the swarm carries, and that its serving endpoints can carry at their weights. */
export interface Capacity {
  readonly sessions: number;
  readonly capacity: number;
  /** The endpoints that serve, with the weight that counts: a raised one counts once the balancer holds it. */
  readonly serving: ReadonlyMap<string, number>;
  /** Ghosts that no run under way is going to claim. */
  readonly freeGhosts: number;
}

export function capacityOf(
  spec: SwarmSpec,
  records: readonly EndpointRecord[],
  disruptions: readonly Disruption[],
  observation: Observation,
): Capacity {
  const byName = new Map(records.map((record) => [record.endpoint, record]));
  let sessions = 0;
  let capacity = 0;
  const serving = new Map<string, number>();
  for (const one of observation.endpoints) {
    const record = byName.get(one.endpoint);
    if (record === undefined || record.phase === "retired") continue;
    sessions += one.sessions;
    if (!isServing(one) || (record.phase !== "active" && record.phase !== "degraded")) continue;
    const weight = Math.min(record.weight, one.weight ?? 0);
    serving.set(one.endpoint, weight);
    capacity += sessionsAt(spec, weight);
  }
  const claimed = disruptions.filter(isUnderWay).length;
  return { sessions, capacity, serving, freeGhosts: Math.max(0, observation.ghosts.length - claimed) };
}

/** Sessions that an endpoint carries at a weight. */
export function sessionsAt(spec: SwarmSpec, weight: number): number {
  return (spec.endpoints.capacitySessions * weight) / 100;
}

/**
 * Refuses to take out what is overloaded while the others have no room for what it holds: a machine in its place would be as overloaded,
 * and the others more. A further endpoint makes room, and is asked for by the sessions there are.
 */
export function whyOverloaded(spec: SwarmSpec, endpoint: string, observation: Observation): string | undefined {
  const one = observation.endpoints.find((other) => other.endpoint === endpoint);
  const { capacitySessions } = spec.endpoints;
  if (one === undefined || (one.overloaded !== true && one.sessions <= capacitySessions)) return undefined;
  const room = observation.endpoints
    .filter((other) => other !== one && isServing(other) && other.overloaded !== true)
    .reduce((sum, other) => sum + Math.max(0, sessionsAt(spec, other.weight ?? 0) - other.sessions), 0);
  if (room >= one.sessions) return undefined;
  return `overload: it holds ${one.sessions} sessions and is to carry ${capacitySessions}, and the others have room for ${Math.floor(room)}; more endpoints come first`;
}

/** Refuses what would leave less capacity than there are sessions, or nobody to serve. */
export function whyBelowCapacity(capacity: Capacity, lost: number, gained: number, servingAfter: number): string | undefined {
  const left = capacity.capacity - lost + gained;
  if (servingAfter < 1) return "capacity: no other endpoint would be left to serve";
  if (left >= capacity.sessions) return undefined;
  return `capacity: ${Math.floor(left)} sessions could be carried afterwards, and there are ${capacity.sessions}`;
}

/**
 * Throws CAPACITY_EXCEEDED when the members that would remain cannot carry what there is now. While the reflex is silent nobody knows,
 * and plan() waits.
 */
export function checkDrain(state: SwarmState, endpoint: string, observation: Observation): void {
  if (!observation.reflexAnswers) return;
  const { spec, endpoints, disruptions } = state;
  const capacity = capacityOf(spec, endpoints, disruptions, observation);
  const held = capacity.serving.get(endpoint);
  const others = capacity.serving.size - (held === undefined ? 0 : 1);
  const because = whyBelowCapacity(capacity, sessionsAt(spec, held ?? 0), 0, others);
  if (because !== undefined)
    throw new ForeshiftError("CAPACITY_EXCEEDED", { field: "endpoint", value: endpoint, detail: because });
}
