/**
 * Moves every live session from one endpoint to one machine or to several members, in batches: pin, handshake from the new endpoint,
 * verify by handshake and received bytes, return route; then an overlap, in which both hold the keys; then the old endpoint forgets and
 * the pins go. Used by both kinds of drain, and backwards by the compensation of drain-and-replace. IPsec sessions: move-ipsec.ts.
 */
import { sleep } from "@temporalio/workflow";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { MOVE_LIMITS } from "../models/limits-move.ts";
import type { Share } from "../models/spread.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { failure } from "./failures.ts";
import { moveIpsec } from "./move-ipsec.ts";
import { agents, balancer, doubtfulAgents } from "./queues.ts";
import { type Journal, operationKey, step } from "./run.ts";

export interface MoveRequest {
  readonly from: string;
  /** Who takes which of these sessions. */
  readonly share: (publicKeys: readonly string[]) => Promise<readonly Share[]>;
  readonly policy: SwarmSpec["move"];
  /** Where its IPsec sessions go: there, if that is a gateway, else each to its shadow while that has room. */
  readonly ipsec: { readonly prefers?: string; readonly capacitySessions: number };
  readonly reason: string;
  /** Distinguishes this move's steps from those of another in the same run. */
  readonly name: string;
  /** Told of sessions that live on their new endpoint for good, also when the move fails later; of IPsec sessions, where. */
  readonly onMoved?: (count: number, to?: string) => void;
  /** Endpoints that take sessions over at once; one after the other unless stated. */
  readonly targetsAtOnce?: number;
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
  const calls = new Map<string, number>();
  const onMoved = (count: number, to?: string) => {
    moved += count;
    request.onMoved?.(count, to);
  };
  for (let round = 1; round <= LIMITS.control.moveRoundsMax; round += 1) {
    const listing = await agents.listSessions.executeWithOptions({ summary: `Which sessions live on ${from}?` }, [
      { swarm: journal.swarm, endpoint: from },
    ]);
    if (!listing.reachable) return { moved, letGo: unanswered.size, sourceAnswers: false };
    // Who was silent and did not answer a handshake is asked no second time, unless packets came since.
    const wanted = [...listing.active, ...listing.quiet.filter((key) => !unanswered.has(key))];
    const { ipsec = NO_SESSIONS } = listing;
    const byIpsec = [...ipsec.active, ...ipsec.quiet].filter(
      (session) => (calls.get(session) ?? 0) < MOVE_LIMITS.ipsecCallsMax,
    );
    if (wanted.length + byIpsec.length === 0) return { moved, letGo: unanswered.size, sourceAnswers: true };
    const name = `${request.name}-${round}`;
    if (wanted.length > 0) {
      journal.note(`Round ${round}: ${listing.active.length} active and ${listing.quiet.length} quiet sessions on ${from}.`);
      const shares = await request.share(wanted);
      const over = await moveShares(journal, { ...request, name }, shares, new Set(listing.active));
      for (const key of over.missing) unanswered.add(key);
      onMoved(over.verified.length);
      if (over.failed !== undefined) throw over.failed;
    }
    if (byIpsec.length > 0) {
      journal.note(`Round ${round}: ${ipsec.active.length} active and ${ipsec.quiet.length} quiet IPsec sessions on ${from}.`);
      const over = await moveIpsec(journal, ipsecRequest(request, `${name}-ipsec`, ipsec.active), byIpsec, onMoved);
      for (const session of over.missing) calls.set(session, (calls.get(session) ?? 0) + 1);
      if (over.missing.length > 0) journal.note(leftToHandOver(over.missing.length, from));
    }
  }
  const detail = `sessions kept appearing on it over ${LIMITS.control.moveRoundsMax} rounds`;
  throw failure(new ForeshiftError("VERIFY_FAILED", { value: from, detail }));
}

const NO_SESSIONS = { active: [], quiet: [] } as const;

function ipsecRequest({ from, ipsec, policy, reason }: MoveRequest, name: string, active: readonly string[]) {
  const { prefers, capacitySessions } = ipsec;
  return { from, prefers, capacitySessions, policy, reason, name, active: new Set(active) };
}

function leftToHandOver(count: number, from: string): string {
  return `The clients of ${counted(count, "IPsec session")} could not be called; where they cannot be called again either, others go on with the SAs of ${from} when it leaves.`;
}

