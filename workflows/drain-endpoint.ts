/**
 * Takes an endpoint out of the swarm for good: the members that remain take its sessions, each its designated shadow while that is a
 * healthy member with room, then its machine ends. Any failure before that end puts weight, flag and pins back; sessions that have
 * moved stay where they live.
 */
import type { DrainFinished } from "../models/swarm-messages.ts";
import { counted } from "../models/words.ts";
import {
  beginDraining,
  canServe,
  confirmMove,
  type DrainInput,
  endDraining,
  finishDrain,
  pageStuck,
  toOthers,
} from "./drain-run.ts";
import { reasonOf } from "./failures.ts";
import { removeMachine } from "./machines.ts";
import { moveSessions, unpin } from "./move-sessions.ts";
import { Journal } from "./run.ts";

const ACTION = "drain";

/** What has been done so far, which is what must be undone. */
interface Progress {
  drained: boolean;
  readonly targets: Set<string>;
  moved: number;
}

export async function drainEndpoint(input: DrainInput): Promise<DrainFinished> {
  const { endpoint, cause, reason, spec } = input;
  const journal = new Journal({ swarm: spec.name, endpoint, cause, title: `Drain ${endpoint}: ${reason}` });
  const progress: Progress = { drained: false, targets: new Set(), moved: 0 };
  try {
    await moveAway(journal, input, progress);
  } catch (thrown) {
    journal.note(`Failed: ${reasonOf(thrown)}`);
    return await putBack(journal, input, progress, reasonOf(thrown));
  }
  const text = `${endpoint} has left the swarm; ${sessionsTo(progress)}. ${reason}`;
  return await finish(journal, input, progress, "drained", text);
}

async function moveAway(journal: Journal, input: DrainInput, progress: Progress): Promise<void> {
  const { endpoint, reason, spec } = input;
  journal.enter("draining");
  progress.drained = true;
  await beginDraining(journal, input);
  journal.enter("moving");
  const share = toOthers(input, progress.targets);
  const onMoved = (count: number, to?: string) => {
    progress.moved += count;
    if (to !== undefined && count > 0) progress.targets.add(to);
  };
  const ipsec = { capacitySessions: spec.endpoints.capacitySessions };
  const move = { from: endpoint, share, policy: spec.move, ipsec, reason, name: "move", onMoved };
  const outcome = await moveSessions(journal, move);
  await confirmMove(journal, input, outcome, "takeover");
  journal.enter("retiring");
  await removeMachine(journal, endpoint, { reason, name: "old" });
}

async function putBack(journal: Journal, input: DrainInput, progress: Progress, why: string): Promise<DrainFinished> {
  const { endpoint, reason } = input;
  journal.enter("putting-back");
  try {
    for (const to of progress.targets) await unpin(journal, { from: endpoint, to, reason, name: `back-unpin-${to}` });
    if (!(await canServe(endpoint))) {
      await confirmMove(journal, input, { letGo: 0, sourceAnswers: false }, "back-takeover");
      await removeMachine(journal, endpoint, { reason, name: "dead" });
      const text = `${endpoint} could not serve on (${why}); ${sessionsTo(progress)}, the rest taken over; it has left the swarm`;
      return await finish(journal, input, progress, "drained", text);
    }
    await endDraining(journal, input);
    const text = `${endpoint} serves as before; sessions that had moved stay where they live. Because: ${why}`;
    return await finish(journal, input, progress, "put-back", text);
  } catch (thrown) {
    const text = `${endpoint} could not be put back (${reasonOf(thrown)}) after: ${why}. It stays, sessions live where they are.`;
    await pageStuck(input, text);
    return await finish(journal, input, progress, "failed", text);
  }
}

function sessionsTo({ moved, targets }: Progress): string {
  return targets.size === 0 ? "it held no session" : `${counted(moved, "session")} moved to ${[...targets].sort().join(", ")}`;
}

function finish(
  journal: Journal,
  input: DrainInput,
  { moved: sessionsMoved }: Progress,
  outcome: DrainFinished["outcome"],
  text: string,
): Promise<DrainFinished> {
  return finishDrain(journal, input, ACTION, { outcome, replacement: undefined, sessionsMoved, text });
}
