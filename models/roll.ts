/**
 * The rollout of an image: which endpoints are to be replaced next and how many at once, how long what serves from it is watched, and
 * when it has made things worse and all goes back. Pure; called inside the rollout's workflow like plan() inside the swarm's.
 */
import { budgetUse } from "./budget.ts";
import { staleGhosts } from "./ghosts.ts";
import { isOfAnother, shortImage } from "./image.ts";
import { ROLL_LIMITS } from "./limits-roll.ts";
import type { EndpointObservation, Observation } from "./observation.ts";
import { judged, type Seen, worse } from "./roll-health.ts";
import type { RollPolicy, SwarmSpec } from "./swarm-spec.ts";
import { counted } from "./words.ts";

/** Cause of the drains that a rollout asks for. */
export const ROLL_CAUSE = "rollout";

/** `rolled`, `rolled-back`: every machine is of one image. `left`: ended on the way by a person who wanted it so. */
export type RollOutcome = "rolled" | "rolled-back" | "left";

/** What a rollout's workflow carries from one decision to the next. Times are Unix milliseconds. */
export interface RollState {
  readonly image: string;
  /** What is gone back to. */
  readonly previous: string;
  readonly by: string;
  readonly policy: RollPolicy;
  readonly startedAtMs: number;
  readonly direction: "forward" | "back";
  /** Why it has turned back. */
  readonly turned?: string | undefined;
  /** Nothing is begun until a person resumes it. */
  readonly held?: { readonly by: string; readonly why: string } | undefined;
  /** The batch: endpoints that are to be replaced now, by and by as the budget allows. */
  readonly wanted: readonly string[];
  /** What has been replaced is watched before the next batch. `untilMs` undefined: to begin anew when there is something to see. */
  readonly bake?: { readonly untilMs: number | undefined } | undefined;
  readonly failuresInARow: number;
  readonly lastFailure?: string | undefined;
  readonly seen: readonly Seen[];
  /** Endpoints that serve from the image that is aimed for, and those that are of another. */
  readonly done: readonly string[];
  readonly left: readonly string[];
  readonly ended?: { readonly outcome: RollOutcome; readonly text: string } | undefined;
}

export type RollPhase = "replacing" | "baking" | "ghosts" | "rolling-back" | "paused" | RollOutcome;

/** As people see it. */
export interface RollStatus {
  readonly image: string;
  readonly previous: string;
  readonly by: string;
  readonly phase: RollPhase;
  readonly done: number;
  readonly left: readonly string[];
  /** One sentence. */
  readonly text: string;
}

export function newRoll(
  asked: Pick<RollState, "image" | "previous" | "by" | "policy">,
  observation: Observation,
  now: number,
): RollState {
  const roll: RollState = {
    ...asked,
    startedAtMs: now,
    direction: "forward",
    wanted: [],
    failuresInARow: 0,
    seen: [],
    done: [],
    left: [],
  };
  return { ...roll, ...split(observation, roll.image) };
}

/** The image that is aimed for: machines that are launched meanwhile boot from it. */
export function goalOf({ direction, image, previous }: RollState): string {
  return direction === "forward" ? image : previous;
}

/** What the swarm is asked to replace now. */
export function askedFor({ ended, held, wanted }: RollState): readonly string[] {
  return ended !== undefined || isHeld(held) ? [] : wanted;
}

/** What an observation makes of the rollout. The same input gives the same state; nothing new to say gives an equal one. */
export function advance(roll: RollState, spec: SwarmSpec, observation: Observation, now: number): RollState {
  if (roll.ended !== undefined || isHeld(roll.held)) return roll;
  if (!observation.reflexAnswers) return interrupted(roll);
  const seen = judged(roll, spec.thresholds, observation, now);
  const next: RollState = { ...roll, seen, ...split(observation, goalOf(roll)) };
  const why = whyNotOn(next);
  return why === undefined ? proceed(next, spec, observation, now) : turn(next, why);
}

/** Nobody looks for a while: what is being watched has to be watched anew. */
export function interrupted(roll: RollState): RollState {
  return roll.bake === undefined ? roll : { ...roll, bake: { untilMs: undefined } };
}

