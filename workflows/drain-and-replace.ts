/**
 * Takes an endpoint out of service without its clients noticing: a replacement is made and probed first, then the sessions move, then
 * the old machine ends. Any failure before that end puts everything back.
 */

import { workflowInfo } from "@temporalio/workflow";
import { type DrainFinished } from "../models/swarm-messages.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { reasonOf } from "./failures.ts";
import { giveWeight, joinAndProbe, obtainMachine, removeMachine } from "./machines.ts";
import { drainFinishedSignal } from "./messages.ts";
import { type MoveOutcome, moveSessions } from "./move-sessions.ts";
import { agents, balancer, store } from "./queues.ts";
import { audit, Journal, operationKey, step, tellSwarm } from "./run.ts";

export interface DrainInput {
  readonly endpoint: string;
  readonly cause: string;
  readonly reason: string;
  /** Weight the endpoint had, for putting it back. */
  readonly weight: number;
  /** Promised by the swarm. */
  readonly ghost: string | undefined;
  readonly spec: SwarmSpec;
}

/** What has been done so far, which is what must be undone. */
interface Progress {
  replacement: string | undefined;
  drained: boolean;
  moving: boolean;
  moved: number;
}

export async function drainAndReplace(input: DrainInput): Promise<DrainFinished> {
  const { endpoint, cause, reason, spec } = input;
  const title = `Drain ${endpoint} and replace it: ${reason}`;
  const journal = new Journal({ swarm: spec.name, endpoint, cause, title });
  const progress: Progress = { replacement: undefined, drained: false, moving: false, moved: 0 };
  const finish = async (outcome: DrainFinished["outcome"], text: string): Promise<DrainFinished> => {
    const details = { cause, replacement: progress.replacement ?? "", sessionsMoved: progress.moved };
    const auditOutcome = outcome === "replaced" ? "done" : "failed";
    await audit({ name: "end", swarm: spec.name, endpoint, action: "drain and replace", outcome: auditOutcome, text, details });
    journal.note(text);
    journal.enter(outcome);
    const { workflowId } = workflowInfo();
    const replacement = outcome === "put-back" ? undefined : progress.replacement;
    const fact: DrainFinished = { workflowId, endpoint, outcome, replacement, sessionsMoved: progress.moved, text };
    await tellSwarm(spec.name, drainFinishedSignal, fact);
    return fact;
  };
  try {
    await replace(journal, input, progress);
  } catch (thrown) {
    journal.note(`Failed: ${reasonOf(thrown)}`);
    return await putBack(journal, input, progress, reasonOf(thrown), finish);
  }
  return await finish(
    "replaced",
    `${progress.replacement} serves in place of ${endpoint}, with ${progress.moved} sessions moved. ${reason}`,
  );
}

async function replace(journal: Journal, input: DrainInput, progress: Progress): Promise<void> {
  const { endpoint, reason, ghost, spec } = input;
  const machine = { ghost, reason, name: "replacement" };
  journal.enter("replacement");
  const replacement = await obtainMachine(journal, machine);
  progress.replacement = replacement;
  journal.enter("preflight");
  await joinAndProbe(journal, replacement, machine);
  journal.enter("draining");
  progress.drained = true;
  await setDraining(journal, input, { draining: true, weight: 0, name: "drain" });
  journal.enter("moving");
  progress.moving = true;
  const move = { from: endpoint, to: replacement, policy: spec.move, reason, name: "move" };
  const outcome = await moveSessions(journal, move);
  progress.moved = outcome.moved;
  await afterMove(journal, input, outcome);
  journal.enter("retiring");
  await giveWeight(journal, replacement, spec.endpoints.weight, machine);
  await removeMachine(journal, endpoint, { reason, name: "old" });
}

/** An endpoint that died on the way is the reflex's to save; what it held is confirmed before its machine ends. */
async function afterMove(journal: Journal, input: DrainInput, outcome: MoveOutcome): Promise<void> {
  const { endpoint, reason, spec } = input;
  if (outcome.letGo > 0) journal.note(`${outcome.letGo} sessions were let go: their clients answered no handshake.`);
  if (outcome.sourceAnswers) return;
  journal.note(`${endpoint} stopped answering; its remaining sessions are confirmed on their shadows.`);
  await step(journal, () =>
    agents.confirmTakeover.executeWithOptions({ summary: `Do the sessions of ${endpoint} live elsewhere?` }, [
      { swarm: spec.name, reason, endpoint, operation: operationKey("takeover") },
    ]),
  );
}

function setDraining(
  journal: Journal,
  input: DrainInput,
  how: { draining: boolean; weight: number; name: string },
): Promise<void> {
  const { endpoint, reason, spec } = input;
  const { name, ...rest } = how;
  const summary = how.draining ? `${endpoint} takes no new sessions` : `${endpoint} gets weight ${how.weight} again`;
  return step(journal, () =>
    balancer.setWeight.executeWithOptions({ summary }, [
      { swarm: spec.name, reason, endpoint, ...rest, operation: operationKey(name) },
    ]),
  );
}

type Finish = (outcome: DrainFinished["outcome"], text: string) => Promise<DrainFinished>;

/** Sessions go back while the old endpoint is alive, its weight returns, and the half-built replacement ends. */
async function putBack(
  journal: Journal,
  input: DrainInput,
  progress: Progress,
  why: string,
  finish: Finish,
): Promise<DrainFinished> {
  const { endpoint, reason, spec } = input;
  const { replacement } = progress;
  journal.enter("putting-back");
  try {
    const alive = progress.moving ? await canTakeBack(endpoint) : true;
    if (replacement !== undefined && progress.moving && !alive) {
      return await keepReplacement(journal, input, replacement, why, finish);
    }
    if (progress.drained) await setDraining(journal, input, { draining: false, weight: input.weight, name: "undrain" });
    if (replacement !== undefined) {
      if (progress.moving) {
        await moveSessions(journal, { from: replacement, to: endpoint, policy: spec.move, reason, name: "back" });
      }
      await removeMachine(journal, replacement, { reason, name: "undo" });
    }
    return await finish("put-back", `Everything is as it was, because: ${why}`);
  } catch (thrown) {
    const text = `${endpoint} could not be put back (${reasonOf(thrown)}) after: ${why}. Both machines stay, sessions live where they are.`;
    const subject = `drain of ${endpoint} stuck`;
    await store.page.executeWithOptions({ summary: "Page a person" }, [
      { operation: operationKey("page"), swarm: spec.name, subject, text },
    ]);
    return await finish("failed", text);
  }
}

async function canTakeBack(endpoint: string): Promise<boolean> {
  const { member, ejected } = await balancer.memberStatus.executeWithOptions({ summary: `Is ${endpoint} alive?` }, [
    { endpoint },
  ]);
  return member && !ejected;
}

/** The old endpoint is dead: sessions that moved stay, the rest is taken over, and the replacement serves. */
async function keepReplacement(
  journal: Journal,
  input: DrainInput,
  replacement: string,
  why: string,
  finish: Finish,
): Promise<DrainFinished> {
  const { endpoint, reason, spec } = input;
  const request = { ghost: undefined, reason, name: "keep" };
  await giveWeight(journal, replacement, spec.endpoints.weight, request);
  await afterMove(journal, input, { moved: 0, letGo: 0, sourceAnswers: false });
  await removeMachine(journal, endpoint, { reason, name: "dead" });
  return await finish("replaced", `${endpoint} died while its sessions moved (${why}); ${replacement} serves in its place`);
}