/** The sessions that carry packets there; none where it does not answer. */
export async function activeOn(journal: Journal, endpoint: string): Promise<ReadonlySet<string>> {
  const summary = `Which sessions on ${endpoint} carry packets?`;
  const { active } = await agents.listSessions.executeWithOptions({ summary }, [{ swarm: journal.swarm, endpoint }]);
  return new Set(active);
}

/** Which sessions of these are moved, from where and how. */
export type SharesRequest = Omit<MoveRequest, "share" | "onMoved" | "ipsec">;

interface Batch {
  readonly verified: readonly string[];
  readonly missing: readonly string[];
}

export interface MovedShares extends Batch {
  /** What kept the rest from coming over; undefined when nothing did. */
  readonly failed: unknown;
}

/** Those that carry packets; where it is not known yet, nobody waits for it before it is needed. */
export type Active = ReadonlySet<string> | Promise<ReadonlySet<string>>;

/** Moves these sessions and no others, once. What came over stays over, whatever fails. */
export async function moveShares(
  journal: Journal,
  request: SharesRequest,
  shares: readonly Share[],
  active: Active,
): Promise<MovedShares> {
  const over = await callAllOver(journal, request, shares, active);
  await letGo(journal, request, shares, over.verified);
  return over;
}

/** Batch by batch, until one fails; where several endpoints may take sessions over at once, each of these goes on by itself. */
async function callAllOver(
  journal: Journal,
  request: SharesRequest,
  shares: readonly Share[],
  active: Active,
): Promise<MovedShares> {
  const { policy, targetsAtOnce = 1 } = request;
  const { batchSessions } = policy;
  const batches = shares
    .flatMap(({ to, publicKeys }, target) =>
      Array.from({ length: Math.ceil(publicKeys.length / batchSessions) }, (_, index) => ({
        line: target % targetsAtOnce,
        to,
        publicKeys: publicKeys.slice(index * batchSessions, (index + 1) * batchSessions),
      })),
    )
    .map((batch, index) => ({ ...batch, name: `${request.name}-${index + 1}` }));
  const lines = [...Map.groupBy(batches, ({ line }) => line).values()];
  const outcomes = await Promise.all(lines.map((line) => callOverInTurn(journal, request, line, active)));
  return {
    verified: outcomes.flatMap(({ verified }) => verified),
    missing: outcomes.flatMap(({ missing }) => missing),
    failed: outcomes.find(({ failed }) => failed !== undefined)?.failed,
  };
}

async function callOverInTurn(
  journal: Journal,
  request: SharesRequest,
  batches: readonly (Share & { name: string })[],
  active: Active,
): Promise<MovedShares> {
  const verified: string[] = [];
  const missing: string[] = [];
  for (const batch of batches) {
    try {
      const over = await callOver(journal, { ...request, name: batch.name }, batch, active);
      verified.push(...over.verified);
      missing.push(...over.missing);
    } catch (failed) {
      return { verified, missing, failed };
    }
  }
  return { verified, missing, failed: undefined };
}

/** One batch lives on the new endpoint when this returns; the old one still holds its keys. */
async function callOver(journal: Journal, request: SharesRequest, { to, publicKeys }: Share, active: Active): Promise<Batch> {
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
  const carrying = await active;
  const activeHere = publicKeys.filter((key) => carrying.has(key));
  const { verified, missing } = await agents.verifySessions.executeWithOptions(
    { summary: `Handshake and received bytes of ${count} on ${to}?` },
    [{ swarm, to, publicKeys, active: activeHere, sinceMs, timeoutMs: policy.verifyTimeoutMs }],
  );
  const silent = missing.filter((key) => carrying.has(key));
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
  request: SharesRequest,
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
  for (const share of shares) await unpin(journal, { ...share, from, reason, name: `${name}-unpin-${share.to}` });
}

interface UnpinRequest {
  readonly from: string;
  readonly to: string;
  /** Whose pins go wherever they live by then; others' pins to `to` go where they live on one of the two. */
  readonly publicKeys?: readonly string[];
  readonly reason: string;
  readonly name: string;
}

export function unpin(journal: Journal, request: UnpinRequest): Promise<void> {
  const { from, to, publicKeys, reason, name } = request;
  const whose = publicKeys === undefined ? {} : { publicKeys };
  return step(journal, () =>
    balancer.unpinSessions.executeWithOptions({ summary: `Remove the pins from ${from} to ${to}` }, [
      { swarm: journal.swarm, reason, from, to, ...whose, operation: operationKey(name) },
    ]),
  );
}
