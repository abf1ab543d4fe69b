/**
 * How an endpoint is reached, whether it is a member of the balancer already or a machine that joins, and when it is dead.
 */
import type { EndpointAgent } from "../drivers/ports.ts";
import { ForeshiftError } from "../models/errors.ts";
import type { SessionState } from "../models/session.ts";
import type { MemberLink } from "../models/steering.ts";
import type { ActivityDeps } from "./deps.ts";

/** UNKNOWN_ENDPOINT when neither the balancer nor the hypervisor knows it. */
export async function linkOf(deps: ActivityDeps, swarm: string, endpoint: string): Promise<MemberLink> {
  const desired = await deps.balancer.desired();
  const member = desired?.members.find((candidate) => candidate.endpoint === endpoint);
  if (member !== undefined) return member.link;
  const machines = await deps.hypervisor.list(swarm);
  const machine = machines.find((candidate) => candidate.name === endpoint && candidate.state !== "gone");
  if (machine === undefined) throw new ForeshiftError("UNKNOWN_ENDPOINT", { value: endpoint });
  return machine.link;
}

export async function agentFor(deps: ActivityDeps, swarm: string, endpoint: string): Promise<EndpointAgent> {
  return deps.agentOf(await linkOf(deps, swarm, endpoint), endpoint);
}

/** Asks the agent of an endpoint that takes part in a move. ENDPOINT_LOST when it is dead: asking again is of no use. */
export async function askMover<T>(
  deps: ActivityDeps,
  swarm: string,
  endpoint: string,
  ask: (agent: EndpointAgent) => Promise<T>,
): Promise<T> {
  try {
    return await ask(await agentFor(deps, swarm, endpoint));
  } catch (thrown) {
    if (!isGone(thrown) || !(await isDead(deps, endpoint))) throw thrown;
    throw new ForeshiftError("ENDPOINT_LOST", {
      value: endpoint,
      detail: "its agent is silent, and the reflex has ejected it",
    });
  }
}

/**
 * These sessions of an endpoint that is left, or all that live there, as the balancer knows them: it hears of each change within a moment. The
 * endpoint itself, which may be left because it is slow to answer, is asked where the balancer does not know. ENDPOINT_LOST as above.
 */
export async function sessionsToMove(
  deps: ActivityDeps,
  swarm: string,
  from: string,
  publicKeys?: readonly string[],
): Promise<readonly SessionState[]> {
  const wanted = publicKeys === undefined ? undefined : new Set(publicKeys);
  const among = (sessions: readonly SessionState[]) => sessions.filter(({ publicKey }) => wanted?.has(publicKey) ?? true);
  const known = among(await deps.balancer.sessions()).filter(({ endpoint }) => endpoint === from);
  if (wanted === undefined ? known.length > 0 : known.length === wanted.size) return known;
  return among(await askMover(deps, swarm, from, (source) => source.sessions()));
}

/** An agent alone may be away while the data path is fine: only the reflex's word makes an endpoint dead. */
export async function isDead(deps: ActivityDeps, endpoint: string): Promise<boolean> {
  const health = await deps.balancer.health();
  return health.find((member) => member.endpoint === endpoint)?.ejected ?? true;
}

export function isGone(thrown: unknown): boolean {
  return thrown instanceof ForeshiftError && (thrown.code === "UNREACHABLE" || thrown.code === "UNKNOWN_ENDPOINT");
}
