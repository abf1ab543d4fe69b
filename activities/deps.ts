/**
 * What activities stand on, and the frame every one of them runs in: heartbeats, coded failures, the stop switch, the audit row.
 */
import { ApplicationFailure, CancelledFailure, Context } from "@temporalio/activity";
import type {
  AgentLogins,
  CertificateHolders,
  Certificates,
  ClientProvisioner,
  KeyVault,
  PayloadKeys,
} from "../drivers/key-ports.ts";
import type { Balancer, EndpointAgent, Hypervisor, ModelShelf, Store, Telemetry } from "../drivers/ports.ts";
import { ERRORS, ForeshiftError, messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import type { MemberLink } from "../models/steering.ts";
import type { StopGuard } from "./stop-guard.ts";

export interface ActivityDeps {
  readonly store: Store;
  readonly hypervisor: Hypervisor;
  readonly balancer: Balancer;
  /** The agent behind a member's link; where processes have certificates, that of `endpoint` and no other. */
  readonly agentOf: (link: MemberLink, endpoint?: string) => EndpointAgent;
  readonly stopGuard: StopGuard;
  readonly keyVault: KeyVault;
  readonly provisioner: ClientProvisioner;
  readonly certificates: Certificates;
  readonly agentLogins: AgentLogins;
  readonly holders: CertificateHolders;
  readonly payloadKeys: PayloadKeys;
  readonly telemetry: Telemetry;
  readonly models: ModelShelf;
  /** Grows when telemetry of a swarm has news; without it the watch looks at its own pace. */
  readonly telemetryNews?: (swarm: string) => number;
  /** Brings the Schedules in line with the swarm files and the stop switch, where there are any. */
  readonly keepSchedules?: () => Promise<void>;
}

/** What every step that changes the world is given. */
export interface StepInput {
  readonly swarm: string;
  /** Names this step of this run; the same for each attempt. */
  readonly operation: string;
  /** Why, one sentence, for the audit trail. */
  readonly reason: string;
}

/** What a step did, for its audit row. */
export interface StepReport<T> {
  readonly result: T;
  /** What came of it, one sentence. */
  readonly text: string;
  readonly endpoint?: string;
  readonly outcome?: "done" | "already-done";
  readonly details?: Readonly<Record<string, unknown>>;
  /** What this attempt made, where a further one makes another: each is in the audit trail. */
  readonly made?: string;
}

/** Heartbeats while it runs, so that a killed worker is noticed in seconds; failures carry the code of models/errors.ts. */
export async function asActivity<T>(body: () => Promise<T>): Promise<T> {
  const context = Context.current();
  const timer = setInterval(() => context.heartbeat(), LIMITS.control.heartbeatIntervalMs);
  try {
    return await body();
  } catch (thrown) {
    throw toFailure(thrown);
  } finally {
    clearInterval(timer);
  }
}

interface Audited {
  readonly store: Pick<Store, "audit">;
}

/** A change of the world: refused while automation is stopped, and written to the audit trail once it is made. */
export function asStep<T>(
  deps: Audited & { readonly stopGuard: StopGuard },
  input: StepInput,
  action: string,
  change: () => Promise<StepReport<T>>,
): Promise<T> {
  return asActivity(async () => {
    await deps.stopGuard.assertMayAct(input.swarm);
    return await carryOut(deps, input, action, change);
  });
}

/**
 * The same without asking the stop switch: what was begun and would cut clients off if it were left half done. Audited like any other.
 */
export function asFinish<T>(deps: Audited, input: StepInput, action: string, change: () => Promise<StepReport<T>>): Promise<T> {
  return asActivity(() => carryOut(deps, input, action, change));
}

async function carryOut<T>(deps: Audited, input: StepInput, action: string, change: () => Promise<StepReport<T>>): Promise<T> {
  const report = await change();
  const { workflowExecution } = Context.current().info;
  await deps.store.audit({
    operation: report.made === undefined ? input.operation : `${input.operation}:${report.made}`,
    swarm: input.swarm,
    endpoint: report.endpoint,
    action,
    outcome: report.outcome ?? "done",
    text: `${report.text}. ${input.reason}`,
    workflowId: workflowExecution?.workflowId,
    runId: workflowExecution?.runId,
    details: report.details ?? {},
  });
  return report.result;
}

/** A pause that ends at once when the activity is cancelled. */
export function pause(ms: number): Promise<void> {
  return Context.current().sleep(ms);
}

function toFailure(thrown: unknown): Error {
  if (thrown instanceof CancelledFailure || thrown instanceof ApplicationFailure) return thrown;
  const error =
    thrown instanceof ForeshiftError
      ? thrown
      : new ForeshiftError("INTERNAL", { detail: messageOf(thrown) }, { cause: thrown });
  return ApplicationFailure.create({
    type: error.code,
    message: error.message,
    nonRetryable: !ERRORS[error.code].retryable,
    details: [error.toBody()],
  });
}