/** How a replacement that the swarm began for it ended. */
export function replacementEnded(roll: RollState, well: boolean, text: string): RollState {
  return well ? { ...roll, failuresInARow: 0 } : { ...roll, failuresInARow: roll.failuresInARow + 1, lastFailure: text };
}

/** What is under way ends; nothing else is begun, not even the way back. */
export function pause(roll: RollState, by: string): RollState {
  return interrupted({ ...roll, held: { by, why: `${by} paused it.` } });
}

/** Whoever resumes it has seen what was wrong: it is judged anew. */
export function resume(roll: RollState): RollState {
  const seen = roll.seen.map(({ endpoint, isNew }) => ({ endpoint, isNew }));
  return { ...roll, held: undefined, failuresInARow: 0, lastFailure: undefined, seen };
}

/** `keep`: it ends where it is. Otherwise what was replaced goes back; asked again on the way back, it ends there as well. */
export function abort(roll: RollState, by: string, keep: boolean): RollState {
  if (!keep && roll.direction === "forward") return turnBack({ ...resume(roll) }, `${by} aborted it.`);
  const text = `${by} ended it where it was: ${counted(roll.done.length, "endpoint")} of ${shortImage(goalOf(roll))}, ${roll.left.length} of another. ${shortImage(roll.previous)} is in force.`;
  return { ...roll, held: undefined, wanted: [], bake: undefined, ended: { outcome: "left", text } };
}

export function rollStatus(roll: RollState): RollStatus {
  const { by, done, image, left, previous } = roll;
  return { image, previous, by, phase: phaseOf(roll), done: done.length, left, text: textOf(roll) };
}

/** Equal for two states that lead to the same and are to be told the same. */
export function rollFingerprint(roll: RollState): string {
  const { bake, direction, done, ended, failuresInARow, held, left, seen, wanted } = roll;
  const patients = seen.map((one) => [one.endpoint, typeof one.suspectSinceMs === "number", one.bad ?? ""]);
  const baking = bake === undefined ? "" : bake.untilMs === undefined ? "unwatched" : "watched";
  return JSON.stringify([direction, held?.why ?? "", wanted, baking, failuresInARow, patients, done, left, ended ?? ""]);
}

function isHeld(held: RollState["held"]): boolean {
  return held !== undefined && held !== null;
}

/** Machines that run, by whether they are of the image that is aimed for. Of which nobody says anything, nothing is wanted. */
function split(observation: Observation, goal: string): Pick<RollState, "done" | "left"> {
  const running = observation.endpoints.filter((one) => one.machine === "running" && one.revoked !== true);
  return {
    done: running.filter((one) => one.image === goal && typeof one.weight === "number").map((one) => one.endpoint),
    left: running.filter((one) => isOfAnother(one.image, goal)).map((one) => one.endpoint),
  };
}

function whyNotOn(roll: RollState): string | undefined {
  if (roll.failuresInARow >= ROLL_LIMITS.failuresInARowMax) {
    return `${roll.failuresInARow} replacements failed one after the other; the last: ${roll.lastFailure ?? "no reason was given"}`;
  }
  return roll.direction === "forward" ? worse(roll.seen, roll.policy.worseShareMax) : undefined;
}

function turn(roll: RollState, why: string): RollState {
  if (roll.direction === "forward" && roll.policy.rollback) return turnBack(roll, why);
  const then = roll.direction === "back" ? "It cannot go back either" : "Rollback is off";
  return interrupted({ ...roll, held: { by: "the rollout itself", why: `${then}: ${why}` } });
}

function turnBack(roll: RollState, why: string): RollState {
  const back = { ...roll, direction: "back", turned: why, wanted: [], bake: undefined, failuresInARow: 0 } as const;
  // What was to be replaced is done with, and what was done is to be replaced; looked at anew with the next observation.
  return { ...back, done: roll.left, left: roll.done };
}

