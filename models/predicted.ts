/** What is wanted on account of predictions: machines to leave before they fail, and weights to lower meanwhile. */
import type { Belief } from "./belief.ts";
import { isInControlSlice } from "./control-slice.ts";
import { asksToLeave, bandAt, carrierAt, type RiskBand, type RiskRecord, riskText, riskWeight } from "./foresight.ts";
import { LIMITS } from "./limits.ts";
import type { Step } from "./step.ts";
import { isServing, type SwarmState } from "./swarm-state.ts";

type MoveStep = Extract<Step, { kind: "drain-and-replace" }>;
type WeightStep = Extract<Step, { kind: "set-weight" }>;

/** The risk that counts of an endpoint now; undefined when nothing is predicted of it. */
export function riskOf(state: SwarmState, endpoint: string, now: number): { band: RiskBand; record: RiskRecord } | undefined {
  const policy = state.spec.foresight;
  if (policy === undefined || policy.mode === "off") return undefined;
  const record = (state.risks ?? []).find(({ score }) => score.endpoint === endpoint);
  return record === undefined ? undefined : { band: bandAt(record, policy, now), record };
}

/**
 * The surest first. Nobody is moved when half of the swarm looks the same: then a common cause, or the model, is doubted. Nor by a band
 * that only its dwell upholds: what was withheld then may have passed.
 */
export function predictedMoves(state: SwarmState, beliefs: readonly Belief[], now: number): readonly MoveStep[] {
  if (isCommon(state, beliefs, now)) return [];
  return highRisks(state, beliefs, now)
    .filter(({ record }) => asksToLeave(record, state.spec.foresight, now))
    .toSorted((a, b) => b.record.score.failure.low - a.record.score.failure.low)
    .map(({ endpoint, record }) => {
      const reason = `${endpoint} ${riskText(record, state.spec.foresight)}.`;
      return { kind: "drain-and-replace", endpoint, mode: "spread", cause: predictedCause(record), reason };
    });
}

/** Lower than the present weight by a step at least; undefined otherwise. */
export function predictedWeight({ record: belief }: Belief, state: SwarmState, now: number): WeightStep | undefined {
  const risk = riskOf(state, belief.endpoint, now);
  if (risk === undefined || risk.band === "low") return undefined;
  const weight = riskWeight(state.spec.endpoints.weight, risk.record);
  if (weight > belief.weight - LIMITS.members.weightStepMin) return undefined;
  const { endpoint } = belief;
  const isControl = isControlled(state, endpoint);
  const slice = isControl ? " It is in the control slice: nothing more is done on a prediction." : "";
  const reason = `${endpoint} ${riskText(risk.record, state.spec.foresight)}. Weight ${belief.weight} becomes ${weight}.${slice}`;
  return { kind: "set-weight", endpoint, weight, cause: isControl ? "control-slice" : "predicted", reason };
}

/** Left where it is whatever is predicted of it, so that it is seen what comes. */
export function isControlled({ spec }: SwarmState, endpoint: string): boolean {
  return isInControlSlice(spec.name, endpoint, spec.foresight.controlShare);
}

/** Why an endpoint that its risk asks to leave is not left; undefined where nothing speaks against it. */
export function whyStays(state: SwarmState, endpoint: string, now: number): string | undefined {
  if (isControlled(state, endpoint)) return "it is in the control slice: only its weight is lowered (foresight.controlShare)";
  const record = riskOf(state, endpoint, now)?.record;
  if (carrierAt(record, state.spec.foresight, now) === "shadow") return undefined;
  return "what would take its sessions over is as likely to fail";
}

/** Whether its sessions, once they were led away, are better off where they are. */
export function isBetterAway(state: SwarmState, endpoint: string, now: number): boolean {
  return carrierAt(riskOf(state, endpoint, now)?.record, state.spec.foresight, now) === "shadow";
}

/** More than one, and at least half of those that serve, are at high risk at once. */
export function isCommon(state: SwarmState, beliefs: readonly Belief[], now: number): boolean {
  const high = highRisks(state, beliefs, now).length;
  const members = beliefs.filter(({ record }) => isServing(record)).length;
  return isCommonCause(high, members);
}

/** `high`: endpoints of high risk, of so many that serve. */
export function isCommonCause(high: number, members: number): boolean {
  return high > 1 && high * 100 >= members * LIMITS.plan.doubtSharePercent;
}

function highRisks(
  state: SwarmState,
  beliefs: readonly Belief[],
  now: number,
): readonly { endpoint: string; record: RiskRecord }[] {
  return beliefs.flatMap(({ record: { endpoint, phase } }) => {
    const risk = isServing({ phase }) ? riskOf(state, endpoint, now) : undefined;
    return risk?.band === "high" ? [{ endpoint, record: risk.record }] : [];
  });
}

const PREDICTED = "predicted-";

function predictedCause({ score }: RiskRecord): string {
  return `${PREDICTED}${score.terms[0]?.name ?? "failure"}`;
}

/** Whether a step was taken because of what was predicted, not of what was seen. */
export function isPredictedCause(cause: string): boolean {
  return cause.startsWith(PREDICTED);
}
