/**
 * Moves an endpoint's IPsec sessions, make before break: pin, an IKE SA of the new endpoint's own, verify by its SAs and by packets that come by
 * them; then an overlap, in which both can read what the client sends; then the old endpoint says goodbye and the pins go.
 */
import { sleep } from "@temporalio/workflow";
import type { IpsecShare } from "../activities/ipsec.ts";
import { ForeshiftError } from "../models/errors.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { failure } from "./failures.ts";
import { agents, balancer, doubtfulAgents } from "./queues.ts";
import { type Journal, operationKey, step } from "./run.ts";

export interface IpsecRequest {
  readonly from: string;
  /** Takes all of them, where it is a gateway; else each goes to its shadow. */
  readonly prefers: string | undefined;
  readonly policy: SwarmSpec["move"];
  readonly capacitySessions: number;
  readonly reason: string;
  /** Distinguishes this move's steps from those of another in the same run. */
  readonly name: string;
  readonly active: ReadonlySet<string>;
}

export interface IpsecOutcome {
  readonly verified: readonly string[];
  /** Sessions whose clients cannot be called, or that nobody is to take; they live where they did. */
  readonly missing: readonly string[];
}

/**
 * VERIFY_FAILED when a client that sends does not send by its new SAs in time; those are given up again, so that it goes on by what it has.
 * Whatever fails, sessions that came over stay there, the old endpoint lets them go, and no pin is left. `onMoved` is told of them.
 */
export async function moveIpsec(
  journal: Journal,
  request: IpsecRequest,
  sessions: readonly string[],
  onMoved: (count: number, to: string) => void,
): Promise<IpsecOutcome> {
  const { from, prefers, capacitySessions, policy, name } = request;
  const preferred = prefers === undefined ? {} : { prefers };
  const shares = await agents.shareIpsec.executeWithOptions(
    { summary: `Who takes ${counted(sessions.length, "IPsec session")}?` },
    [{ swarm: journal.swarm, from, sessions, ...preferred, capacitySessions }],
  );
  const shared = new Set(shares.flatMap((share) => share.sessions));
  const verified: string[] = [];
  const missing = sessions.filter((session) => !shared.has(session));
  for (const [at, share] of batchesOf(shares, policy.batchSessions).entries()) {
    const batch = { ...request, name: `${name}-${at + 1}` };
    const over = await callOver(journal, batch, share);
    verified.push(...over.verified);
    missing.push(...over.missing);
    onMoved(over.verified.length, share.to);
    await finish(journal, batch, share.to, over.verified);
    if (over.failed !== undefined) throw over.failed;
  }
  return { verified, missing };
}

function batchesOf(shares: readonly IpsecShare[], size: number): readonly IpsecShare[] {
  return shares.flatMap(({ to, sessions }) =>
    Array.from({ length: Math.ceil(sessions.length / size) }, (_, index) => ({
      to,
      sessions: sessions.slice(index * size, (index + 1) * size),
    })),
  );
}

interface Batch extends IpsecOutcome {
  /** What kept the rest from coming over; undefined when nothing did. */
  readonly failed: unknown;
}

async function callOver(journal: Journal, request: IpsecRequest, { to, sessions }: IpsecShare): Promise<Batch> {
  const { from, reason, name, policy, active } = request;
  const { swarm } = journal;
  const count = counted(sessions.length, "IPsec session");
  const move = { swarm, reason, from, to, sessions };
  try {
    await step(journal, () =>
      balancer.pinIpsec.executeWithOptions({ summary: `Pin the clients of ${count} to ${to}` }, [
        { ...move, operation: operationKey(`${name}-pin`) },
      ]),
    );
    const { verified, silent, missing } = await step(journal, () =>
      agents.adoptIpsec.executeWithOptions({ summary: `${to} makes IKE SAs of its own for ${count}` }, [
        {
          ...move,
          active: sessions.filter((session) => active.has(session)),
          timeoutMs: policy.verifyTimeoutMs,
          operation: operationKey(`${name}-adopt`),
        },
      ]),
    );
    if (silent.length === 0) return { verified, missing, failed: undefined };
    const detail = `${silent.length} of ${count} with traffic did not come over in ${policy.verifyTimeoutMs} ms`;
    return { verified, missing, failed: failure(new ForeshiftError("VERIFY_FAILED", { value: to, detail })) };
  } catch (failed) {
    return { verified: [], missing: [], failed };
  }
}

/** The pins go whatever comes of it. */
async function finish(journal: Journal, request: IpsecRequest, to: string, verified: readonly string[]): Promise<void> {
  const { from, reason, name } = request;
  const { swarm } = journal;
  try {
    if (verified.length > 0) await letGo(journal, request, to, verified);
  } finally {
    await step(journal, () =>
      balancer.unpinIpsec.executeWithOptions({ summary: `Remove the IPsec pins from ${from} to ${to}` }, [
        { swarm, reason, from, to, operation: operationKey(`${name}-unpin`) },
      ]),
    );
  }
}

async function letGo(journal: Journal, request: IpsecRequest, to: string, sessions: readonly string[]): Promise<void> {
  const { from: endpoint, reason, name, policy } = request;
  const { swarm } = journal;
  const count = counted(sessions.length, "IPsec session");
  await sleep(policy.overlapMs, { summary: `ESP under way to ${endpoint} arrives` });
  await step(journal, () =>
    doubtfulAgents.retireIpsec.executeWithOptions({ summary: `${endpoint} says goodbye to ${count}` }, [
      { swarm, reason, endpoint, sessions, operation: operationKey(`${name}-retire`) },
    ]),
  );
  journal.note(`${count} moved from ${endpoint} to ${to}.`);
}
