/**
 * What both ways of taking an endpoint out of service share: the flag and the weight at the balancer, an endpoint that dies on the way,
 * and the run's last word.
 */
import { workflowInfo } from "@temporalio/workflow";
import { ROLL_CAUSE } from "../models/roll.ts";
import type { Share } from "../models/spread.ts";
import { type DrainFinished, rollWorkflowId } from "../models/swarm-messages.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { drainFinishedSignal } from "./messages.ts";
import type { MoveOutcome, MoveRequest } from "./move-sessions.ts";
import { agents, balancer, store } from "./queues.ts";
import { audit, type Journal, operationKey, step, tell, tellSwarm } from "./run.ts";

export interface DrainInput {
  readonly endpoint: string;
  readonly cause: string;
  readonly reason: string;
  /** Weight the endpoint had, for putting it back. */
  readonly weight: number;
  readonly spec: SwarmSpec;
}

/** Takes no new sessions from here on. */
export function beginDraining(journal: Journal, input: DrainInput): Promise<void> {
  const how = { draining: true, weight: 0, name: "drain", summary: `${input.endpoint} takes no new sessions` };
  return setDraining(journal, input, how);
}

export function endDraining(journal: Journal, input: DrainInput): Promise<void> {
  const { endpoint, weight } = input;
  return setDraining(journal, input, {
    draining: false,
    weight,
    name: "undrain",
    summary: `${endpoint} gets weight ${weight} again`,
  });
}

function setDraining(
  journal: Journal,
  input: DrainInput,
  how: { draining: boolean; weight: number; name: string; summary: string },
): Promise<void> {
  const { endpoint, reason, spec } = input;
  const { name, summary, ...rest } = how;
  return step(journal, () =>
    balancer.setWeight.executeWithOptions({ summary }, [
      { swarm: spec.name, reason, endpoint, ...rest, operation: operationKey(name) },
    ]),
  );
}

/** To the members that remain, each to its shadow while that has room. `targets` is told who they are. */
export function toOthers(input: DrainInput, targets: Set<string>): MoveRequest["share"] {
  return (publicKeys) => sharesOf(input, targets, publicKeys);
}

/** The same of all sessions that live there, where none are named. */
export async function sharesOf(
  { endpoint, spec }: DrainInput,
  targets: Set<string>,
  publicKeys?: readonly string[],
): Promise<readonly Share[]> {
  const which = publicKeys === undefined ? "every session" : counted(publicKeys.length, "session");
  const named = publicKeys === undefined ? {} : { publicKeys };
  const shares = await agents.shareSessions.executeWithOptions({ summary: `Who takes ${which}?` }, [
    { swarm: spec.name, from: endpoint, ...named, capacitySessions: spec.endpoints.capacitySessions },
  ]);
  for (const { to } of shares) targets.add(to);
  return shares;
}

/** An endpoint that died on the way is the reflex's to save; what it held is confirmed before its machine ends. */
export async function confirmMove(
  journal: Journal,
  input: DrainInput,
  outcome: Pick<MoveOutcome, "letGo" | "sourceAnswers">,
  name: string,
): Promise<void> {
  const { endpoint, reason, spec } = input;
  if (outcome.letGo > 0) journal.note(`Let go of ${counted(outcome.letGo, "session")}: no handshake was answered.`);
  if (outcome.sourceAnswers) return;
  journal.note(`${endpoint} stopped answering; its remaining sessions are confirmed on their shadows.`);
  await step(journal, () =>
    agents.confirmTakeover.executeWithOptions({ summary: `Do the sessions of ${endpoint} live elsewhere?` }, [
      { swarm: spec.name, reason, endpoint, operation: operationKey(name), adopts: spec.outlier.takeover },
    ]),
  );
}

/** Whether it can go on serving: a member of the balancer that is not ejected. */
export async function canServe(endpoint: string): Promise<boolean> {
  const { member, ejected } = await balancer.memberStatus.executeWithOptions({ summary: `Is ${endpoint} alive?` }, [
    { endpoint },
  ]);
  return member && !ejected;
}

export interface DrainEnd {
  readonly outcome: DrainFinished["outcome"];
  readonly replacement: string | undefined;
  readonly sessionsMoved: number;
  readonly text: string;
}

export async function finishDrain(
  journal: Journal,
  input: DrainInput,
  action: string,
  { outcome, replacement, sessionsMoved, text }: DrainEnd,
): Promise<DrainFinished> {
  const { endpoint, cause, spec } = input;
  const details = { cause, replacement: replacement ?? "", sessionsMoved };
  const auditOutcome = outcome === "replaced" || outcome === "drained" ? "done" : "failed";
  await audit({ name: "end", swarm: spec.name, endpoint, action, outcome: auditOutcome, text, details });
  journal.note(text);
  journal.enter(outcome);
  const fact: DrainFinished = { workflowId: workflowInfo().workflowId, endpoint, outcome, replacement, sessionsMoved, text };
  await tellSwarm(spec.name, drainFinishedSignal, fact);
  if (cause === ROLL_CAUSE) await tell(rollWorkflowId(spec.name), drainFinishedSignal, fact);
  return fact;
}

/** Neither through nor back: what lives goes on living, and a person is paged. */
export async function pageStuck(input: DrainInput, text: string): Promise<void> {
  const subject = `drain of ${input.endpoint} stuck`;
  await store.page.executeWithOptions({ summary: "Page a person" }, [
    { operation: operationKey("page"), swarm: input.spec.name, subject, text },
  ]);
}
