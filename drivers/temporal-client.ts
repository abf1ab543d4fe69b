/**
 * Triggers and asks the workflows of swarms: what the command line uses, and all that a program of one's own needs. Updates are by wire
 * name, so nothing of workflows/ is loaded.
 */

import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import {
  Client,
  Connection,
  type ConnectionOptions,
  isGrpcServiceError,
  type ScheduleClient,
  type ScheduleExecutionActionResult,
  ScheduleNotFoundError,
  WithStartWorkflowOperation,
  type WorkflowClient,
  WorkflowExecutionAlreadyStartedError,
  WorkflowFailedError,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
} from "@temporalio/client";
import { ApplicationFailure } from "@temporalio/common";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import {
  type CertificateRevoked,
  type ClientsRevoked,
  type EndpointRevoked,
  type KeyKind,
  type RevokeCertificateInput,
  type RevokeClientsInput,
  type RevokeEndpointInput,
  type RotateAllInput,
  type RotateInput,
  type RotationStatus,
  rotateWorkflowId,
  scopeOf,
} from "../models/keys.ts";
import { LIMITS } from "../models/limits.ts";
import { retrainIdOf } from "../models/retraining/schedule.ts";
import type { RollStatus } from "../models/roll.ts";
import {
  type ApplySwarmRequest,
  type ApplySwarmResult,
  type EndpointRequest,
  type EndpointRequestAccepted,
  type LastPlan,
  type RollAbort,
  type RollAccepted,
  type RollControl,
  type RollRequest,
  rollWorkflowId,
  type StopRequest,
  type StopResult,
  type SwarmStatus,
  swarmWorkflowId,
} from "../models/swarm-messages.ts";
import type { PayloadSealing } from "./temporal-codec/codec.ts";
import { type HistoryEvent, readableEvents } from "./temporal-codec/history.ts";
import { Retries } from "./temporal-retries.ts";

export interface TemporalOptions {
  readonly temporalAddress: string;
  readonly temporalNamespace: string;
  /** TLS and API key, where the cluster wants them. */
  readonly security?: Pick<ConnectionOptions, "tls" | "apiKey">;
  /** The workers' own way to seal payloads; closed by who opened it. */
  readonly sealing: PayloadSealing;
}

/** Each call fails with a ForeshiftError: the workflow's own, UNKNOWN_SWARM, or UNREACHABLE. */
export interface Temporal {
  /** Starts the swarm's workflow with its file, or states a changed file to the one that runs. */
  applySwarm(request: ApplySwarmRequest): Promise<ApplySwarmResult>;
  drainEndpoint(request: EndpointRequest & { swarm: string }): Promise<EndpointRequestAccepted>;
  replaceEndpoint(request: EndpointRequest & { swarm: string }): Promise<EndpointRequestAccepted>;
  /** Begins the rollout of an image; ROLL_UNDER_WAY while one runs. */
  rollSwarm(request: RollRequest & { swarm: string }): Promise<RollAccepted>;
  /** Of the rollout that runs; NO_ROLLOUT where none does. */
  pauseRoll(request: RollControl & { swarm: string }): Promise<RollStatus>;
  resumeRoll(request: RollControl & { swarm: string }): Promise<RollStatus>;
  abortRoll(request: RollAbort & { swarm: string }): Promise<RollStatus>;
  stopAutomation(request: StopRequest & { swarm: string }): Promise<StopResult>;
  resumeAutomation(request: StopRequest & { swarm: string }): Promise<StopResult>;
  status(swarm: string): Promise<SwarmStatus>;
  lastPlan(swarm: string): Promise<LastPlan | undefined>;
  /** Begins a rotation of keys; ROTATION_UNDER_WAY while one of the same kind runs. Answers its run. */
  rotateKeys(request: RotateInput): Promise<{ workflowId: string; runId: string }>;
  /** The rotation of this kind that runs, or the last one; undefined when there was none. */
  rotation(swarm: string, kind: KeyKind): Promise<RotationStatus | undefined>;
  /** One run that rotates several kinds, one after the other; ROTATION_UNDER_WAY while one runs. */
  rotateAll(request: RotateAllInput): Promise<{ workflowId: string; runId: string }>;
  /** Takes clients out for good, and waits until they are. */
  revokeClients(request: RevokeClientsInput): Promise<ClientsRevoked>;
  /** Takes an endpoint out for good, and waits until nothing is led to it. UNKNOWN_ENDPOINT. */
  revokeEndpoint(request: RevokeEndpointInput): Promise<EndpointRevoked>;
  /** Puts a certificate on the revocation list. INVALID_FIELD for a serial that Vault did not sign. */
  revokeCertificate(request: RevokeCertificateInput): Promise<CertificateRevoked>;
  /** Names of the swarms whose workflow runs. */
  swarms(): Promise<readonly string[]>;
  /** Begins a retraining as its Schedule would; one that is under way is answered instead. NOT_READY where there is no Schedule. */
  retrain(swarm: string): Promise<RetrainBegun>;
  /** Workflow ids of the swarm's open runs, its own among them. As the server's index knows them: about a second late. */
  openRuns(swarm: string): Promise<readonly string[]>;
  /** Run id of the latest run of this workflow, under way or not; undefined when there was none. */
  lastRun(workflowId: string): Promise<string | undefined>;
  /** What a run has written of itself so far, a line each; none when no worker answers. */
  runLines(workflowId: string, runId: string): Promise<readonly string[]>;
  /** What the run answers once it has ended. */
  result(workflowId: string, runId: string): Promise<unknown>;
  /** The events of a run, payloads opened; of the latest run when none is named. */
  history(workflowId: string, runId?: string): Promise<readonly HistoryEvent[]>;
  close(): Promise<void>;
}

