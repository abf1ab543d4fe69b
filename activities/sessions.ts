/**
 * Steps on the sessions of endpoints, through their agents. Histories carry public keys only; what belongs to a session is looked up
 * where it lives.
 */
import type { EndpointAgent } from "../drivers/ports.ts";
import { ForeshiftError } from "../models/errors.ts";
import type { HeldIpsec } from "../models/ipsec/wire.ts";
import { LIMITS } from "../models/limits.ts";
import type { SessionState } from "../models/session.ts";
import { type Share, spreadSessions } from "../models/spread.ts";
import { counted } from "../models/words.ts";
import { type ActivityDeps, asActivity, asStep, pause, type StepInput, type StepReport } from "./deps.ts";
import { answersTo } from "./key-members.ts";
import { agentFor, askMover, isDead, isGone, sessionsToMove } from "./links.ts";

export interface SessionListing {
  /** False when the endpoint is dead: its agent does not answer, and the reflex has ejected it or never knew it. */
  readonly reachable: boolean;
  /** Public keys of live sessions that carry packets from the client now. */
  readonly active: readonly string[];
  /** Public keys of live sessions that were silent while looked at. */
  readonly quiet: readonly string[];
  /** The same of its IPsec sessions; absent where it holds none. */
  readonly ipsec?: { readonly active: readonly string[]; readonly quiet: readonly string[] };
}

export interface Move {
  readonly from: string;
  readonly to: string;
  readonly publicKeys: readonly string[];
}

export interface MoveCheck {
  readonly verified: readonly string[];
  readonly missing: readonly string[];
}

export interface LossReport {
  /** Sessions that the lost endpoint held. */
  readonly held: number;
  /** Of these, how many live on another member. */
  readonly alive: number;
  /** Handshakes that were started again from here. */
  readonly adopted: number;
}

export function sessionActivities(deps: ActivityDeps) {
  return { ...lookActivities(deps), ...verifyActivities(deps), ...moveActivities(deps), ...lossActivities(deps) };
}

function lookActivities(deps: ActivityDeps) {
  return {
    /** Two looks, a moment apart: a session whose received bytes grew is active. */
    listSessions(input: { swarm: string; endpoint: string }): Promise<SessionListing> {
      return asActivity(async () => {
        let first: readonly SessionState[];
        let second: readonly SessionState[];
        let clockMs: number;
        let ipsec: Pick<SessionListing, "ipsec">;
        try {
          const agent = await agentFor(deps, input.swarm, input.endpoint);
          const [sessions, heldBefore] = await Promise.all([agent.sessions(), agent.ipsecSessions()]);
          first = sessions;
          await pause(LIMITS.control.trafficSampleMs);
          [second, { clockMs }] = await Promise.all([agent.sessions(), agent.status()]);
          ipsec = heldBefore === undefined ? {} : ipsecListing(heldBefore, (await agent.ipsecSessions()) ?? []);
        } catch (thrown) {
          if (!isGone(thrown) || !(await isDead(deps, input.endpoint))) throw thrown;
          return { reachable: false, active: [], quiet: [] };
        }
        const receivedBefore = new Map(first.map((session) => [session.publicKey, session.rxBytes]));
        const live = liveAt(clockMs, second);
        const isActive = (session: SessionState) =>
          session.rxBytes > (receivedBefore.get(session.publicKey) ?? session.rxBytes);
        return {
          reachable: true,
          active: live.filter(isActive).map((session) => session.publicKey),
          quiet: live.filter((session) => !isActive(session)).map((session) => session.publicKey),
          ...ipsec,
        };
      });
    },

    /**
     * Which of the members that remain takes each of these sessions of `from`, or each that lives there where none are named.
     * CAPACITY_EXCEEDED when they cannot carry them, `capacitySessions` being what one carries at weight 100.
     */
    shareSessions(input: {
      swarm: string;
      from: string;
      publicKeys?: readonly string[];
      capacitySessions: number;
    }): Promise<readonly Share[]> {
      return asActivity(async () => {
        const [sessions, health] = await Promise.all([
          sessionsToMove(deps, input.swarm, input.from, input.publicKeys),
          deps.balancer.health(),
        ]);
        const named = new Map(sessions.map((session) => [session.publicKey, session.shadow]));
        const keys = input.publicKeys ?? liveAt(Date.now(), sessions).map(({ publicKey }) => publicKey);
        const wanted = keys.map((publicKey) => ({ publicKey, shadow: named.get(publicKey) }));
        const members = health.filter((member) => !member.ejected && !member.draining);
        return spreadSessions(input.from, wanted, members, input.capacitySessions);
      });
    },
  };
}

function ipsecListing(before: readonly HeldIpsec[], held: readonly HeldIpsec[]): Pick<SessionListing, "ipsec"> {
  const receivedBefore = new Map(before.map(({ session, received }) => [session, received]));
  const isActive = ({ session, received }: HeldIpsec) => received > (receivedBefore.get(session) ?? received);
  const [active, quiet] = [held.filter(isActive), held.filter((one) => !isActive(one))];
  const named = (sessions: readonly HeldIpsec[]) => sessions.map(({ session }) => session);
  return held.length === 0 ? {} : { ipsec: { active: named(active), quiet: named(quiet) } };
}

