/**
 * Moves every live session from one endpoint to one machine or to several members, in batches: pin, handshake from the new endpoint,
 * verify by handshake and received bytes, return route; then an overlap, in which both hold the keys; then the old endpoint forgets and
 * the pins go. Used by both kinds of drain, and backwards by the compensation of drain-and-replace.
 */
import { sleep } from "@temporalio/workflow";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import type { Share } from "../models/spread.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { failure } from "./failures.ts";
import { agents, balancer, doubtfulAgents } from "./queues.ts";
import { type Journal, operationKey, step } from "./run.ts";

export interface MoveRequest {
  readonly from: string;
  /** Who takes which of these sessions. */
  readonly share: (publicKeys: readonly string[]) => Promise<readonly Share[]>;
  readonly policy: SwarmSpec["move"];
  readonly reason: string;
  /** Distinguishes this move's steps from those of another in the same run. */
  readonly name: string;
  /** Told of sessions that live on their new endpoint for good, also when the move fails later. */
  readonly onMoved?: (count: number) => void;
}

export interface MoveOutcome {
  readonly moved: number;
  /** Sessions whose client did not answer any more; nothing was lost with them. */
  readonly letGo: number;
  /** False when the old endpoint stopped answering on the way: what it held is the reflex's to save. */
  readonly sourceAnswers: boolean;
}

/** All of them to one machine. */
export function allTo(to: string): MoveRequest["share"] {
  return (publicKeys) => Promise.resolve([{ to, publicKeys }]);
}

/**
 * VERIFY_FAILED when a session that carries packets does not live on its new endpoint in time. Whatever fails, sessions that came over
 * stay there, the old endpoint forgets them, and no pin is left.
 */
export async function moveSessions(journal: Journal, request: MoveRequest): Promise<MoveOutcome> {
  const { from } = request;
  let moved = 0;
  const unanswered = new Set<string>();
  for (let round = 1; round <= LIMITS.control.moveRoundsMax; round += 1) {
    const listing = await agents.listSessions.executeWithOptions({ summary: `Which sessions live on ${from}?` }, [
      { swarm: journal.swarm, endpoint: from },
    ]);
    if (!listing.reachable) return { moved, letGo: unanswered.size, sourceAnswers: false };
    // Who was silent and did not answer a handshake is asked no second time, unless packets came since.
    const wanted = [...listing.active, ...listing.quiet.filter((key) => !unanswered.has(key))];
    if (wanted.length === 0) return { moved, letGo: unanswered.size, sourceAnswers: true };
    journal.note(`Round ${round}: ${listing.active.length} active and ${listing.quiet.length} quiet sessions on ${from}.`);
    const shares = await request.share(wanted);
    const name = `${request.name}-${round}`;
    const over = await callAllOver(journal, { ...request, name }, shares, new Set(listing.active));
    for (const key of over.missing) unanswered.add(key);
    await letGo(journal, { ...request, name }, shares, over.verified);
    moved += over.verified.length;
    request.onMoved?.(over.verified.length);
    if (over.failed !== undefined) throw over.failed;
  }
  const detail = `sessions kept appearing on it over ${LIMITS.control.moveRoundsMax} rounds`;
  throw failure(new ForeshiftError("VERIFY_FAILED", { value: from, detail }));
}

interface Batch {
  readonly verified: readonly string[];
  readonly missing: readonly string[];
}

/** Batch by batch, until one fails. */
async function callAllOver(
  journal: Journal,
  request: MoveRequest,
  shares: readonly Share[],
  active: ReadonlySet<string>,
): Promise<Batch & { failed: unknown }> {
  const verified: string[] = [];
  const missing: string[] = [];
  const { batchSessions } = request.policy;
  const batches = shares.flatMap(({ to, publicKeys }) =>
    Array.from({ length: Math.ceil(publicKeys.length / batchSessions) }, (_, index) => ({
      to,
      publicKeys: publicKeys.slice(index * batchSessions, (index + 1) * batchSessions),
    })),
  );
  for (const [index, batch] of batches.entries()) {
    try {
      const over = await callOver(journal, { ...request, name: `${request.name}-${index + 1}` }, batch, active);
      verified.push(...over.verified);
      missing.push(...over.missing);
    } catch (failed) {
      return { verified, missing, failed };
    }
  }
  return { verified, missing, failed: undefined };
}

/** One batch lives on the new endpoint when this returns; the old one still holds its keys. */
async function callOver(
  journal: Journal,
  request: MoveRequest,
  { to, publicKeys }: Share,
  active: ReadonlySet<string>,
): Promise<Batch> {
  const { from, reason, name, policy } = request;
  const { swarm } = journal;
  const count = counted(publicKeys.length, "session");
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
    const detail = `${silent.length} of ${counted(publicKeys.length, "session")} with traffic did not come over in ${policy.verifyTimeoutMs} ms`;
    throw failure(new ForeshiftError("VERIFY_FAILED", { value: to, detail }));
  }
  if (verified.length > 0) {
    await step(journal, () =>
      balancer.routeBack.executeWithOptions({ summary: `Return routes of ${counted(verified.length, "session")} to ${to}` }, [
        { swarm, reason, to, publicKeys: verified, operation: operationKey(`${name}-route`) },
      ]),
    );
  }
  return { verified, missing };
}

/** After the overlap the old endpoint forgets what lives on the new ones, and the pins go. */
async function letGo(
  journal: Journal,
  request: MoveRequest,
  shares: readonly Share[],
  publicKeys: readonly string[],
): Promise<void> {
  const { from, reason, name, policy } = request;
  const { swarm } = journal;
  const targets = shares.map(({ to }) => to);
  if (publicKeys.length > 0) {
    await sleep(policy.overlapMs, { summary: `Packets under way to ${from} arrive` });
    await step(journal, () =>
      doubtfulAgents.retireSessions.executeWithOptions(
        { summary: `${from} forgets ${counted(publicKeys.length, "session")}` },
        [{ swarm, reason, endpoint: from, publicKeys, operation: operationKey(`${name}-retire`) }],
      ),
    );
    journal.note(`${counted(publicKeys.length, "session")} moved from ${from} to ${targets.join(", ")}.`);
  }
  for (const to of targets) await unpin(journal, { from, to, reason, name: `${name}-unpin-${to}` });
}

export function unpin(journal: Journal, request: { from: string; to: string; reason: string; name: string }): Promise<void> {
  const { from, to, reason, name } = request;
  return step(journal, () =>
    balancer.unpinSessions.executeWithOptions({ summary: `Remove the pins from ${from} to ${to}` }, [
      { swarm: journal.swarm, reason, from, to, operation: operationKey(name) },
    ]),
  );
}
