/**
 * Moves every live session from one endpoint to another, in batches: pin, handshake from the new endpoint, verify by handshake and
 * received bytes, return route; then an overlap, in which both hold the keys; then the old endpoint forgets and the pins go.
 * Used forwards by drain-and-replace and backwards by its compensation.
 */
import { sleep } from "@temporalio/workflow";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { failure } from "./failures.ts";
import { agents, balancer, doubtfulAgents } from "./queues.ts";
import { type Journal, operationKey, step } from "./run.ts";

export interface MoveRequest {
  readonly from: string;
  readonly to: string;
  readonly policy: SwarmSpec["move"];
  readonly reason: string;
  /** Distinguishes this move's steps from those of another in the same run. */
  readonly name: string;
}

export interface MoveOutcome {
  readonly moved: number;
  /** Sessions whose client did not answer any more; nothing was lost with them. */
  readonly letGo: number;
  /** False when the old endpoint stopped answering on the way: what it held is the reflex's to save. */
  readonly sourceAnswers: boolean;
}

/** VERIFY_FAILED when a session that carries packets does not live on the new endpoint in time. */
export async function moveSessions(journal: Journal, request: MoveRequest): Promise<MoveOutcome> {
  const { from, to } = request;
  let moved = 0;
  const unanswered = new Set<string>();
  for (let round = 1; round <= LIMITS.control.moveRoundsMax; round += 1) {
    const listing = await agents.listSessions.executeWithOptions({ summary: `Which sessions live on ${from}?` }, [
      { swarm: journal.swarm, endpoint: from },
    ]);
    if (!listing.reachable) return { moved, letGo: unanswered.size, sourceAnswers: false };
    const active = new Set(listing.active);
    // Who was silent and did not answer a handshake is asked no second time, unless packets came since.
    const wanted = [...listing.active, ...listing.quiet.filter((key) => !unanswered.has(key))];
    if (wanted.length === 0) {
      return { moved, letGo: unanswered.size, sourceAnswers: true };
    }
    journal.note(`Round ${round}: ${listing.active.length} active and ${listing.quiet.length} quiet sessions on ${from}.`);
    const done: string[] = [];
    for (let first = 0; first < wanted.length; first += request.policy.batchSessions) {
      const batch = wanted.slice(first, first + request.policy.batchSessions);
      const name = `${request.name}-${round}-${1 + first / request.policy.batchSessions}`;
      const { verified, missing } = await callOver(journal, { ...request, name }, batch, active);
      for (const key of missing) unanswered.add(key);
      done.push(...verified);
    }
    await letGo(journal, { ...request, name: `${request.name}-${round}` }, done);
    moved += done.length;
  }
  const left = `sessions kept appearing on ${from} over ${LIMITS.control.moveRoundsMax} rounds`;
  throw failure(new ForeshiftError("VERIFY_FAILED", { value: to, detail: left }));
}

interface Batch {
  readonly verified: readonly string[];
  readonly missing: readonly string[];
}

/** One batch lives on the new endpoint when this returns; the old one still holds its keys. */
async function callOver(
  journal: Journal,
  request: MoveRequest,
  publicKeys: readonly string[],
  active: ReadonlySet<string>,
): Promise<Batch> {
  const { from, to, reason, name, policy } = request;
  const { swarm } = journal;
  const count = `${publicKeys.length} sessions`;
  const move = { swarm, reason, from, to, publicKeys };
  const { sinceMs } = await step(journal, () =>
    balancer.pinSessions.executeWithOptions({ summary: `Pin ${count} to ${to}` }, [
      { ...move, operation: operationKey(`${name}-pin`) },
    ]),
  );
  await step(journal, () =>
    agents.adoptSessions.executeWithOptions({ summary: `${to} starts the handshakes of ${count}` }, [
      { ...move, operation: operationKey(`${name}-adopt`) },
    ]),
  );
  const activeHere = publicKeys.filter((key) => active.has(key));
  const { verified, missing } = await agents.verifySessions.executeWithOptions(
    { summary: `Handshake and received bytes of ${count} on ${to}?` },
    [{ swarm, to, publicKeys, active: activeHere, sinceMs, timeoutMs: policy.verifyTimeoutMs }],
  );
  const silent = missing.filter((key) => active.has(key));
  if (silent.length > 0) {
    const detail = `${silent.length} of ${publicKeys.length} sessions with traffic did not come over in ${policy.verifyTimeoutMs} ms`;
    throw failure(new ForeshiftError("VERIFY_FAILED", { value: to, detail }));
  }
  if (verified.length > 0) {
    await step(journal, () =>
      balancer.routeBack.executeWithOptions({ summary: `Return routes of ${verified.length} sessions to ${to}` }, [
        { swarm, reason, to, publicKeys: verified, operation: operationKey(`${name}-route`) },
      ]),
    );
  }
  return { verified, missing };
}

/** After the overlap the old endpoint forgets what lives on the new one, and the pins go. */
async function letGo(journal: Journal, request: MoveRequest, publicKeys: readonly string[]): Promise<void> {
  const { from, to, reason, name, policy } = request;
  const { swarm } = journal;
  if (publicKeys.length > 0) {
    await sleep(policy.overlapMs, { summary: `Packets under way to ${from} arrive` });
    await step(journal, () =>
      doubtfulAgents.retireSessions.executeWithOptions({ summary: `${from} forgets ${publicKeys.length} sessions` }, [
        { swarm, reason, endpoint: from, publicKeys, operation: operationKey(`${name}-retire`) },
      ]),
    );
    journal.note(`${publicKeys.length} sessions moved from ${from} to ${to}.`);
  }
  await step(journal, () =>
    balancer.unpinSessions.executeWithOptions({ summary: `Remove the pins to ${to}` }, [
      { swarm, reason, to, operation: operationKey(`${name}-unpin`) },
    ]),
  );
}