/** gRPC's INVALID_ARGUMENT, of a run id that is none, and NOT_FOUND. */
const UNKNOWN_RUN_STATUS: readonly number[] = [3, 5];

export interface RetrainBegun {
  readonly workflowId: string;
  readonly runId: string;
  /** False when it was under way already. */
  readonly isNew: boolean;
}

export async function openTemporal(options: TemporalOptions): Promise<Temporal> {
  const { temporalAddress: address, temporalNamespace: namespace } = options;
  const connectTimeout = LIMITS.control.updateTimeoutMs;
  const retries = new Retries();
  const { interceptors } = retries;
  const connection = await reach(address, () =>
    Connection.connect({ address, connectTimeout, interceptors, ...options.security }),
  );
  const { converter } = options.sealing;
  const { schedule, workflow } = new Client({
    connection,
    namespace,
    ...(converter === undefined ? {} : { dataConverter: converter }),
  });
  const ask: Ask = (swarm, call) =>
    reach(address, () => connection.withDeadline(Date.now() + LIMITS.control.updateTimeoutMs, call), swarm);
  const find = async (what: string): Promise<readonly string[]> => {
    const found: string[] = [];
    for await (const run of workflow.list({ query: `ExecutionStatus = "Running" AND ${what}` })) found.push(run.workflowId);
    return found;
  };

  return {
    ...swarmCalls(workflow, ask),
    ...keyCalls(workflow, address),
    swarms: async () => {
      const ids = await ask("*", () => find(`WorkflowType = "swarm"`));
      return ids.map((id) => id.slice(swarmWorkflowId("").length)).sort();
    },
    retrain: (swarm) => ask(swarm, () => beginRetraining(schedule, swarm)),
    openRuns: (swarm) => ask(swarm, () => find(`ForeshiftSwarm = "${swarm}"`)),
    ...runCalls(workflow, retries, ask, options),
    close: async () => {
      await retries.end();
      await connection.close();
    },
  };
}

type SwarmCalls = Pick<
  Temporal,
  | "applySwarm"
  | "drainEndpoint"
  | "replaceEndpoint"
  | "rollSwarm"
  | "pauseRoll"
  | "resumeRoll"
  | "abortRoll"
  | "stopAutomation"
  | "resumeAutomation"
  | "status"
  | "lastPlan"
>;

function swarmCalls(workflow: WorkflowClient, ask: Ask): SwarmCalls {
  const update = <R, A extends object>(name: string, request: A & { swarm: string }): Promise<R> => {
    const { swarm, ...rest } = request;
    return ask(swarm, () => workflow.getHandle(swarmWorkflowId(swarm)).executeUpdate<R, [object]>(name, { args: [rest] }));
  };
  const control = (name: string, request: RollControl & { swarm: string }): Promise<RollStatus> =>
    ask(request.swarm, () => controlRoll(workflow, name, request));
  const query = <R>(name: string, swarm: string): Promise<R> =>
    ask(swarm, () => workflow.getHandle(swarmWorkflowId(swarm)).query<R, []>(name));
  return {
    applySwarm: (request) => {
      const swarm = request.spec.name;
      const startWorkflowOperation = new WithStartWorkflowOperation("swarm", {
        workflowId: swarmWorkflowId(swarm),
        taskQueue: "control",
        args: [{ swarm }],
        workflowIdConflictPolicy: "USE_EXISTING",
        staticSummary: `Swarm ${swarm}`,
      });
      return ask(swarm, () =>
        workflow.executeUpdateWithStart<() => Promise<void>, ApplySwarmResult, [ApplySwarmRequest]>("applySwarm", {
          args: [request],
          startWorkflowOperation,
        }),
      );
    },
    drainEndpoint: (request) => update("drainEndpoint", request),
    replaceEndpoint: (request) => update("replaceEndpoint", request),
    rollSwarm: (request) => update("rollSwarm", request),
    pauseRoll: (request) => control("pauseRoll", request),
    resumeRoll: (request) => control("resumeRoll", request),
    abortRoll: (request) => control("abortRoll", request),
    stopAutomation: (request) => update("stopAutomation", request),
    resumeAutomation: (request) => update("resumeAutomation", request),
    status: (swarm) => query("swarmStatus", swarm),
    lastPlan: (swarm) => query("plan", swarm),
  };
}

