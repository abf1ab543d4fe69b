/**
 * Takes an endpoint out of service without its clients noticing: a replacement is made and probed first, then the sessions move, then
 * the old machine ends. Any failure before that end puts everything back.
 */
import type { DrainFinished } from "../models/swarm-messages.ts";
import { counted } from "../models/words.ts";
import { beginDraining, canServe, confirmMove, type DrainInput, endDraining, finishDrain, pageStuck } from "./drain-run.ts";
import { reasonOf } from "./failures.ts";
import { giveWeight, joinAndProbe, obtainMachine, removeMachine } from "./machines.ts";
import { allTo, moveSessions } from "./move-sessions.ts";
import { Journal } from "./run.ts";
import { spreadAndReplace } from "./spread-and-replace.ts";

const ACTION = "drain and replace";

export interface ReplaceInput extends DrainInput {
  /** Promised by the swarm. */
  readonly ghost: string | undefined;
  /** The others have room: sessions go to them at once. */
  readonly spread?: boolean;
}

/** What has been done so far, which is what must be undone. */
interface Progress {
  replacement: string | undefined;
  drained: boolean;
  moving: boolean;
  moved: number;
}

export async function drainAndReplace(input: ReplaceInput): Promise<DrainFinished> {
  const { endpoint, cause, reason, spec } = input;
  const title = `Drain ${endpoint} and replace it: ${reason}`;
  const journal = new Journal({ swarm: spec.name, endpoint, cause, title });
  if (input.spread === true) return await spreadAndReplace(journal, input);
  const progress: Progress = { replacement: undefined, drained: false, moving: false, moved: 0 };
  try {
    await replace(journal, input, progress);
  } catch (thrown) {
    journal.note(`Failed: ${reasonOf(thrown)}`);
    return await putBack(journal, input, progress, reasonOf(thrown));
  }
  const text = `${progress.replacement} serves in place of ${endpoint}, with ${counted(progress.moved, "session")} moved. ${reason}`;
  return await finish(journal, input, progress, "replaced", text);
}

async function replace(journal: Journal, input: ReplaceInput, progress: Progress): Promise<void> {
  const { endpoint, reason, ghost, spec } = input;
  const machine = { ghost, image: spec.endpoints.image, reason, name: "replacement" };
  journal.enter("replacement");
  const replacement = await obtainMachine(journal, machine);
  progress.replacement = replacement;
  journal.enter("preflight");
  await joinAndProbe(journal, replacement, machine);
  journal.enter("draining");
  progress.drained = true;
  await beginDraining(journal, input);
  journal.enter("moving");
  progress.moving = true;
  const ipsec = { prefers: replacement, capacitySessions: spec.endpoints.capacitySessions };
  const move = { from: endpoint, share: allTo(replacement), policy: spec.move, ipsec, reason, name: "move" };
  const outcome = await moveSessions(journal, move);
  progress.moved = outcome.moved;
  await confirmMove(journal, input, outcome, "takeover");
  journal.enter("retiring");
  await giveWeight(journal, replacement, spec.endpoints.weight, machine);
  await removeMachine(journal, endpoint, { reason, name: "old" });
}

/** Sessions go back while the old endpoint is alive, its weight returns, and the half-built replacement ends. */
async function putBack(journal: Journal, input: ReplaceInput, progress: Progress, why: string): Promise<DrainFinished> {
  const { endpoint, reason, spec } = input;
  const { replacement } = progress;
  journal.enter("putting-back");
  try {
    if (replacement !== undefined && progress.moving && !(await canServe(endpoint))) {
      return await keepReplacement(journal, input, progress, replacement, why);
    }
    if (progress.drained) await endDraining(journal, input);
    if (replacement !== undefined) {
      if (progress.moving) {
        const ipsec = { prefers: endpoint, capacitySessions: spec.endpoints.capacitySessions };
        const move = { from: replacement, share: allTo(endpoint), policy: spec.move, ipsec, reason, name: "back" };
        await confirmMove(journal, { ...input, endpoint: replacement }, await moveSessions(journal, move), "back-takeover");
      }
      await removeMachine(journal, replacement, { reason, name: "undo" });
    }
    return await finish(journal, input, progress, "put-back", `Everything is as it was, because: ${why}`);
  } catch (thrown) {
    const text = `${endpoint} could not be put back (${reasonOf(thrown)}) after: ${why}. Both machines stay, sessions live where they are.`;
    await pageStuck(input, text);
    return await finish(journal, input, progress, "failed", text);
  }
}

/** The old endpoint is dead: sessions that moved stay, the rest is taken over, and the replacement serves. */
async function keepReplacement(
  journal: Journal,
  input: ReplaceInput,
  progress: Progress,
  replacement: string,
  why: string,
): Promise<DrainFinished> {
  const { endpoint, reason, spec } = input;
  await giveWeight(journal, replacement, spec.endpoints.weight, { reason, name: "keep" });
  await confirmMove(journal, input, { letGo: 0, sourceAnswers: false }, "back-takeover");
  await removeMachine(journal, endpoint, { reason, name: "dead" });
  const text = `${endpoint} died while its sessions moved (${why}); ${replacement} serves in its place`;
  return await finish(journal, input, progress, "replaced", text);
}

function finish(
  journal: Journal,
  input: ReplaceInput,
  progress: Progress,
  outcome: DrainFinished["outcome"],
  text: string,
): Promise<DrainFinished> {
  const replacement = outcome === "put-back" ? undefined : progress.replacement;
  return finishDrain(journal, input, ACTION, { outcome, replacement, sessionsMoved: progress.moved, text });
}
