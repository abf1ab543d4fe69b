/** Whether a swarm has more endpoints than it wants, and since when. */
import type { Observation } from "./observation.ts";
import { type Scale, scaleFor } from "./scale.ts";
import type { SwarmState } from "./swarm-state.ts";

export function scaleOf(state: SwarmState, observation: Observation, now: number): Scale {
  const sessions = observation.endpoints.reduce((sum, one) => sum + one.sessions, 0);
  return scaleFor(state.spec, sessions, state.demand, now);
}

/**
 * Only of a swarm that may grow by itself: of another one the count is a person's word, and so is its lowering. While an endpoint leaves, the
 * time begins anew, so that each further one waits as long as the first.
 */
export function surplusSince(state: SwarmState, observation: Observation, now: number): number | undefined {
  if (state.spec.endpoints.countMax === undefined || !observation.reflexAnswers) return undefined;
  if (state.endpoints.some(({ phase }) => phase === "draining" || phase === "lost")) return undefined;
  const there = state.endpoints.filter(({ phase }) => phase === "active" || phase === "degraded").length;
  return there > scaleOf(state, observation, now).kept ? (state.surplusSinceMs ?? now) : undefined;
}