function proceed(roll: RollState, spec: SwarmSpec, observation: Observation, now: number): RollState {
  const { bakeMs } = roll.policy;
  const wanted = roll.wanted.filter((endpoint) => roll.left.includes(endpoint));
  if (wanted.length > 0) return { ...roll, wanted };
  const begins = roll.wanted.length > 0 || (roll.bake !== undefined && roll.bake.untilMs === undefined);
  // The image that is gone back to is known.
  if (begins && roll.direction === "forward") return { ...roll, wanted: [], bake: { untilMs: now + bakeMs } };
  if (roll.bake?.untilMs !== undefined && (now < roll.bake.untilMs || isInDoubt(roll))) return roll;
  const settled: RollState = { ...roll, wanted: [], bake: undefined };
  if (roll.left.length > 0) return { ...settled, wanted: nextBatch(settled, spec, observation, now) };
  if (staleGhosts(observation, goalOf(roll)).length > 0) return settled;
  return { ...settled, ended: { outcome: roll.direction === "forward" ? "rolled" : "rolled-back", text: lastWord(roll) } };
}

/** Something is wrong with what serves from the image, and it is not known yet whether it stays so. */
function isInDoubt({ done, seen }: RollState): boolean {
  return seen.some((one) => one.isNew && typeof one.suspectSinceMs === "number" && done.includes(one.endpoint));
}

/** The least laden first, so that what is wrong with the image is felt by few; on the way back what is bad first. */
function nextBatch(roll: RollState, spec: SwarmSpec, observation: Observation, now: number): readonly string[] {
  const bad = new Set(roll.seen.filter((one) => one.bad !== undefined).map((one) => one.endpoint));
  const rank = (one: EndpointObservation) => (roll.direction === "back" && bad.has(one.endpoint) ? 0 : 1);
  return observation.endpoints
    .filter((one) => roll.left.includes(one.endpoint) && typeof one.weight === "number" && !one.ejected)
    .toSorted((a, b) => rank(a) - rank(b) || a.sessions - b.sessions || (a.endpoint < b.endpoint ? -1 : 1))
    .slice(0, batchSize(roll, spec, observation, now))
    .map((one) => one.endpoint);
}

/** No more than the budget allows at once; the swarm, who keeps its account, lets them begin. */
function batchSize(roll: RollState, spec: SwarmSpec, observation: Observation, now: number): number {
  const { underWayMax } = budgetUse(spec, [], observation.endpoints.length, now);
  const most = Math.min(roll.policy.batchEndpoints ?? underWayMax, underWayMax);
  const isFirst = roll.direction === "forward" && !roll.seen.some((one) => one.isNew);
  return isFirst ? Math.min(most, ROLL_LIMITS.firstBatchEndpoints) : most;
}

function phaseOf(roll: RollState): RollPhase {
  if (roll.ended !== undefined) return roll.ended.outcome;
  if (isHeld(roll.held)) return "paused";
  if (roll.direction === "back") return "rolling-back";
  if (roll.bake !== undefined) return "baking";
  return roll.left.length === 0 ? "ghosts" : "replacing";
}

function textOf(roll: RollState): string {
  const { bake, done, ended, held, left, policy, turned } = roll;
  if (ended !== undefined) return ended.text;
  const count = `${done.length} of ${counted(done.length + left.length, "endpoint")} serve from ${shortImage(goalOf(roll))}`;
  const going = turned === undefined ? "" : ` Going back: ${turned}`;
  if (held !== undefined && isHeld(held)) return `Paused. ${held.why} ${count}.${going}`;
  if (bake !== undefined) return `Watching for ${Math.ceil(policy.bakeMs / 1000)} s what was replaced. ${count}.${going}`;
  if (left.length === 0) return `Ghosts of another image are being replaced. ${count}.${going}`;
  const now = roll.wanted.length === 0 ? "" : ` To be replaced now: ${roll.wanted.join(", ")}.`;
  return `${count}.${now}${going}`;
}

function lastWord({ done, image, previous, direction, turned }: RollState): string {
  const all = counted(done.length, "endpoint");
  if (direction === "forward") return `${all} and every ghost are of ${shortImage(image)}.`;
  return `${all} and every ghost are of ${shortImage(previous)} again, because: ${turned ?? "it was asked for"}`;
}
