/**
 * What every child run shares: operation keys, one audit row for the run as a whole, halting at the stop switch, search attributes, the
 * page a person reads, and the last word to the swarm.
 */
import { defineSearchAttributeKey } from "@temporalio/common";
import {
  getExternalWorkflowHandle,
  isCancellation,
  log,
  patched,
  type SignalDefinition,
  setCurrentDetails,
  upsertSearchAttributes,
  workflowInfo,
} from "@temporalio/workflow";
import type { AuditInput } from "../activities/store.ts";
import { swarmWorkflowId } from "../models/swarm-messages.ts";
import { codeOf, reasonOf } from "./failures.ts";
import { patientStore, store } from "./queues.ts";

/** Of a run id, a UUID of version 7: it begins with the time and ends in what is random. */
const RUN_DIGITS = 12;

export const SEARCH_ATTRIBUTES = {
  swarm: defineSearchAttributeKey("ForeshiftSwarm", "KEYWORD"),
  endpoint: defineSearchAttributeKey("ForeshiftEndpoint", "KEYWORD"),
  phase: defineSearchAttributeKey("ForeshiftPhase", "KEYWORD"),
  cause: defineSearchAttributeKey("ForeshiftCause", "KEYWORD"),
};

/** Shown in the Web UI and found by search: where a run is, and what it has done so far. */
export class Journal {
  readonly swarm: string;
  readonly #title: string;
  readonly #lines: string[] = [];
  #phase = "";

  constructor(options: { swarm: string; endpoint?: string; cause?: string; title: string }) {
    this.swarm = options.swarm;
    this.#title = options.title;
    upsertSearchAttributes([
      { key: SEARCH_ATTRIBUTES.swarm, value: options.swarm },
      ...(options.endpoint === undefined ? [] : [{ key: SEARCH_ATTRIBUTES.endpoint, value: options.endpoint }]),
      ...(options.cause === undefined ? [] : [{ key: SEARCH_ATTRIBUTES.cause, value: options.cause }]),
    ]);
  }

  get phase(): string {
    return this.#phase;
  }

  enter(phase: string): void {
    if (phase === this.#phase) return;
    this.#phase = phase;
    upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.phase, value: phase }]);
    this.#show();
  }

  note(line: string): void {
    this.#lines.push(`- ${new Date().toISOString().slice(11, 19)} ${line}`);
    this.#show();
  }

  #show(): void {
    setCurrentDetails([`**${this.#title}**`, "", `Phase: *${this.#phase}*`, "", ...this.#lines].join("\n"));
  }
}

/** The same for every attempt of a step and for every restart of the worker; another for another run of the same workflow id. */
export function operationKey(step: string): string {
  const { workflowId, firstExecutionRunId } = workflowInfo();
  return `${workflowId}/${firstExecutionRunId.slice(-RUN_DIGITS)}:${step}`;
}

/**
 * Makes a step, waiting while automation is stopped. Every activity that changes the world reads the switch before it does, so a run halts
 * between two steps, wherever it is; each such place leaves every session alive.
 */
export async function step<T>(journal: Journal, make: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await make();
    } catch (thrown) {
      if (codeOf(thrown) !== "AUTOMATION_STOPPED") throw thrown;
      const { phase } = journal;
      journal.enter("halted");
      journal.note("Halted by the stop switch; sessions stay where they live.");
      const options = { summary: "Wait until automation is resumed" };
      await patientStore.awaitResumed.executeWithOptions(options, [{ swarm: journal.swarm }]);
      journal.note("Resumed.");
      // Of several steps that are halted at once the first brings the phase back; runs from before this was added end as they began.
      if (phase !== "halted" || !patched("halted-together")) journal.enter(phase);
    }
  }
}

/** The row of the audit trail that sums a run, or a turn of it, up. */
export function audit(entry: Omit<AuditInput, "operation"> & { name: string }): Promise<void> {
  const { name, ...rest } = entry;
  return store.writeAudit.executeWithOptions({ summary: rest.text }, [{ ...rest, operation: operationKey(name) }]);
}

/** Tells the swarm. */
export function tellSwarm<A>(swarm: string, signal: SignalDefinition<[A]>, fact: A): Promise<void> {
  return tell(swarmWorkflowId(swarm), signal, fact);
}

/** A workflow that was ended meanwhile needs no word. */
export async function tell<A>(workflowId: string, signal: SignalDefinition<[A]>, fact: A): Promise<void> {
  try {
    await getExternalWorkflowHandle(workflowId).signal(signal, fact);
  } catch (thrown) {
    if (isCancellation(thrown)) throw thrown;
    log.warn("workflow not told", { workflowId, signal: signal.name, reason: reasonOf(thrown) });
  }
}
