/**
 * The quick way of taking an endpoint's place: where the others have room, sessions go to them at once, each to its shadow while that has
 * some, and meanwhile a machine is made that serves in place of the endpoint. What fails puts weight, flag and pins back; sessions that
 * have moved stay where they live.
 */
import { MOVE_LIMITS } from "../models/limits-move.ts";
import type { DrainFinished } from "../models/swarm-messages.ts";
import { counted } from "../models/words.ts";
import type { ReplaceInput } from "./drain-and-replace.ts";
import {
  beginDraining,
  canServe,
  confirmMove,
  type DrainEnd,
  endDraining,
  finishDrain,
  pageStuck,
  sharesOf,
  toOthers,
} from "./drain-run.ts";
import { reasonOf } from "./failures.ts";
import { giveWeight, joinAndProbe, obtainMachine, removeMachine } from "./machines.ts";
import { activeOn, allTo, moveSessions, moveShares, unpin } from "./move-sessions.ts";
import type { Journal } from "./run.ts";

const ACTION = "drain and replace";

/** What has been done so far, which is what must be undone. */
interface Progress {
  replacement: string | undefined;
  /** `ready`: it answers through its tunnel, with weight 0. `serves`: it may have been given its weight. */
  state: "unfit" | "ready" | "serves";
  readonly targets: Set<string>;
  moved: number;
}

export async function spreadAndReplace(journal: Journal, input: ReplaceInput): Promise<DrainFinished> {
  const { endpoint, reason } = input;
  const progress: Progress = { replacement: undefined, state: "unfit", targets: new Set(), moved: 0 };
  journal.enter("moving");
  try {
    await allEnded([moveAway(journal, input, progress), makeReplacement(journal, input, progress)]);
    journal.enter("retiring");
    await takePlace(journal, input, progress, "replacement");
    await removeMachine(journal, endpoint, { reason, name: "old" });
  } catch (thrown) {
    journal.note(`Failed: ${reasonOf(thrown)}`);
    return await putBack(journal, input, progress, reasonOf(thrown));
  }
  return await left(journal, input, progress, `${textOf(input, progress)}. ${reason}`);
}

/** Each comes to its end, whatever becomes of the others: only then it is known what there is to undo. */
async function allEnded(lines: readonly Promise<void>[]): Promise<void> {
  for (const line of await Promise.allSettled(lines)) if (line.status === "rejected") throw line.reason;
}

/** What lives there when it begins goes at once; what came to it until it took no more, in further rounds. */
async function moveAway(journal: Journal, input: ReplaceInput, progress: Progress): Promise<void> {
  const { endpoint, reason, spec } = input;
  const onMoved = (count: number, to?: string) => {
    progress.moved += count;
    if (to !== undefined && count > 0) progress.targets.add(to);
  };
  const request = { from: endpoint, policy: spec.move, reason, targetsAtOnce: MOVE_LIMITS.targetsAtOnceMax };
  const moveNow = async () => {
    const shares = await sharesOf(input, progress.targets);
    const over = await moveShares(journal, { ...request, name: "now" }, shares, active);
    onMoved(over.verified.length);
    if (over.failed !== undefined) throw over.failed;
  };
  const active = activeOn(journal, endpoint);
  // Whoever needs it is told when it fails.
  active.catch(() => undefined);
  await allEnded([beginDraining(journal, input), moveNow()]);
  const share = toOthers(input, progress.targets);
  const ipsec = { capacitySessions: spec.endpoints.capacitySessions };
  const outcome = await moveSessions(journal, { ...request, name: "move", share, ipsec, onMoved });
  await confirmMove(journal, input, outcome, "takeover");
}

