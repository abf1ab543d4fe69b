/**
 * Finishes what the reflex began when an endpoint died: sessions are confirmed on their shadows, then the machine is recovered in place or
 * replaced, and one row says when what happened. Where the swarm leaves clients to find out by themselves (`outlier.takeover` off), none
 * is called, and the machine is touched only after they had the time to.
 */
import { workflowInfo } from "@temporalio/workflow";
import { LIMITS } from "../models/limits.ts";
import { type LossHandled } from "../models/swarm-messages.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { reasonOf } from "./failures.ts";
import { giveWeight, joinAndProbe, obtainMachine, removeMachine } from "./machines.ts";
import { lossHandledSignal } from "./messages.ts";
import { agents, balancer, doubtfulAgents, hypervisor, store } from "./queues.ts";
import { audit, Journal, operationKey, step, tellSwarm } from "./run.ts";

export interface LostInput {
  readonly endpoint: string;
  readonly cause: string;
  readonly reason: string;
  /** Unix ms at which the reflex ejected it; undefined when it did not. */
  readonly ejectedAtMs: number | undefined;
  /** Promised by the swarm. */
  readonly ghost: string | undefined;
  readonly spec: SwarmSpec;
}

/** Unix milliseconds; what the analysis is made of. */
interface Times {
  readonly ejectedAtMs: number | undefined;
  readonly startedAtMs: number;
  takeoverConfirmedAtMs: number | undefined;
  servedAgainAtMs: number | undefined;
}

export async function endpointLost(input: LostInput): Promise<LossHandled> {
  const { endpoint, cause, reason, spec } = input;
  const journal = new Journal({ swarm: spec.name, endpoint, cause, title: `Finish the loss of ${endpoint}: ${reason}` });
  const times: Times = {
    ejectedAtMs: input.ejectedAtMs,
    startedAtMs: Date.now(),
    takeoverConfirmedAtMs: undefined,
    servedAgainAtMs: undefined,
  };
  if (cause === "revoked") return await removeRevoked(journal, input, times);
  try {
    journal.enter("takeover");
    const takeover = await step(journal, () =>
      agents.confirmTakeover.executeWithOptions({ summary: `Do the sessions of ${endpoint} live elsewhere?` }, [
        { swarm: spec.name, reason, endpoint, operation: operationKey("takeover"), adopts: spec.outlier.takeover },
      ]),
    );
    times.takeoverConfirmedAtMs = Date.now();
    const called = spec.outlier.takeover ? `${takeover.adopted} were called again` : "nobody is called: takeover is off";
    journal.note(`Of ${counted(takeover.held, "session")}, ${takeover.alive} found elsewhere; ${called}.`);
    const stranded = takeover.held - takeover.alive;
    if ((await answersByItself(journal, input)) || (spec.recoverInPlace && (await recoverInPlace(journal, input, stranded)))) {
      times.servedAgainAtMs = Date.now();
      return await finish(journal, input, times, { outcome: "recovered", replacement: undefined });
    }
    const replacement = await replaceLost(journal, input);
    times.servedAgainAtMs = Date.now();
    return await finish(journal, input, times, { outcome: "replaced", replacement });
  } catch (thrown) {
    return await giveUp(journal, input, times, reasonOf(thrown));
  }
}

/** A person has put it out for good: it is neither asked nor repaired, and what is missing then the swarm adds as it does any. */
async function removeRevoked(journal: Journal, input: LostInput, times: Times): Promise<LossHandled> {
  const { endpoint, reason, spec } = input;
  journal.enter("takeover");
  try {
    await agents.confirmTakeover.executeWithOptions({ summary: `Do the sessions of ${endpoint} live elsewhere?` }, [
      { swarm: spec.name, reason, endpoint, operation: operationKey("takeover"), adopts: spec.outlier.takeover },
    ]);
  } catch (thrown) {
    journal.note(`Not known where its sessions live: ${reasonOf(thrown)}`);
  }
  journal.enter("retiring");
  try {
    await removeMachine(journal, endpoint, { reason, name: "revoked" });
    return await finish(journal, input, times, { outcome: "removed", replacement: undefined });
  } catch (thrown) {
    return await giveUp(journal, input, times, reasonOf(thrown));
  }
}

/** It was ejected, and has come back before anybody touched it: a restart would cost what lives there. */
async function answersByItself(journal: Journal, input: LostInput): Promise<boolean> {
  const { endpoint, spec } = input;
  const answers = await balancer.awaitInnerAnswer.executeWithOptions(
    { summary: `Does ${endpoint} answer through its tunnel by itself?` },
    [{ endpoint, answersMin: spec.outlier.answersToReturn, timeoutMs: 0 }],
  );
  if (answers) journal.note(`${endpoint} answers again by itself; it is left alone.`);
  return answers;
}

