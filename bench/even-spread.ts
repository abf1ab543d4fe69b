/**
 * The same number of sessions on every endpoint, so that whatever befalls one of them puts as many at risk under one mode as under the
 * other. Sessions move as in a planned move: the new endpoint begins the handshake, the old one forgets.
 */
import { randomUUID } from "node:crypto";
import { dialAgent } from "../drivers/identity/dial.ts";
import { agentClient } from "../drivers/tunnel/agent-client.ts";
import { until } from "../lab/await.ts";
import type { OpenLab } from "../lab/open-lab.ts";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import type { SessionState } from "../models/session.ts";
import type { SteeringState } from "../models/steering.ts";

export interface Move<S> {
  readonly session: S;
  readonly to: string;
}

/** Which sessions go where so that the counts differ by one at most; as few as can be. */
export function evenMoves<S extends Pick<SessionState, "endpoint">>(
  sessions: readonly S[],
  endpoints: readonly string[],
): readonly Move<S>[] {
  const held = new Map(endpoints.map((endpoint) => [endpoint, sessions.filter((session) => session.endpoint === endpoint)]));
  const homeless = sessions.filter(({ endpoint }) => !held.has(endpoint));
  // The first of those that hold the most keep the odd ones.
  const ranked = [...held].toSorted(([one, many], [other, more]) => more.length - many.length || one.localeCompare(other));
  const share = (at: number) => Math.floor(sessions.length / ranked.length) + (at < sessions.length % ranked.length ? 1 : 0);
  const moving = [...homeless, ...ranked.flatMap(([, own], at) => own.slice(share(at)))];
  return ranked.flatMap(([to, own], at) =>
    moving.splice(0, Math.max(0, share(at) - own.length)).map((session) => ({ session, to })),
  );
}

/** True when sessions had to move for it. */
export async function spreadEvenly(open: OpenLab): Promise<boolean> {
  const { balancer } = open;
  const members = (await balancer.health()).map(({ endpoint }) => endpoint);
  const moves = evenMoves(await balancer.sessions(), members);
  if (moves.length === 0) return false;
  const clients = new Map(moves.map(({ session, to }) => [session.outerAddress, to]));
  const others = (pins: SteeringState["pins"]) => pins.filter(({ client }) => !clients.has(client));
  await changeSteering(open, (state) => ({
    ...state,
    pins: [...others(state.pins), ...[...clients].map(([client, endpoint]) => ({ client, endpoint }))],
  }));
  for (const to of new Set(clients.values())) {
    const sessions = moves.filter((move) => move.to === to).map(({ session }) => session);
    await onAgent(open, to, (agent) => agent.adopt({ operation: `bench/spread/${randomUUID()}`, sessions }));
  }
  await until(
    async () => {
      const now = new Map((await balancer.sessions()).map(({ publicKey, endpoint }) => [publicKey, endpoint]));
      return moves.every(({ session, to }) => now.get(session.publicKey) === to) ? true : undefined;
    },
    { what: "an even spread of the sessions", timeoutMs: LIMITS.story.phaseTimeoutMs },
  );
  for (const from of new Set(moves.map(({ session }) => session.endpoint))) {
    if (!members.includes(from)) continue;
    const publicKeys = moves.filter(({ session }) => session.endpoint === from).map(({ session }) => session.publicKey);
    await onAgent(open, from, (agent) => agent.retire({ operation: `bench/spread/${randomUUID()}`, publicKeys }));
  }
  await changeSteering(open, (state) => ({ ...state, pins: others(state.pins) }));
  return true;
}

/** One epoch higher; again when a workflow was quicker. */
async function changeSteering({ balancer }: OpenLab, change: (state: SteeringState) => SteeringState): Promise<void> {
  await until(
    async () => {
      const desired = await balancer.desired();
      if (desired === undefined) return undefined;
      try {
        const next = { ...change(desired), epoch: desired.epoch + 1 };
        await balancer.apply({ ...next, operation: `bench/spread/${randomUUID()}` });
        return true;
      } catch (thrown) {
        if (thrown instanceof ForeshiftError && thrown.code === "STALE_EPOCH") return undefined;
        throw thrown;
      }
    },
    { what: "a change of the balancer's table", timeoutMs: LIMITS.story.phaseTimeoutMs },
  );
}

async function onAgent<T>(
  { balancer, identity }: OpenLab,
  endpoint: string,
  work: (agent: ReturnType<typeof agentClient>) => Promise<T>,
): Promise<T> {
  const link = (await balancer.desired())?.members.find((member) => member.endpoint === endpoint)?.link;
  if (link === undefined) throw new ForeshiftError("UNKNOWN_ENDPOINT", { value: endpoint });
  const agent = agentClient({
    socketPath: link.agent,
    dial: identity === undefined ? undefined : dialAgent(identity, endpoint),
  });
  try {
    return await work(agent);
  } finally {
    await agent.close();
  }
}
