/** How many endpoints are unhealthy at once, and when that is so many that the surroundings are doubted rather than the endpoints. */
import { type Belief, isUnhealthyFor } from "./belief.ts";
import { LIMITS } from "./limits.ts";
import type { SwarmSpec } from "./swarm-spec.ts";
import type { EndpointRecord } from "./swarm-state.ts";

export interface UnhealthyCount {
  readonly members: number;
  /** Lost, ejected, gone, or not healthy for `holdMs`. */
  readonly unhealthy: readonly string[];
  /** Not healthy at this moment. */
  readonly doubtful: number;
}

export function countUnhealthy(spec: SwarmSpec, beliefs: readonly Belief[], now: number): UnhealthyCount {
  const members = beliefs.filter(({ record }) => isLive(record));
  const unhealthy = members.filter(({ record, seen }) => {
    const isOut = record.phase === "lost" || seen?.ejected === true || seen?.machine === "gone";
    return isOut || isUnhealthyFor(record, spec.thresholds.holdMs, now);
  });
  const doubtful = members.filter(({ record }) => record.phase === "lost" || record.signal !== "healthy").length;
  return { members: members.length, unhealthy: unhealthy.map(({ record }) => record.endpoint), doubtful };
}

/** Counts as one of the swarm's endpoints: it serves, has served, or a run handles it. */
export function isLive(record: EndpointRecord): boolean {
  return record.proven && record.phase !== "retired";
}

/** More than the budget's share and more than one unhealthy, or so many doubtful at once that the measurement itself is doubted. */
export function isFrozen(spec: SwarmSpec, beliefs: readonly Belief[], now: number): boolean {
  const count = countUnhealthy(spec, beliefs, now);
  const isOver = (number: number, sharePercent: number) => number > 1 && number * 100 > count.members * sharePercent;
  return (
    isOver(count.unhealthy.length, spec.budget.freezeUnhealthyPercent) || isOver(count.doubtful, LIMITS.plan.doubtSharePercent)
  );
}
