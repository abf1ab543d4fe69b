/**
 * Every update, signal and query, in one place. Updates are imperatives, signals are facts in the past tense, queries are nouns; each
 * takes one object. The names in quotes are wire names and are never changed.
 */
import { defineQuery, defineSignal, defineUpdate } from "@temporalio/workflow";
import type { RunUnderWay } from "../models/decision.ts";
import type { EndpointRecord, Plan } from "../models/plan.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";

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

/** Takes an endpoint out of service: its sessions move, its machine ends. */
export const drainEndpointUpdate = defineUpdate<EndpointRequestAccepted, [EndpointRequest]>("drainEndpoint");
/** The same, and the request says that a fresh machine is what is wanted. */
export const replaceEndpointUpdate = defineUpdate<EndpointRequestAccepted, [EndpointRequest]>("replaceEndpoint");

export interface ApplySwarmRequest {
  readonly spec: SwarmSpec;
  readonly by: string;
}

export interface ApplySwarmResult {
  readonly created: boolean;
}

export const applySwarmUpdate = defineUpdate<ApplySwarmResult, [ApplySwarmRequest]>("applySwarm");

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

export const stopAutomationUpdate = defineUpdate<StopResult, [StopRequest]>("stopAutomation");
export const resumeAutomationUpdate = defineUpdate<StopResult, [StopRequest]>("resumeAutomation");

/** What came of a run; sent by the run itself as its last word. */
export interface DrainFinished {
  readonly workflowId: string;
  readonly endpoint: string;
  /** `put-back`: everything is as it was. `failed`: it could not be put back either; a person was paged. */
  readonly outcome: "replaced" | "put-back" | "failed";
  readonly replacement: string | undefined;
  readonly sessionsMoved: number;
  readonly text: string;
}

export interface LossHandled {
  readonly workflowId: string;
  readonly endpoint: string;
  readonly outcome: "recovered" | "replaced" | "failed";
  readonly replacement: string | undefined;
  readonly text: string;
}

export interface MachinesAdded {
  readonly workflowId: string;
  /** Names of what was added; fewer than asked for when some failed. */
  readonly machines: readonly string[];
  readonly text: string;
}

export const drainFinishedSignal = defineSignal<[DrainFinished]>("drainFinished");
export const lossHandledSignal = defineSignal<[LossHandled]>("lossHandled");
export const ghostsReplenishedSignal = defineSignal<[MachinesAdded]>("ghostsReplenished");
export const endpointsAddedSignal = defineSignal<[MachinesAdded]>("endpointsAdded");

export interface SwarmStatus {
  readonly swarm: string;
  readonly stopped: { readonly by: string; readonly reason: string; readonly atMs: number } | undefined;
  readonly frozenSinceMs: number | undefined;
  readonly endpoints: readonly EndpointRecord[];
  readonly runs: readonly RunUnderWay[];
  readonly spec: SwarmSpec | undefined;
  /** Latest first, each one sentence. */
  readonly recent: readonly string[];
}

export interface LastPlan {
  readonly atMs: number;
  readonly steps: Plan["steps"];
  readonly withheld: Plan["withheld"];
}

export const swarmStatusQuery = defineQuery<SwarmStatus>("swarmStatus");
export const planQuery = defineQuery<LastPlan | undefined>("plan");
