/**
 * The decision: what to do about a swarm, given what is known. Pure; called inside the swarm workflow, so that its history explains
 * each step and replay repeats it.
 */
import type { Observation } from "./observation.ts";
import type { SwarmSpec } from "./swarm-spec.ts";

/** What Foreshift believes of one endpoint between two decisions. */
export interface EndpointRecord {
  readonly endpoint: string;
  readonly phase: "joining" | "active" | "degraded" | "draining" | "lost" | "retired";
  /** Weight last asked for. */
  readonly weight: number;
  /** Unix ms since which the present signal (`healthy`, `degraded`, `critical`) has been seen without a break. */
  readonly signal: "healthy" | "degraded" | "critical";
  readonly signalSinceMs: number;
  /** Unix ms of the last chosen action on it. */
  readonly lastActionAtMs: number | undefined;
  /** Why it is in its phase, one sentence. */
  readonly reason: string;
}

/** A disruption that was chosen; `endedAtMs` undefined while it is under way. */
export interface Disruption {
  readonly endpoint: string;
  readonly startedAtMs: number;
  readonly endedAtMs: number | undefined;
}

/** The swarm workflow's state, carried over continue-as-new. */
export interface SwarmState {
  readonly version: 1;
  readonly spec: SwarmSpec;
  readonly endpoints: readonly EndpointRecord[];
  readonly disruptions: readonly Disruption[];
  readonly stopped: { readonly by: string; readonly reason: string; readonly atMs: number } | undefined;
  /** Frozen by the budget: too many unhealthy. */
  readonly frozenSinceMs: number | undefined;
  /** A person asked for these; they go first, within the budget. */
  readonly requested: readonly { readonly kind: "drain" | "replace"; readonly endpoint: string; readonly by: string }[];
  readonly reflexSeq: number;
}

export type Step =
  | { readonly kind: "set-weight"; readonly endpoint: string; readonly weight: number; readonly reason: string }
  | { readonly kind: "drain-and-replace"; readonly endpoint: string; readonly cause: string; readonly reason: string }
  | { readonly kind: "finish-lost"; readonly endpoint: string; readonly cause: string; readonly reason: string }
  | { readonly kind: "replenish-ghosts"; readonly count: number; readonly reason: string }
  | { readonly kind: "add-endpoints"; readonly count: number; readonly reason: string }
  | { readonly kind: "page"; readonly subject: string; readonly reason: string };

export interface Plan {
  /** The state after the decision: signals, phases and the disruptions that the steps begin. */
  readonly state: SwarmState;
  readonly steps: readonly Step[];
  /** Steps that were wanted and not taken, and why (budget, cool-down, capacity, stop switch). */
  readonly withheld: readonly { readonly step: Step; readonly because: string }[];
}

export declare function plan(state: SwarmState, observation: Observation, now: number): Plan;
