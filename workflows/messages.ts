/**
 * Every update, signal and query, in one place. Updates are imperatives, signals are facts in the past tense, queries are nouns; each
 * takes one object. The names in quotes are wire names and are never changed.
 */
import { defineQuery, defineSignal, defineUpdate } from "@temporalio/workflow";
import type { RotationStatus } from "../models/keys.ts";
import type { RollStatus } from "../models/roll.ts";
import type {
  ApplySwarmRequest,
  ApplySwarmResult,
  DrainFinished,
  EndpointRelieved,
  EndpointRequest,
  EndpointRequestAccepted,
  LastPlan,
  LossHandled,
  MachineObtained,
  MachinesAdded,
  RisksScored,
  RollAbort,
  RollAccepted,
  RollAdvanced,
  RollControl,
  RollFinished,
  RollRequest,
  StopRequest,
  StopResult,
  SwarmStatus,
} from "../models/swarm-messages.ts";

/** Takes an endpoint out of the swarm: the members that remain take its sessions, its machine ends. CAPACITY_EXCEEDED when they cannot. */
export const drainEndpointUpdate = defineUpdate<EndpointRequestAccepted, [EndpointRequest]>("drainEndpoint");
/** Puts a fresh machine, or a ghost, in an endpoint's place: it is there before the sessions move. */
export const replaceEndpointUpdate = defineUpdate<EndpointRequestAccepted, [EndpointRequest]>("replaceEndpoint");

export const applySwarmUpdate = defineUpdate<ApplySwarmResult, [ApplySwarmRequest]>("applySwarm");

export const stopAutomationUpdate = defineUpdate<StopResult, [StopRequest]>("stopAutomation");
export const resumeAutomationUpdate = defineUpdate<StopResult, [StopRequest]>("resumeAutomation");

/** Begins the rollout of an image, one at a time for each swarm. */
export const rollSwarmUpdate = defineUpdate<RollAccepted, [RollRequest]>("rollSwarm");
/** Of the rollout itself. */
export const pauseRollUpdate = defineUpdate<RollStatus, [RollControl]>("pauseRoll");
export const resumeRollUpdate = defineUpdate<RollStatus, [RollControl]>("resumeRoll");
export const abortRollUpdate = defineUpdate<RollStatus, [RollAbort]>("abortRoll");

export const machineObtainedSignal = defineSignal<[MachineObtained]>("machineObtained");
export const drainFinishedSignal = defineSignal<[DrainFinished]>("drainFinished");
export const lossHandledSignal = defineSignal<[LossHandled]>("lossHandled");
export const ghostsReplenishedSignal = defineSignal<[MachinesAdded]>("ghostsReplenished");
export const endpointsAddedSignal = defineSignal<[MachinesAdded]>("endpointsAdded");

export const endpointRelievedSignal = defineSignal<[EndpointRelieved]>("endpointRelieved");

export const rollAdvancedSignal = defineSignal<[RollAdvanced]>("rollAdvanced");
export const rollFinishedSignal = defineSignal<[RollFinished]>("rollFinished");

export const risksScoredSignal = defineSignal<[RisksScored]>("risksScored");

export const swarmStatusQuery = defineQuery<SwarmStatus>("swarmStatus");
export const planQuery = defineQuery<LastPlan | undefined>("plan");

/** Of a rollout: how far it is. */
export const rollQuery = defineQuery<RollStatus>("roll");

/** Of a rotation of keys: how far it is. */
export const rotationQuery = defineQuery<RotationStatus>("rotation");
