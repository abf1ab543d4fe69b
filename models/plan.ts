/**
 * The decision: what to do about a swarm, given what is known. Pure; called inside the swarm workflow, so that its history explains
 * each step and replay repeats it.
 */
import { type Belief, believe } from "./belief.ts";
import { isWithin } from "./budget.ts";
import { chooseSteps } from "./choose.ts";
import type { Observation } from "./observation.ts";
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

/** `now`: Unix milliseconds. The same input gives the same plan, and the plan's own state gives no new steps at the same moment. */
export function plan(state: SwarmState, observation: Observation, now: number): Plan {
  const beliefs = believe(state, observation, now);
  const believed = withSurplus(withBeliefs(state, beliefs, observation, now), observation, now);
  const decision = chooseSteps(believed, beliefs, observation, now);
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
