/**
 * Steps on the sessions of endpoints, through their agents. Histories carry public keys only; what belongs to a session is looked up
 * where it lives.
 */
import type { EndpointAgent } from "../drivers/ports.ts";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import type { SessionState } from "../models/session.ts";
import { type ActivityDeps, asActivity, asStep, pause, type StepInput, type StepReport } from "./deps.ts";
import { agentFor } from "./links.ts";

export interface SessionListing {
  /** False when the endpoint is dead: its agent does not answer, and the reflex has ejected it or never knew it. */
  readonly reachable: boolean;
  /** Public keys of live sessions that carry packets from the client now. */
  readonly active: readonly string[];
  /** Public keys of live sessions that were silent while looked at. */
  readonly quiet: readonly string[];
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
  return { ...lookActivities(deps), ...moveActivities(deps), ...lossActivities(deps) };
}

function lookActivities(deps: ActivityDeps) {
  return {
    /** Two looks, a moment apart: a session whose received bytes grew is active. */
    listSessions(input: { swarm: string; endpoint: string }): Promise<SessionListing> {
      return asActivity(async () => {
        let first: readonly SessionState[];
        let second: readonly SessionState[];
        let clockMs: number;
        try {
          const agent = await agentFor(deps, input.swarm, input.endpoint);
          first = await agent.sessions();
          await pause(LIMITS.control.trafficSampleMs);
          [second, { clockMs }] = await Promise.all([agent.sessions(), agent.status()]);
        } catch (thrown) {
          // An agent alone may be away while the data path is fine; only the reflex's word makes an endpoint dead.
          if (!isGone(thrown) || !(await isDead(deps, input.endpoint))) throw thrown;
          return { reachable: false, active: [], quiet: [] };
        }
        const receivedBefore = new Map(first.map((session) => [session.publicKey, session.rxBytes]));
        const live = second.filter((session) => clockMs - session.lastHandshakeMs < LIMITS.control.sessionAgeMsMax);
        const isActive = (session: SessionState) =>
          session.rxBytes > (receivedBefore.get(session.publicKey) ?? session.rxBytes);
        return {
          reachable: true,
          active: live.filter(isActive).map((session) => session.publicKey),
          quiet: live.filter((session) => !isActive(session)).map((session) => session.publicKey),
        };
      });
    },

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
        const agent = await agentFor(deps, input.swarm, input.to);
        const active = new Set(input.active);
        const missing = new Set(input.publicKeys);
        const deadlineMs = Date.now() + input.timeoutMs;
        for (;;) {
          for (const session of pick(await agent.sessions(), [...missing])) {
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
        const [peers, agent] = await Promise.all([deps.store.peers(input.swarm), agentFor(deps, input.swarm, input.to)]);
        await agent.prepare({ operation: input.operation, peers });
        const text = `${input.to} knows ${peers.length} clients`;
        return { result: undefined, text, endpoint: input.to, details: { peers: peers.length } };
      });
    },

    /** `to` starts a handshake with each client. CLOCK_BEHIND when clients would take its handshakes for replays. */
    adoptSessions(input: StepInput & Move): Promise<void> {
      return asStep(deps, input, "adopt sessions", async () => {
        const target = await agentFor(deps, input.swarm, input.to);
        const source = await agentFor(deps, input.swarm, input.from);
        const sessions = pick(await source.sessions(), input.publicKeys);
        const newestMs = Math.max(0, ...sessions.map((session) => session.lastHandshakeMs));
        const { clockMs } = await target.status();
        if (clockMs < newestMs) {
          const detail = `it reads ${newestMs - clockMs} ms before the last handshake it would follow`;
          throw new ForeshiftError("CLOCK_BEHIND", { value: input.to, detail });
        }
        await target.adopt({ operation: input.operation, sessions });
        const text = `${input.to} started ${sessions.length} handshakes`;
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
        const text = `${endpoint} forgot ${publicKeys.length} sessions`;
        return { result: undefined, text, endpoint, details: { sessions: publicKeys.length } };
      });
    },
  };
}

function lossActivities(deps: ActivityDeps) {
  return {
    recoverWireguard(input: StepInput & { endpoint: string }): Promise<void> {
      return asStep(deps, input, "restart WireGuard in place", async () => {
        // Sessions may have come back to it since it was decided; a restart would cut them off.
        if (await isTrusted(deps, input.endpoint)) {
          const text = `${input.endpoint} answers by itself, and the reflex sends it clients again; it is left alone`;
          return { result: undefined, text, endpoint: input.endpoint, outcome: "already-done" };
        }
        await (await agentFor(deps, input.swarm, input.endpoint)).recover({ operation: input.operation });
        return { result: undefined, text: `WireGuard runs again on ${input.endpoint}`, endpoint: input.endpoint };
      });
    },

    /**
     * What became of the sessions of a lost endpoint: the reflex has moved them; those that no other member holds are adopted again by
     * their shadow, or by the member with the fewest sessions.
     */
    confirmTakeover(input: StepInput & { endpoint: string }): Promise<LossReport> {
      return asStep(deps, input, "confirm the takeover", () => confirmTakeover(deps, input));
    },
  };
}

async function confirmTakeover(deps: ActivityDeps, input: StepInput & { endpoint: string }): Promise<StepReport<LossReport>> {
  const { endpoint, operation, swarm } = input;
  const healthy = (await deps.balancer.health()).filter((member) => !member.ejected && member.endpoint !== endpoint);
  const agents = new Map<string, EndpointAgent>();
  for (const member of healthy) agents.set(member.endpoint, await agentFor(deps, swarm, member.endpoint));
  const held = await sessionsLastHeldBy(deps, swarm, endpoint);
  const aliveElsewhere = new Set<string>();
  for (const agent of agents.values()) {
    for (const session of await agent.sessions()) aliveElsewhere.add(session.publicKey);
  }
  const stranded = held.filter((session) => !aliveElsewhere.has(session.publicKey));
  const fewestFirst = [...healthy].sort((a, b) => a.sessions - b.sessions);
  const byTarget = new Map<string, SessionState[]>();
  for (const session of stranded) {
    const shadow = session.shadow !== undefined && agents.has(session.shadow) ? session.shadow : fewestFirst[0]?.endpoint;
    if (shadow !== undefined) byTarget.set(shadow, [...(byTarget.get(shadow) ?? []), session]);
  }
  for (const [target, sessions] of byTarget) {
    await agents.get(target)?.adopt({ operation: `${operation}:${target}`, sessions });
  }
  const report = { held: held.length, alive: held.length - stranded.length, adopted: stranded.length };
  const text = `Of ${report.held} sessions of ${endpoint}, ${report.alive} live elsewhere; ${report.adopted} were called again`;
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

async function isDead(deps: ActivityDeps, endpoint: string): Promise<boolean> {
  const health = await deps.balancer.health();
  return health.find((member) => member.endpoint === endpoint)?.ejected ?? true;
}

function pick(sessions: readonly SessionState[], publicKeys: readonly string[]): readonly SessionState[] {
  const wanted = new Set(publicKeys);
  return sessions.filter((session) => wanted.has(session.publicKey));
}

function isGone(thrown: unknown): boolean {
  return thrown instanceof ForeshiftError && (thrown.code === "UNREACHABLE" || thrown.code === "UNKNOWN_ENDPOINT");
}