/** Without one the endpoint leaves all the same: the others have room, and the swarm asks for what is missing. */
async function makeReplacement(journal: Journal, input: ReplaceInput, progress: Progress): Promise<void> {
  const { ghost, reason, spec } = input;
  const request = { ghost, image: spec.endpoints.image, reason, name: "replacement" };
  try {
    progress.replacement = await obtainMachine(journal, request);
    await joinAndProbe(journal, progress.replacement, request);
    progress.state = "ready";
  } catch (thrown) {
    journal.note(`Nothing takes its place yet: ${reasonOf(thrown)}`);
  }
}

/** What is ready serves; what is not ends. */
async function takePlace(journal: Journal, input: ReplaceInput, progress: Progress, name: string): Promise<void> {
  const { reason, spec } = input;
  const { replacement } = progress;
  if (replacement === undefined) return;
  if (progress.state === "unfit") {
    await removeMachine(journal, replacement, { reason, name: "unfit" });
    progress.replacement = undefined;
  } else {
    progress.state = "serves";
    await giveWeight(journal, replacement, spec.endpoints.weight, { reason, name });
  }
}

async function putBack(journal: Journal, input: ReplaceInput, progress: Progress, why: string): Promise<DrainFinished> {
  const { endpoint, reason } = input;
  journal.enter("putting-back");
  try {
    for (const to of progress.targets) await unpin(journal, { from: endpoint, to, reason, name: `back-unpin-${to}` });
    if (!(await canServe(endpoint))) {
      await takePlace(journal, input, progress, "keep");
      await confirmMove(journal, input, { letGo: 0, sourceAnswers: false }, "back-takeover");
      await removeMachine(journal, endpoint, { reason, name: "dead" });
      return await left(journal, input, progress, `${endpoint} could not serve on (${why}); ${textOf(input, progress)}`);
    }
    await endDraining(journal, input);
    await giveUpReplacement(journal, input, progress);
    const text = `${endpoint} serves as before; sessions that had moved stay where they live. Because: ${why}`;
    return await finish(journal, input, progress, { outcome: "put-back", replacement: undefined, text });
  } catch (thrown) {
    const text = `${endpoint} could not be put back (${reasonOf(thrown)}) after: ${why}. It stays, sessions live where they are.`;
    await pageStuck(input, text);
    return await finish(journal, input, progress, { outcome: "failed", replacement: progress.replacement, text });
  }
}

/** Clients may have come to it since it was given its weight. */
async function giveUpReplacement(journal: Journal, input: ReplaceInput, { replacement, state }: Progress): Promise<void> {
  const { endpoint, reason, spec } = input;
  if (replacement === undefined) return;
  if (state === "serves") {
    const ipsec = { prefers: endpoint, capacitySessions: spec.endpoints.capacitySessions };
    const move = { from: replacement, share: allTo(endpoint), policy: spec.move, ipsec, reason, name: "back" };
    await confirmMove(journal, { ...input, endpoint: replacement }, await moveSessions(journal, move), "back-takeover");
  }
  await removeMachine(journal, replacement, { reason, name: "undo" });
}

/** The endpoint has left, with something in its place or without. */
function left(journal: Journal, input: ReplaceInput, progress: Progress, text: string): Promise<DrainFinished> {
  const { replacement } = progress;
  return finish(journal, input, progress, { outcome: replacement === undefined ? "drained" : "replaced", replacement, text });
}

function finish(
  journal: Journal,
  input: ReplaceInput,
  { moved }: Progress,
  end: Omit<DrainEnd, "sessionsMoved">,
): Promise<DrainFinished> {
  return finishDrain(journal, input, ACTION, { ...end, sessionsMoved: moved });
}

function textOf({ endpoint }: ReplaceInput, { replacement, targets, moved }: Progress): string {
  const place =
    replacement === undefined ? `${endpoint} has left, with nothing in its place` : `${replacement} serves in its place`;
  const sessions =
    targets.size === 0 ? "it held no session" : `${counted(moved, "session")} moved to ${[...targets].sort().join(", ")}`;
  return `${place}; ${sessions}`;
}
