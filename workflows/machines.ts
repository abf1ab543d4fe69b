/**
 * A machine that can serve: a ghost that was promised to this run, else a fresh one; joined with weight 0, and not used before it
 * answers through its tunnel.
 */

import { WorkflowExecutionAlreadyStartedError } from "@temporalio/common";
import {
  ChildWorkflowCancellationType,
  ParentClosePolicy,
  patched,
  type SignalDefinition,
  sleep,
  startChild,
  workflowInfo,
} from "@temporalio/workflow";
import { ForeshiftError } from "../models/errors.ts";
import { retireWorkflowId } from "../models/keys.ts";
import { LIMITS } from "../models/limits.ts";
import type { MachinesAdded } from "../models/swarm-messages.ts";
import { failure, reasonOf } from "./failures.ts";
import { machineObtainedSignal } from "./messages.ts";
import { agents, balancer, hypervisor, terminator } from "./queues.ts";
import { retireIdentity } from "./retire-identity.ts";
import { audit, type Journal, operationKey, step, tellSwarm } from "./run.ts";

export interface MachineRequest {
  readonly ghost: string | undefined;
  /** What it boots from where it is launched; undefined: the hypervisor's own. */
  readonly image: string | undefined;
  readonly reason: string;
  /** Distinguishes this machine's steps from those of another in the same run. */
  readonly name: string;
}

/** Whose steps are made, and why. */
type StepOf = Pick<MachineRequest, "reason" | "name">;

/** Wakes the ghost; one that cannot be woken is left to the swarm, and a machine is launched. Answers its name. */
export async function obtainMachine(journal: Journal, request: MachineRequest): Promise<string> {
  const { swarm } = journal;
  const { ghost, image, reason, name } = request;
  if (ghost !== undefined) {
    try {
      await step(journal, () =>
        hypervisor.resumeMachine.executeWithOptions({ summary: `Wake the ghost ${ghost}` }, [
          { swarm, reason, name: ghost, operation: operationKey(`${name}-wake`) },
        ]),
      );
      journal.note(`The ghost ${ghost} is awake.`);
      return ghost;
    } catch (thrown) {
      journal.note(`The ghost ${ghost} could not be woken (${reasonOf(thrown)}); a machine is launched.`);
    }
  }
  const machine = await step(journal, () =>
    hypervisor.launchMachine.executeWithOptions({ summary: "Launch a machine" }, [
      { swarm, reason, suspended: false, image, operation: operationKey(`${name}-launch`) },
    ]),
  );
  const { workflowId } = workflowInfo();
  await tellSwarm(swarm, machineObtainedSignal, { workflowId, machine });
  journal.note(`${machine} was launched.`);
  return machine;
}

/** A member with weight 0 that knows every client and answers through its tunnel; NO_REPLACEMENT when it does not. */
export async function joinAndProbe(journal: Journal, endpoint: string, request: StepOf): Promise<void> {
  const { swarm } = journal;
  const { reason, name } = request;
  await step(journal, () =>
    balancer.joinMember.executeWithOptions({ summary: `${endpoint} joins with weight 0` }, [
      { swarm, reason, endpoint, weight: 0, operation: operationKey(`${name}-join`) },
    ]),
  );
  const answers = await balancer.awaitInnerAnswer.executeWithOptions(
    { summary: `Does ${endpoint} answer through its tunnel?` },
    [{ endpoint, answersMin: LIMITS.control.preflightAnswersMin, timeoutMs: LIMITS.control.preflightTimeoutMs }],
  );
  if (!answers) {
    const detail = `${endpoint} did not answer through its tunnel within ${LIMITS.control.preflightTimeoutMs} ms`;
    throw failure(new ForeshiftError("NO_REPLACEMENT", { value: reason, detail }));
  }
  await step(journal, () =>
    agents.prepareShadows.executeWithOptions({ summary: `${endpoint} learns every client` }, [
      { swarm, reason, to: endpoint, operation: operationKey(`${name}-prepare`) },
    ]),
  );
  journal.note(`${endpoint} answers through its tunnel and knows every client.`);
}

export async function giveWeight(journal: Journal, endpoint: string, weight: number, request: StepOf): Promise<void> {
  const { reason, name } = request;
  await step(journal, () =>
    balancer.setWeight.executeWithOptions({ summary: `${endpoint} gets weight ${weight}` }, [
      { swarm: journal.swarm, reason, endpoint, weight, draining: false, operation: operationKey(`${name}-weight`) },
    ]),
  );
}

/** Out of the balancer, and ended. */
export async function removeMachine(journal: Journal, endpoint: string, request: StepOf): Promise<void> {
  const { swarm } = journal;
  const { reason, name } = request;
  await step(journal, () =>
    balancer.removeMember.executeWithOptions({ summary: `${endpoint} leaves the balancer` }, [
      { swarm, reason, endpoint, operation: operationKey(`${name}-leave`) },
    ]),
  );
  await endMachine(journal, endpoint, request);
}

/** Of one that is no member of the balancer. */
export async function endMachine(journal: Journal, endpoint: string, { reason, name }: StepOf): Promise<void> {
  const { swarm } = journal;
  await step(journal, () =>
    terminator.terminateMachine.executeWithOptions({ summary: `Terminate ${endpoint}` }, [
      { swarm, reason, name: endpoint, operation: operationKey(`${name}-terminate`) },
    ]),
  );
  // Runs that were under way when this was added end as they began.
  if (patched("retire-identity")) await beginRetiring(swarm, endpoint, reason);
}

/** On its own, and not waited for: Vault may be away for longer than a drain may last. */
async function beginRetiring(swarm: string, endpoint: string, reason: string): Promise<void> {
  try {
    await startChild(retireIdentity, {
      workflowId: retireWorkflowId(swarm, endpoint),
      parentClosePolicy: ParentClosePolicy.ABANDON,
      cancellationType: ChildWorkflowCancellationType.ABANDON,
      args: [{ swarm, endpoint, reason }],
      staticSummary: `Revoke the certificates of ${endpoint}`,
    });
  } catch (thrown) {
    if (!(thrown instanceof WorkflowExecutionAlreadyStartedError)) throw thrown;
  }
}

/** The last word of a run that adds machines. One that fell short waits a moment first: the swarm would ask for the rest at once. */
export async function endLaunch(
  journal: Journal,
  end: {
    readonly action: string;
    readonly wanted: number;
    readonly machines: readonly string[];
    /** How many of them were launched, rather than woken. */
    readonly launched: number;
    readonly text: string;
    readonly signal: SignalDefinition<[MachinesAdded]>;
  },
): Promise<MachinesAdded> {
  const { action, wanted, machines, launched, text, signal } = end;
  const outcome = machines.length === wanted ? "done" : "failed";
  // By this the time of a launch is measured.
  const details = { startedAtMs: workflowInfo().runStartTime.getTime(), launched };
  await audit({ name: "end", swarm: journal.swarm, action, outcome, text, details });
  if (outcome === "failed") await sleep(LIMITS.control.watchRetryMs, { summary: "Give the hypervisor a moment" });
  journal.enter(outcome);
  const fact = { workflowId: workflowInfo().workflowId, machines, text };
  await tellSwarm(journal.swarm, signal, fact);
  return fact;
}