/** By the clock of the endpoint that holds them, or one that is no more than seconds away from it. */
function liveAt(clockMs: number, sessions: readonly SessionState[]): readonly SessionState[] {
  return sessions.filter((session) => clockMs - session.lastHandshakeMs < LIMITS.control.sessionAgeMsMax);
}

function verifyActivities(deps: ActivityDeps) {
  return {
    /**
     * Waits until each session has completed a handshake with `to` at `sinceMs` (by its clock) or later, and for the active ones until
     * data was received there. Answers what is missing after `timeoutMs`.
     */
    verifySessions(input: {
      swarm: string;
      to: string;
      publicKeys: readonly string[];
      active: readonly string[];
      sinceMs: number;
      timeoutMs: number;
    }): Promise<MoveCheck> {
      return asActivity(async () => {
        const active = new Set(input.active);
        const missing = new Set(input.publicKeys);
        const deadlineMs = Date.now() + input.timeoutMs;
        for (;;) {
          const held = await askMover(deps, input.swarm, input.to, (target) => target.sessions());
          for (const session of pick(held, [...missing])) {
            const shaken = session.lastHandshakeMs >= input.sinceMs;
            const bytesMin = active.has(session.publicKey) ? LIMITS.control.handshakeBytes + 1 : 1;
            if (shaken && session.rxBytes >= bytesMin) missing.delete(session.publicKey);
          }
          if (missing.size === 0 || Date.now() >= deadlineMs) break;
          await pause(LIMITS.control.verifyPollMs);
        }
        return { verified: input.publicKeys.filter((key) => !missing.has(key)), missing: [...missing] };
      });
    },
  };
}

function moveActivities(deps: ActivityDeps) {
  return {
    /** The target knows every client that may come, without holding a session of theirs. */
    prepareShadows(input: StepInput & { to: string }): Promise<void> {
      return asStep(deps, input, "shadow sessions", async () => {
        const [peers, revoked, agent] = await Promise.all([
          deps.store.peers(input.swarm),
          deps.store.revokedPeers(input.swarm),
          agentFor(deps, input.swarm, input.to),
        ]);
        // A ghost may still have clients that were put out while it slept.
        if (revoked.length > 0) await agent.revoke({ operation: input.operation, peers: revoked });
        await agent.prepare({ operation: input.operation, peers });
        await assertAnswersTo(deps, input.swarm, input.to, agent);
        const text = `${input.to} knows ${counted(peers.length, "client")}`;
        return { result: undefined, text, endpoint: input.to, details: { peers: peers.length } };
      });
    },

    /** `to` starts a handshake with each client. CLOCK_BEHIND when clients would take its handshakes for replays. */
    adoptSessions(input: StepInput & Move): Promise<void> {
      return asStep(deps, input, "adopt sessions", async () => {
        const sessions = await sessionsToMove(deps, input.swarm, input.from, input.publicKeys);
        const newestMs = Math.max(0, ...sessions.map((session) => session.lastHandshakeMs));
        const { clockMs } = await askMover(deps, input.swarm, input.to, (target) => target.status());
        if (clockMs < newestMs) {
          const detail = `it reads ${newestMs - clockMs} ms before the last handshake it would follow`;
          throw new ForeshiftError("CLOCK_BEHIND", { value: input.to, detail });
        }
        await askMover(deps, input.swarm, input.to, (target) => target.adopt({ operation: input.operation, sessions }));
        const text = `${input.to} started ${counted(sessions.length, "handshake")}`;
        return { result: undefined, text, endpoint: input.to, details: { from: input.from, sessions: sessions.length } };
      });
    },

    /** The endpoint forgets sessions that live elsewhere. An endpoint that does not answer has none to forget. */
    retireSessions(input: StepInput & { endpoint: string; publicKeys: readonly string[] }): Promise<void> {
      return asStep(deps, input, "retire sessions", async () => {
        const { endpoint, operation, publicKeys } = input;
        try {
          await (await agentFor(deps, input.swarm, endpoint)).retire({ operation, publicKeys });
        } catch (thrown) {
          if (!isGone(thrown)) throw thrown;
          return {
            result: undefined,
            text: `${endpoint} does not answer and keeps nothing`,
            endpoint,
            outcome: "already-done",
          };
        }
        const text = `${endpoint} forgot ${counted(publicKeys.length, "session")}`;
        return { result: undefined, text, endpoint, details: { sessions: publicKeys.length } };
      });
    },
  };
}