async function controlRoll(
  workflow: WorkflowClient,
  name: string,
  request: RollControl & { swarm: string },
): Promise<RollStatus> {
  const { swarm, ...rest } = request;
  try {
    return await workflow.getHandle(rollWorkflowId(swarm)).executeUpdate<RollStatus, [object]>(name, { args: [rest] });
  } catch (thrown) {
    if (!(thrown instanceof WorkflowNotFoundError)) throw thrown;
    throw new ForeshiftError("NO_ROLLOUT", { value: swarm, detail: "" }, { cause: thrown });
  }
}

type Ask = <T>(swarm: string, call: () => Promise<T>) => Promise<T>;

type RunCalls = Pick<Temporal, "lastRun" | "runLines" | "result" | "history">;

function runCalls(workflow: WorkflowClient, retries: Retries, ask: Ask, options: TemporalOptions): RunCalls {
  const { sealing, temporalAddress: address } = options;
  return {
    lastRun: (workflowId) => ask("*", () => lastRun(workflow, workflowId)),
    runLines: (workflowId, runId) => runLines(workflow, workflowId, runId),
    result: (workflowId, runId) =>
      retries.patiently(() => reach(address, () => workflow.getHandle(workflowId, runId).result())),
    history: (workflowId, runId) =>
      ask("*", async () => readableEvents(await historyOf(workflow, workflowId, runId), sealing.codec)),
  };
}

type KeyCalls = Pick<
  Temporal,
  "rotateKeys" | "rotateAll" | "rotation" | "revokeClients" | "revokeEndpoint" | "revokeCertificate"
>;

function keyCalls(workflow: WorkflowClient, address: string): KeyCalls {
  const revoke = <T>(type: string, request: { readonly swarm: string }): Promise<T> =>
    reach(address, () => {
      const workflowId = `revoke/${request.swarm}/${randomUUID()}`;
      return workflow.execute<() => Promise<T>>(type, { workflowId, taskQueue: "control", args: [request] as never });
    });
  return {
    rotateKeys: (request) => reach(address, () => startRotation(workflow, request), request.swarm),
    rotateAll: (request) => reach(address, () => startRotateAll(workflow, request), request.swarm),
    rotation: (swarm, kind) => reach(address, () => rotationOf(workflow, swarm, kind), swarm),
    revokeClients: (request) => revoke("revokeClients", request),
    revokeEndpoint: (request) => revoke("revokeEndpoint", request),
    revokeCertificate: (request) => revoke("revokeCertificate", request),
  };
}

function startRotation(workflow: WorkflowClient, asked: RotateInput) {
  const { by, kind, reason } = asked;
  const swarm = scopeOf(kind, asked.swarm);
  const request = { ...asked, swarm };
  const staticSummary = `Rotate ${kind} keys of ${swarm === "*" ? "all swarms" : swarm}: ${reason} (${by})`;
  return startOnce(workflow, "rotateKeys", { workflowId: rotateWorkflowId(swarm, kind), args: [request], staticSummary });
}

function startRotateAll(workflow: WorkflowClient, request: RotateAllInput) {
  const { by, kinds, reason, swarm } = request;
  const staticSummary = `Rotate ${kinds.join(", ")} keys of ${swarm}: ${reason} (${by})`;
  return startOnce(workflow, "rotateAll", { workflowId: rotateWorkflowId(swarm, "all"), args: [request], staticSummary });
}

async function startOnce(
  workflow: WorkflowClient,
  type: string,
  options: { workflowId: string; args: [object]; staticSummary: string },
): Promise<{ workflowId: string; runId: string }> {
  const { workflowId } = options;
  try {
    const handle = await workflow.start(type, { ...options, taskQueue: "control" });
    return { workflowId, runId: handle.firstExecutionRunId };
  } catch (thrown) {
    if (!(thrown instanceof WorkflowExecutionAlreadyStartedError)) throw thrown;
    throw new ForeshiftError("ROTATION_UNDER_WAY", { value: workflowId }, { cause: thrown });
  }
}