/**
 * False when the endpoint does not answer through its tunnel afterwards. It calls its clients only when `stranded` sessions live nowhere
 * else: one that was frozen still believes that it holds them all, and would call them away from where they are served.
 */
async function recoverInPlace(journal: Journal, input: LostInput, stranded: number): Promise<boolean> {
  const { endpoint, reason, spec } = input;
  const { swarm } = journal;
  const adopts = spec.outlier.takeover && stranded > 0;
  journal.enter("recovering");
  try {
    await step(journal, () =>
      hypervisor.repairMachine.executeWithOptions({ summary: `Repair ${endpoint} from outside` }, [
        { swarm, reason, name: endpoint, operation: operationKey("repair") },
      ]),
    );
    await step(journal, () =>
      doubtfulAgents.recoverWireguard.executeWithOptions({ summary: `Restart WireGuard on ${endpoint}` }, [
        { swarm, reason, endpoint, operation: operationKey("recover"), adopts },
      ]),
    );
  } catch (thrown) {
    journal.note(`Recovery in place failed: ${reasonOf(thrown)}`);
    return false;
  }
  const answers = await balancer.awaitInnerAnswer.executeWithOptions(
    { summary: `Does ${endpoint} answer through its tunnel again?` },
    [{ endpoint, answersMin: spec.outlier.answersToReturn, timeoutMs: LIMITS.control.recoverTimeoutMs }],
  );
  journal.note(answers ? `${endpoint} answers again.` : `${endpoint} does not answer after the repair.`);
  return answers;
}

/** The name of the machine that serves in its place. */
async function replaceLost(journal: Journal, input: LostInput): Promise<string> {
  const { endpoint, reason, ghost, spec } = input;
  const request = { ghost, image: spec.endpoints.image, reason, name: "replacement" };
  journal.enter("replacement");
  const replacement = await obtainMachine(journal, request);
  try {
    journal.enter("preflight");
    await joinAndProbe(journal, replacement, request);
  } catch (thrown) {
    await removeMachine(journal, replacement, { reason, name: "undo" });
    throw thrown;
  }
  journal.enter("retiring");
  await giveWeight(journal, replacement, spec.endpoints.weight, request);
  await removeMachine(journal, endpoint, { reason, name: "old" });
  return replacement;
}

type Outcome = Pick<LossHandled, "outcome" | "replacement">;

async function finish(journal: Journal, input: LostInput, times: Times, result: Outcome): Promise<LossHandled> {
  const { endpoint, spec } = input;
  const text = endAsText(endpoint, times, result);
  const details = { cause: input.cause, replacement: result.replacement ?? "", ...times };
  await audit({ name: "analysis", swarm: spec.name, endpoint, action: "analyse the loss", outcome: "done", text, details });
  return await tell(journal, endpoint, { ...result, text });
}

function endAsText(endpoint: string, times: Times, { outcome, replacement }: Outcome): string {
  if (outcome === "removed") return `${endpoint} was revoked, and its machine is gone.`;
  if (outcome === "recovered") return `${endpoint} was recovered in place. ${timesAsText(times)}`;
  return `${replacement} serves in place of ${endpoint}. ${timesAsText(times)}`;
}

async function giveUp(journal: Journal, input: LostInput, times: Times, why: string): Promise<LossHandled> {
  const { endpoint, spec } = input;
  const text = `${endpoint} was neither recovered nor replaced: ${why}. Its sessions live on their shadows.`;
  const details = { cause: input.cause, ...times };
  await audit({ name: "analysis", swarm: spec.name, endpoint, action: "analyse the loss", outcome: "failed", text, details });
  await store.page.executeWithOptions({ summary: "Page a person" }, [
    { operation: operationKey("page"), swarm: spec.name, subject: `${endpoint} lost and not replaced`, text },
  ]);
  return await tell(journal, endpoint, { outcome: "failed", replacement: undefined, text });
}

async function tell(journal: Journal, endpoint: string, result: Outcome & { text: string }): Promise<LossHandled> {
  journal.note(result.text);
  journal.enter(result.outcome);
  const fact: LossHandled = { workflowId: workflowInfo().workflowId, endpoint, ...result };
  await tellSwarm(journal.swarm, lossHandledSignal, fact);
  return fact;
}

function timesAsText(times: Times): string {
  const fromMs = times.ejectedAtMs ?? times.startedAtMs;
  const since = (atMs: number | undefined) => (atMs === undefined ? "unknown" : `${atMs - fromMs} ms`);
  const what = times.ejectedAtMs === undefined ? "the run began" : "the reflex ejected it";
  return `Counted from when ${what}: takeover confirmed after ${since(times.takeoverConfirmedAtMs)}, capacity back after ${since(times.servedAgainAtMs)}.`;
}