function lossActivities(deps: ActivityDeps) {
  return {
    /** `adopts`: the endpoint calls the clients that no other endpoint has taken. */
    recoverWireguard(input: StepInput & { endpoint: string; adopts: boolean }): Promise<void> {
      return asStep(deps, input, "restart WireGuard in place", async () => {
        // Sessions may have come back to it since it was decided; a restart would cut them off.
        if (await isTrusted(deps, input.endpoint)) {
          const text = `${input.endpoint} answers by itself, and the reflex sends it clients again; it is left alone`;
          return { result: undefined, text, endpoint: input.endpoint, outcome: "already-done" };
        }
        const { adopts, operation } = input;
        await (await agentFor(deps, input.swarm, input.endpoint)).recover({ operation, adopts });
        return { result: undefined, text: `WireGuard runs again on ${input.endpoint}`, endpoint: input.endpoint };
      });
    },

    /**
     * What became of the sessions of a lost endpoint: the reflex has moved them. With `adopts`, those that no other member holds are
     * adopted again by their shadow, or by the member with the fewest sessions. Without, the clients are given the time that stock
     * WireGuard needs to find out by itself.
     */
    confirmTakeover(input: StepInput & { endpoint: string; adopts: boolean }): Promise<LossReport> {
      return asStep(deps, input, "confirm the takeover", () => confirmTakeover(deps, input));
    },
  };
}

/** NOT_READY until it has every static key that clients may come by: it has followed the source of truth far enough. */
async function assertAnswersTo(deps: ActivityDeps, swarm: string, endpoint: string, agent: EndpointAgent): Promise<void> {
  const identities = await deps.store.identities(swarm);
  if (identities === undefined || (await answersTo(agent, identities))) return;
  throw new ForeshiftError("NOT_READY", { value: endpoint, detail: "it does not have the swarm's static key yet" });
}

type Confirmation = StepInput & { endpoint: string; adopts: boolean };

async function confirmTakeover(deps: ActivityDeps, input: Confirmation): Promise<StepReport<LossReport>> {
  const { endpoint, operation, swarm, adopts } = input;
  const healthy = (await deps.balancer.health()).filter((member) => !member.ejected && member.endpoint !== endpoint);
  const agents = new Map<string, EndpointAgent>();
  for (const member of healthy) agents.set(member.endpoint, await agentFor(deps, swarm, member.endpoint));
  const held = await sessionsLastHeldBy(deps, swarm, endpoint);
  const deadlineMs = Date.now() + (adopts ? 0 : LIMITS.control.clientsFindOutMs);
  let stranded = await strandedOf(held, agents.values());
  while (stranded.length > 0 && Date.now() < deadlineMs) {
    await pause(LIMITS.control.takeoverPollMs);
    stranded = await strandedOf(held, agents.values());
  }
  if (!adopts) return lossReport(endpoint, held.length, stranded.length, 0);
  const fewestFirst = [...healthy].sort((a, b) => a.sessions - b.sessions);
  const byTarget = new Map<string, SessionState[]>();
  for (const session of stranded) {
    const shadow = session.shadow !== undefined && agents.has(session.shadow) ? session.shadow : fewestFirst[0]?.endpoint;
    if (shadow !== undefined) byTarget.set(shadow, [...(byTarget.get(shadow) ?? []), session]);
  }
  for (const [target, sessions] of byTarget) {
    await agents.get(target)?.adopt({ operation: `${operation}:${target}`, sessions });
  }
  return lossReport(endpoint, held.length, stranded.length, stranded.length);
}

/** Of these sessions, those that none of the agents holds. */
async function strandedOf(held: readonly SessionState[], agents: Iterable<EndpointAgent>): Promise<readonly SessionState[]> {
  const alive = new Set<string>();
  for (const agent of agents) for (const session of await agent.sessions()) alive.add(session.publicKey);
  return held.filter((session) => !alive.has(session.publicKey));
}

function lossReport(endpoint: string, held: number, stranded: number, adopted: number): StepReport<LossReport> {
  const report = { held, alive: held - stranded, adopted };
  const rest = adopted === stranded ? `${adopted} called again` : `${stranded} left to the clients`;
  const text = `Of ${counted(held, "session")} of ${endpoint}, ${report.alive} found elsewhere; ${rest}`;
  return { result: report, text, endpoint, details: { ...report } };
}

/**
 * The store still names the lost endpoint until a shadow's agent has reported the session, and the reflex until it has moved it:
 * whoever names it counts.
 */
async function sessionsLastHeldBy(deps: ActivityDeps, swarm: string, endpoint: string): Promise<readonly SessionState[]> {
  const [stored, steered] = await Promise.all([deps.store.sessions(swarm), deps.balancer.sessions()]);
  const held = new Map<string, SessionState>();
  for (const session of [...steered, ...stored]) {
    if (session.endpoint === endpoint) held.set(session.publicKey, session);
  }
  return [...held.values()];
}

/** A member that has answered since it was ejected, if it ever was. */
async function isTrusted(deps: ActivityDeps, endpoint: string): Promise<boolean> {
  const probed = (await deps.balancer.health()).find((member) => member.endpoint === endpoint);
  return probed !== undefined && !probed.ejected && probed.inner.missesInARow === 0;
}

function pick(sessions: readonly SessionState[], publicKeys: readonly string[]): readonly SessionState[] {
  const wanted = new Set(publicKeys);
  return sessions.filter((session) => wanted.has(session.publicKey));
}