async function rotationOf(workflow: WorkflowClient, swarm: string, kind: KeyKind): Promise<RotationStatus | undefined> {
  try {
    return await workflow.getHandle(rotateWorkflowId(swarm, kind)).query<RotationStatus, []>("rotation");
  } catch (thrown) {
    if (thrown instanceof WorkflowNotFoundError) return undefined;
    throw thrown;
  }
}

async function historyOf(workflow: WorkflowClient, workflowId: string, runId: string | undefined) {
  try {
    return await workflow.getHandle(workflowId, runId).fetchHistory();
  } catch (thrown) {
    const isUnknown = isGrpcServiceError(thrown) && UNKNOWN_RUN_STATUS.includes(thrown.code);
    if (!isUnknown) throw thrown;
    const value = runId === undefined ? workflowId : `${workflowId} with the run id ${runId}`;
    throw new ForeshiftError("UNKNOWN_RUN", { value }, { cause: thrown });
  }
}

async function lastRun(workflow: WorkflowClient, workflowId: string): Promise<string | undefined> {
  try {
    return (await workflow.getHandle(workflowId).describe()).runId;
  } catch (thrown) {
    if (thrown instanceof WorkflowNotFoundError) return undefined;
    throw thrown;
  }
}

async function beginRetraining(schedules: ScheduleClient, swarm: string): Promise<RetrainBegun> {
  const handle = schedules.getHandle(retrainIdOf(swarm));
  try {
    const { info } = await handle.describe();
    const [running] = info.runningActions;
    if (running !== undefined) return { ...refOf(running), isNew: false };
    const before = info.numActionsTaken;
    await handle.trigger("SKIP");
    for (;;) {
      const { recentActions, numActionsTaken } = (await handle.describe()).info;
      const newest = recentActions.at(-1);
      if (numActionsTaken > before && newest !== undefined) return { ...refOf(newest.action), isNew: true };
      await delay(LIMITS.control.runBeginPollMs);
    }
  } catch (thrown) {
    if (!(thrown instanceof ScheduleNotFoundError)) throw thrown;
    const detail = "there is none yet; the trainer makes it within seconds, so look whether it runs";
    throw new ForeshiftError("NOT_READY", { value: `the Schedule ${retrainIdOf(swarm)}`, detail }, { cause: thrown });
  }
}

function refOf({ workflow }: ScheduleExecutionActionResult): { workflowId: string; runId: string } {
  return { workflowId: workflow.workflowId, runId: workflow.firstExecutionRunId };
}

/** The Web UI's page of a run, less its heading; the query is Temporal's own. */
async function runLines(workflow: WorkflowClient, workflowId: string, runId: string): Promise<readonly string[]> {
  try {
    const { currentDetails = "" } = await workflow
      .getHandle(workflowId, runId)
      .query<{ currentDetails?: string }, []>("__temporal_workflow_metadata");
    return currentDetails.split("\n").flatMap((line) => (line.startsWith("- ") ? [line.slice(2)] : []));
  } catch {
    // Progress is a courtesy: the result is waited for all the same.
    return [];
  }
}

async function reach<T>(address: string, call: () => Promise<T>, swarm?: string): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    throw toForeshiftError(thrown, address, swarm);
  }
}

function toForeshiftError(thrown: unknown, address: string, swarm: string | undefined): ForeshiftError {
  if (thrown instanceof ForeshiftError) return thrown;
  if (thrown instanceof WorkflowUpdateFailedError || thrown instanceof WorkflowFailedError) {
    return codedFailure(thrown.cause) ?? new ForeshiftError("INTERNAL", { detail: messageOf(thrown.cause) }, { cause: thrown });
  }
  if (thrown instanceof WorkflowNotFoundError) {
    return new ForeshiftError("UNKNOWN_SWARM", { value: swarm ?? thrown.workflowId }, { cause: thrown });
  }
  const coded = codedFailure(thrown);
  if (coded !== undefined) return coded;
  const detail = isGrpcServiceError(thrown) && thrown.details !== "" ? thrown.details : messageOf(thrown);
  return new ForeshiftError("UNREACHABLE", { field: "Temporal", value: address, detail }, { cause: thrown });
}

/** The ForeshiftError inside a failure that came from a workflow or from an activity of it. */
function codedFailure(thrown: unknown): ForeshiftError | undefined {
  let cause: unknown = thrown;
  while (cause instanceof Error) {
    if (cause instanceof ApplicationFailure && cause.details?.[0] !== undefined)
      return ForeshiftError.fromBody(cause.details[0]);
    cause = cause.cause;
  }
  return undefined;
}
