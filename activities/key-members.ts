/**
 * The endpoints of a swarm as a change of keys meets them: those that serve must take part; one that is ejected learns of it from the
 * source of truth when it comes back.
 */
import type { EndpointAgent } from "../drivers/ports.ts";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { refName } from "../models/keys.ts";
import type { SessionState } from "../models/session.ts";
import type { StaticIdentity } from "../models/static-identities.ts";
import type { ActivityDeps } from "./deps.ts";

export interface MemberAgent {
  readonly endpoint: string;
  readonly agent: EndpointAgent;
  /** False: the reflex has ejected it. */
  readonly serves: boolean;
}

/** Bytes that came from a client at one endpoint by one static key. */
export interface Received {
  readonly publicKey: string;
  readonly endpoint: string;
  /** Name of the static key's version. */
  readonly identity: string;
  readonly lastHandshakeMs: number;
  readonly rxBytes: number;
}

export async function memberAgents(deps: ActivityDeps): Promise<readonly MemberAgent[]> {
  const [desired, health] = await Promise.all([deps.balancer.desired(), deps.balancer.health()]);
  const ejected = new Set(health.filter((member) => member.ejected).map(({ endpoint }) => endpoint));
  return (desired?.members ?? []).map(({ endpoint, link }) => ({
    endpoint,
    agent: deps.agentOf(link),
    serves: !ejected.has(endpoint),
  }));
}

/** NOT_READY when one that serves failed; asking again asks only for what is missing, by the operation. */
export async function onEveryMember(
  members: readonly MemberAgent[],
  ask: (member: MemberAgent) => Promise<void>,
): Promise<void> {
  const failed: string[] = [];
  await Promise.all(
    members.map((member) =>
      ask(member).catch((thrown: unknown) => {
        if (member.serves) failed.push(`${member.endpoint}: ${messageOf(thrown)}`);
      }),
    ),
  );
  if (failed.length > 0) throw new ForeshiftError("NOT_READY", { value: "an endpoint that serves", detail: failed.join("; ") });
}

/** Each client's session where its newest handshake was. NOT_READY when an endpoint that serves does not answer. */
export async function sessionsOnMembers(
  deps: ActivityDeps,
  publicKeys: readonly string[],
): Promise<ReadonlyMap<string, SessionState>> {
  const wanted = new Set(publicKeys);
  const newest = new Map<string, SessionState>();
  await onEveryMember(await memberAgents(deps), async ({ agent }) => {
    for (const session of await agent.sessions()) {
      const known = newest.get(session.publicKey);
      if (!wanted.has(session.publicKey) || session.lastHandshakeMs <= (known?.lastHandshakeMs ?? 0)) continue;
      newest.set(session.publicKey, session);
    }
  });
  return newest;
}

/**
 * What came from each of these clients, by endpoint and static key. An endpoint that knows of a newer handshake elsewhere does not show
 * the client's session any more, though its packets may still come in there. NOT_READY like the sessions.
 */
export async function receivedOnMembers(deps: ActivityDeps, publicKeys: readonly string[]): Promise<readonly Received[]> {
  const wanted = new Set(publicKeys);
  const found: Received[] = [];
  await onEveryMember(await memberAgents(deps), async ({ agent, endpoint }) => {
    for (const { identity, sessions } of await agent.identitySessions())
      for (const session of sessions) if (wanted.has(session.publicKey)) found.push({ ...session, endpoint, identity });
  });
  return found;
}

/** Public keys of those whose bytes grew at one endpoint by one key; what was not there before tells nothing. */
export function sendersBetween(before: readonly Received[], after: readonly Received[]): ReadonlySet<string> {
  const nameOf = ({ endpoint, identity, publicKey }: Received) => `${endpoint} ${identity} ${publicKey}`;
  const known = new Map(before.map((received) => [nameOf(received), received.rxBytes]));
  const grew = (received: Received) => received.rxBytes > (known.get(nameOf(received)) ?? Number.POSITIVE_INFINITY);
  return new Set(after.filter(grew).map(({ publicKey }) => publicKey));
}

/** Whether the endpoint answers to all of these static keys, and to no other. */
export async function answersTo(agent: EndpointAgent, identities: readonly StaticIdentity[]): Promise<boolean> {
  const held = new Set((await agent.status()).identities);
  return held.size === identities.length && identities.every(({ secret }) => held.has(refName(secret)));
}
