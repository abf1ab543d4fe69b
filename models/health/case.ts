/** An anomaly from its opening to its close: opened once, followed while it lasts, closed when calm or when it has become usual. */
import { z } from "zod";
import { LIMITS } from "../limits.ts";
import { isHarmful } from "./prior.ts";
import { GRAINS } from "./series-health.ts";

export const Case = z.strictObject({
  endpoint: z.string(),
  /** One series, or those that do not go together. */
  metrics: z.array(z.string()).min(1),
  isJoint: z.boolean(),
  sinceMs: z.number(),
  openedAtMs: z.number(),
  /** Undefined while it is open. A closed one is remembered for a rest: what comes again in it is the same anomaly. */
  closedAtMs: z.number().optional(),
  /** Powers of ten of improbability: at its strongest, and at last. */
  peak: z.number(),
  latest: z.number(),
  scope: z.enum(["endpoint", "everybody"]),
  /** Endpoints that show it, of those that report the metric. */
  showing: z.number(),
  reporting: z.number(),
  /** What was expected when it opened: the baseline moves on, this does not. */
  low: z.number(),
  high: z.number(),
  value: z.number(),
  peerMedian: z.number().optional(),
  calmGrains: z.number(),
  /** By a change of level in the newest values. */
  isStep: z.boolean(),
});
export type Case = z.infer<typeof Case>;

/** What one grain says about a case. */
export interface Sighting {
  readonly atMs: number;
  readonly strength: number;
  readonly value: number;
  readonly peerMedian: number | undefined;
  readonly isStep: boolean;
}

/** The case after one more grain. `enter` is the strength from which a case opens. */
export function follow(known: Case, seen: Sighting, enter: number): Case {
  const isOutside = !known.isJoint && (seen.value < known.low || seen.value > known.high);
  const isCalm = !isOutside && seen.strength < enter * LIMITS.health.leaveShare;
  const calmGrains = isCalm ? known.calmGrains + 1 : 0;
  const hasBecomeUsual = seen.atMs - known.openedAtMs >= LIMITS.health.adoptAfterMs;
  const { peerMedian: _before, ...rest } = known;
  return {
    ...rest,
    peak: Math.max(known.peak, seen.strength),
    latest: seen.strength,
    value: seen.value,
    ...(seen.peerMedian === undefined ? {} : { peerMedian: seen.peerMedian }),
    calmGrains,
    isStep: known.isStep || seen.isStep,
    ...(calmGrains >= LIMITS.health.calmGrains || hasBecomeUsual ? { closedAtMs: seen.atMs } : {}),
  };
}

/**
 * 0..1: by how improbable it is at its strongest (half at two powers of ten) and how far outside of what was expected it is at last
 * (half at the edge); halved while it calms down, and where everybody shows it; a quarter where it is no harm (more demand, less loss).
 */
export function severityOf(one: Case): number {
  const { peak, calmGrains, scope, low, high, value } = one;
  const improbability = 1 - 2 ** (-peak / 2);
  const middle = (low + high) / 2;
  const reaches = Math.abs(value - middle) / Math.max((high - low) / 2, Number.MIN_VALUE);
  const distance = one.isJoint || value === middle ? 1 : 1 - 2 ** -Math.min(reaches, 64);
  const harm = one.isJoint || one.metrics.some((metric) => isHarmful(metric, value < middle ? "below" : "above")) ? 1 : 0.25;
  return improbability * distance * harm * (calmGrains > 0 ? 0.5 : 1) * (scope === "everybody" ? 0.5 : 1);
}

/** `step` once the level has changed and has held for some grains. */
export function kindOf({ isJoint, isStep, openedAtMs }: Case, atMs: number): "spike" | "step" | "joint" {
  if (isJoint) return "joint";
  return isStep && atMs - openedAtMs >= LIMITS.health.calmGrains * GRAINS.fastMs ? "step" : "spike";
}
