/**
 * What people, programs and runs say to a swarm's workflow, and what it answers. Updates are imperatives, signals are facts in the past
 * tense, queries are nouns; each takes one object. workflows/messages.ts gives them their wire names.
 */
import type { RunUnderWay } from "./decision.ts";
import type { RiskRecord } from "./foresight.ts";
import type { EndpointRecord, Plan } from "./plan.ts";
import type { ScoredEndpoint } from "./risk.ts";
import type { RollOutcome, RollStatus } from "./roll.ts";
import type { DemandForecast } from "./scale.ts";
import type { RollPolicy, SwarmSpec } from "./swarm-spec.ts";
import type { Request } from "./swarm-state.ts";

/** Workflow id of a swarm's entity workflow. */
export function swarmWorkflowId(swarm: string): string {
  return `swarm/${swarm}`;
}

export interface EndpointRequest {
  readonly endpoint: string;
  /** Who asks, for the audit trail. */
  readonly by: string;
}

export interface EndpointRequestAccepted {
  /** The run that will handle it, once the budget allows it. */
  readonly workflowId: string;
}

export interface ApplySwarmRequest {
  readonly spec: SwarmSpec;
  readonly by: string;
}

export interface ApplySwarmResult {
  readonly created: boolean;
}

export interface StopRequest {
  /** This swarm alone, or every swarm. */
  readonly scope: "swarm" | "all";
  readonly by: string;
  readonly reason: string;
}

export interface StopResult {
  /** Whether the swarm is held by a switch now, this one or another. */
  readonly stopped: boolean;
}

/** Workflow id of a swarm's rollout. */
export function rollWorkflowId(swarm: string): string {
  return `roll/${swarm}`;
}

export interface RollRequest {
  readonly image: string;
  readonly by: string;
  /** What is to be otherwise than in the swarm file. */
  readonly policy: Partial<RollPolicy>;
}

export interface RollAccepted {
  readonly workflowId: string;
  readonly status: RollStatus;
}

export interface RollControl {
  readonly by: string;
}

export interface RollAbort {
  readonly by: string;
  /** Ended where it is; otherwise what was replaced goes back to the former image. */
  readonly keep: boolean;
}

/** What a rollout wants of its swarm from now on, and how far it is. */
export interface RollAdvanced {
  readonly workflowId: string;
  /** Machines that are launched boot from it. */
  readonly image: string;
  readonly endpoints: readonly string[];
  readonly status: RollStatus;
}

export interface RollFinished extends RollAdvanced {
  readonly outcome: RollOutcome;
  readonly text: string;
}

/** A run has a machine that it brings into service. */
export interface MachineObtained {
  readonly workflowId: string;
  readonly machine: string;
}

/** What an endpoint held too many has been led away, or what came over of it. */
export interface EndpointRelieved {
  readonly workflowId: string;
  readonly endpoint: string;
  readonly failed: boolean;
  readonly text: string;
}

/** What came of a run; sent by the run itself as its last word. */
export interface DrainFinished {
  readonly workflowId: string;
  readonly endpoint: string;
  /**
   * `replaced`: another machine has taken its place. `drained`: the members that remain have its sessions. `put-back`: it serves as
   * before. `failed`: it could not be put back either; a person was paged.
   */
  readonly outcome: "replaced" | "drained" | "put-back" | "failed";
  readonly replacement: string | undefined;
  readonly sessionsMoved: number;
  readonly text: string;
}

export interface LossHandled {
  readonly workflowId: string;
  readonly endpoint: string;
  readonly outcome: "recovered" | "replaced" | "removed" | "failed";
  readonly replacement: string | undefined;
  readonly text: string;
}

export interface MachinesAdded {
  readonly workflowId: string;
  /** Names of what was added; fewer than asked for when some failed. */
  readonly machines: readonly string[];
  readonly text: string;
}

/** What is predicted of endpoints anew. */
export interface RisksScored {
  readonly scores: readonly ScoredEndpoint[];
  /** Undefined when there is nothing new to say of the load. */
  readonly demand?: DemandForecast | undefined;
}

export interface SwarmStatus {
  readonly swarm: string;
  readonly stopped: { readonly by: string; readonly reason: string; readonly atMs: number } | undefined;
  readonly frozenSinceMs: number | undefined;
  readonly endpoints: readonly EndpointRecord[];
  readonly runs: readonly RunUnderWay[];
  /** Asked for by a person and not begun yet. */
  readonly requested: readonly Request[];
  readonly spec: SwarmSpec | undefined;
  /** What is predicted of its endpoints, as it was told last. */
  readonly risks: readonly RiskRecord[];
  /** The newest forecast of its load. */
  readonly demand: DemandForecast | undefined;
  /** The rollout of an image that is under way, or the last one. */
  readonly roll: RollStatus | undefined;
  /** Latest first, each one sentence. */
  readonly recent: readonly string[];
}

export interface LastPlan {
  readonly atMs: number;
  readonly steps: Plan["steps"];
  readonly withheld: Plan["withheld"];
}
