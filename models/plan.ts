/**
 * The decision: what to do about a swarm, given what is known. Pure; called inside the swarm workflow, so that its history explains
 * each step and replay repeats it.
 */
import { type Belief, believe } from "./belief.ts";
import { isWithin } from "./budget.ts";
import { chooseSteps } from "./choose.ts";
import type { Abilities } from "./draft.ts";
import { SCALING_LIMITS } from "./limits-scaling.ts";
import type { Observation } from "./observation.ts";
import { isPredictedCause } from "./predicted.ts";
import { lastingReliefs } from "./relieve.ts";
import type { Step, Withheld } from "./step.ts";
import { surplusSince } from "./surplus.ts";
import { isPredictable, type SwarmState } from "./swarm-state.ts";
import { isFrozen } from "./unhealthy.ts";
import { nextDecisionAtMs } from "./wake.ts";

export { summary } from "./summary.ts";
export type { Disruption, DisruptionOutcome, EndpointRecord, Phase, Signal, SwarmState } from "./swarm-state.ts";
export {
  applySpec,
  initialState,
  recordDisruptionEnd,
  recordLaunchEnd,
  recordReliefEnd,
  requestDrain,
  requestReplace,
  resume,
  stop,
  takeDemand,
  takeRoll,
  takeScores,
} from "./swarm-state.ts";

export type { Step, Withheld };

export interface Plan {
  /** The state after the decision: signals, phases and the disruptions that the steps begin. */
  readonly state: SwarmState;
  readonly steps: readonly Step[];
  /** Steps that were wanted and not taken, and why (budget, cool-down, capacity, stop switch). */
  readonly withheld: readonly Withheld[];
  /** Unix milliseconds at which time alone may lead to another decision, should nothing change before. */
  readonly nextAtMs: number | undefined;
}

/** What is planned for unless something else is said. */
export const ABILITIES: Abilities = { addRunsMax: SCALING_LIMITS.addRunsMax, relieves: true, spreads: true };
/** What histories were recorded with in which none of these was known. */
export const FORMER_ABILITIES: Abilities = { addRunsMax: 1, relieves: false, spreads: false };

/** Which abilities beyond the former ones a plan makes use of. */
export function abilitiesUsed({ steps }: Plan): readonly (keyof Abilities)[] {
  const uses: Readonly<Record<keyof Abilities, (step: Step) => boolean>> = {
    addRunsMax: (step) => step.kind === "add-endpoints" && step.turn !== undefined,
    relieves: (step) => step.kind === "relieve",
    spreads: (step) => step.kind === "drain-and-replace" && step.mode === "spread" && !isPredictedCause(step.cause),
  };
  const all: readonly (keyof Abilities)[] = ["addRunsMax", "relieves", "spreads"];
  return all.filter((ability) => steps.some(uses[ability]));
}

/** `now`: Unix milliseconds. The same input gives the same plan, and the plan's own state gives no new steps at the same moment. */
export function plan(state: SwarmState, observation: Observation, now: number, abilities = ABILITIES): Plan {
  const beliefs = believe(state, observation, now);
  const believed = withSurplus(withBeliefs(state, beliefs, observation, now), observation, now);
  const decision = chooseSteps(believed, beliefs, observation, now, abilities);
  return { ...decision, nextAtMs: nextDecisionAtMs(decision.state, observation, now) };
}

function withBeliefs(state: SwarmState, beliefs: readonly Belief[], observation: Observation, now: number): SwarmState {
  const endpoints = beliefs.map((belief) => belief.record);
  const names = new Set(endpoints.filter((record) => record.phase !== "retired").map((record) => record.endpoint));
  const predictable = new Set(endpoints.filter(isPredictable).map((record) => record.endpoint));
  const { windowMs } = state.spec.budget;
  return {
    ...state,
    endpoints,
    disruptions: state.disruptions.filter((one) => isWithin(one, windowMs, now)),
    requested: state.requested.filter((one) => names.has(one.endpoint)),
    ...(state.reliefs === undefined ? {} : { reliefs: lastingReliefs(state.reliefs, state.spec.thresholds.coolDownMs, now) }),
    ...(state.risks === undefined ? {} : { risks: state.risks.filter(({ score }) => predictable.has(score.endpoint)) }),
    frozenSinceMs: observation.reflexAnswers
      ? isFrozen(state.spec, beliefs, now)
        ? (state.frozenSinceMs ?? now)
        : undefined
      : state.frozenSinceMs,
    reflexSilentSinceMs: observation.reflexAnswers ? undefined : (state.reflexSilentSinceMs ?? now),
    reflexSeq: Math.max(state.reflexSeq, observation.reflexSeq),
  };
}

function withSurplus(state: SwarmState, observation: Observation, now: number): SwarmState {
  const surplusSinceMs = surplusSince(state, observation, now);
  return surplusSinceMs === state.surplusSinceMs ? state : { ...state, surplusSinceMs };
}
