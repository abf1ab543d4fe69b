/**
 * Steps on the IPsec sessions of endpoints, moved by plan: the endpoint that takes one over makes an IKE SA of its own with the client, and the one
 * before says goodbye once packets come by it. Histories carry the IKE SAs' SPIs alone; what belongs to a session is looked up where it lives.
 */
import { ForeshiftError } from "../models/errors.ts";
import type { AdoptedIpsec, HeldIpsec } from "../models/ipsec/wire.ts";
import { LIMITS } from "../models/limits.ts";
import { IPSEC_LIMITS } from "../models/limits-ipsec.ts";
import { spreadSessions } from "../models/spread.ts";
import { counted } from "../models/words.ts";
import { changeSteering, outcomeOf } from "./balancer.ts";
import { type ActivityDeps, asActivity, asStep, pause, type StepInput } from "./deps.ts";
import { withIpsecPins, withoutIpsecPins } from "./ipsec-pins.ts";
import { agentFor, askMover, isGone } from "./links.ts";

/** What one endpoint takes. */
export interface IpsecShare {
  readonly to: string;
  readonly sessions: readonly string[];
}

interface IpsecMove {
  readonly from: string;
  readonly to: string;
  readonly sessions: readonly string[];
}

interface IpsecMoveCheck {
  readonly verified: readonly string[];
  /** They send where they are, and nothing came by new SAs, which were given up again. */
  readonly silent: readonly string[];
  /** Their clients cannot be called; they live where they did. */
  readonly missing: readonly string[];
}

export function ipsecPinActivities(deps: ActivityDeps) {
  return {
    /** What these clients begin anew goes to `to`; the sessions that they have stay where they live. */
    pinIpsec(input: StepInput & IpsecMove): Promise<void> {
      return asStep(deps, input, "pin IPsec clients", async () => {
        const { from, to: endpoint } = input;
        const clients = new Set((await heldBy(deps, input.swarm, from, input.sessions)).map(({ client }) => client));
        const pins = [...clients].map((client) => ({ client, endpoint, from }));
        const changed = await changeSteering(deps, input.operation, (state) => withIpsecPins(state, pins));
        const text = `New IKE SAs of ${counted(clients.size, "client")} go to ${endpoint}`;
        return { result: undefined, text, endpoint: from, outcome: outcomeOf(changed) };
      });
    },

    /** The move is over: clients go on where the balancer knows them to be by now. */
    unpinIpsec(input: StepInput & Pick<IpsecMove, "from" | "to">): Promise<void> {
      return asStep(deps, input, "unpin IPsec clients", async () => {
        const { from, to } = input;
        const isOver = (pin: { readonly endpoint: string; readonly from: string }) => pin.endpoint === to && pin.from === from;
        const changed = await changeSteering(deps, input.operation, (state) => withoutIpsecPins(state, isOver));
        const text = `No IPsec pins from ${from} to ${to} are left`;
        return { result: undefined, text, endpoint: to, outcome: outcomeOf(changed) };
      });
    },
  };
}

export function ipsecMoveActivities(deps: ActivityDeps) {
  return {
    /**
     * Which endpoint takes each of these IPsec sessions of `from`: `prefers` where that is a gateway, else each its shadow while that has room.
     * Nobody takes any where the balancer steers no IPsec. CAPACITY_EXCEEDED when the other gateways cannot carry them, `capacitySessions` being
     * what one carries at weight 100.
     */
    shareIpsec(input: {
      swarm: string;
      from: string;
      sessions: readonly string[];
      prefers?: string;
      capacitySessions: number;
    }): Promise<readonly IpsecShare[]> {
      return asActivity(async () => {
        const { swarm, from, prefers, sessions, capacitySessions } = input;
        const [held, health] = await Promise.all([heldBy(deps, swarm, from, sessions), deps.balancer.health()]);
        // A balancer that steers no IPsec brings no client anywhere else.
        if (health.find(({ endpoint }) => endpoint === from)?.ipsecSessions === undefined) return [];
        const gateways = health.flatMap(({ ejected, ipsecSessions, ...member }) =>
          ejected || ipsecSessions === undefined ? [] : [{ ...member, sessions: ipsecSessions }],
        );
        if (prefers !== undefined && gateways.some(({ endpoint }) => endpoint === prefers))
          return [{ to: prefers, sessions: held.map(({ session }) => session) }];
        const wanted = held.map(({ session, shadow }) => ({ publicKey: session, shadow }));
        const others = gateways.filter(({ draining }) => !draining);
        return spreadSessions(from, wanted, others, capacitySessions).map(({ to, publicKeys }) => ({
          to,
          sessions: publicKeys,
        }));
      });
    },

    /**
     * `to` makes an IKE SA of its own with each client, which is verified when its SAs are there and, of the `active` ones, packets came by them
     * within `timeoutMs` from then on.
     */
    adoptIpsec(input: StepInput & IpsecMove & { active: readonly string[]; timeoutMs: number }): Promise<IpsecMoveCheck> {
      return asStep(deps, input, "adopt IPsec sessions", async () => {
        const held = await heldBy(deps, input.swarm, input.from, input.sessions);
        const outcomes = await adopted(deps, input, held);
        const active = new Set(input.active);
        const silent = outcomes.filter(
          ({ session, state, received }) => state !== "failed" && active.has(session) && !received,
        );
        await giveUp(deps, input, silent);
        const isVerified = (outcome: AdoptedIpsec) => outcome.state === "up" && !silent.includes(outcome);
        const verified = outcomes.filter(isVerified).map(({ session }) => session);
        const found = new Set([...verified, ...silent.map(({ session }) => session)]);
        const result = {
          verified,
          silent: silent.map(({ session }) => session),
          missing: input.sessions.filter((session) => !found.has(session)),
        };
        const why = new Set(outcomes.flatMap(({ detail }) => (detail === undefined ? [] : [detail])));
        const rest = [...why].slice(0, REASONS_TOLD).map((reason) => `; ${reason}`);
        const text = `${input.to} has IKE SAs of its own with ${verified.length} of ${counted(input.sessions.length, "client")}${rest.join("")}`;
        return { result, text, endpoint: input.to, details: { from: input.from, sessions: verified.length } };
      });
    },

    /** The endpoint says goodbye to clients whose sessions live elsewhere. Answers once the balancer knows; one that does not answer has none. */
    retireIpsec(input: StepInput & { endpoint: string; sessions: readonly string[] }): Promise<void> {
      return asStep(deps, input, "retire IPsec sessions", async () => {
        const { endpoint, operation, sessions } = input;
        let left: number;
        try {
          const agent = await agentFor(deps, input.swarm, endpoint);
          await agent.letGoIpsec({ operation, sessions });
          left = ((await agent.ipsecSessions()) ?? []).length;
        } catch (thrown) {
          if (!isGone(thrown)) throw thrown;
          const text = `${endpoint} does not answer and keeps nothing`;
          return { result: undefined, text, endpoint, outcome: "already-done" };
        }
        await assertForgotten(deps, endpoint, left);
        const text = `${endpoint} said goodbye to ${counted(sessions.length, "IPsec session")}`;
        return { result: undefined, text, endpoint, details: { sessions: sessions.length } };
      });
    },
  };
}

const REASONS_TOLD = 2;

async function heldBy(
  deps: ActivityDeps,
  swarm: string,
  endpoint: string,
  sessions: readonly string[],
): Promise<readonly HeldIpsec[]> {
  const wanted = new Set(sessions);
  const held = (await askMover(deps, swarm, endpoint, (agent) => agent.ipsecSessions())) ?? [];
  return held.filter(({ session }) => wanted.has(session));
}

type Adoption = StepInput & IpsecMove & { active: readonly string[]; timeoutMs: number };

/**
 * How far it has come when all have, or nothing more is to be expected. A client that is being called is waited for until strongSwan gives it up,
 * for it goes on meanwhile by what it has; one that has its SAs and sent before is to send by them within `timeoutMs`.
 */
async function adopted(deps: ActivityDeps, input: Adoption, held: readonly HeldIpsec[]): Promise<readonly AdoptedIpsec[]> {
  const { operation, swarm, to, timeoutMs } = input;
  const active = new Set(input.active);
  const upSinceMs = new Map<string, number>();
  let states = "";
  let changedAtMs = Date.now();
  for (;;) {
    const outcomes = await askMover(deps, swarm, to, (agent) => agent.adoptIpsec({ operation, sessions: held }));
    const nowMs = Date.now();
    const seen = outcomes.map(({ state }) => state).join();
    if (seen !== states) changedAtMs = nowMs;
    states = seen;
    const isOver = ({ session, state, received }: AdoptedIpsec) => {
      if (state === "failed") return true;
      if (state === "begun") return nowMs - changedAtMs >= IPSEC_LIMITS.adoptPatienceMs;
      const sinceMs = upSinceMs.get(session) ?? nowMs;
      upSinceMs.set(session, sinceMs);
      return received || !active.has(session) || nowMs - sinceMs >= timeoutMs;
    };
    // Each is looked at, so that it is known since when it is up.
    if (outcomes.filter(isOver).length === outcomes.length) return outcomes;
    await pause(IPSEC_LIMITS.adoptPollMs);
  }
}

/** Their clients go on by what they had: the SAs that nothing comes by are taken from them again. */
async function giveUp(deps: ActivityDeps, input: StepInput & IpsecMove, silent: readonly AdoptedIpsec[]): Promise<void> {
  const sessions = silent.flatMap(({ made }) => (made === undefined ? [] : [made]));
  if (sessions.length === 0) return;
  const operation = `${input.operation}:give-up`;
  await askMover(deps, input.swarm, input.to, (agent) => agent.letGoIpsec({ operation, sessions }));
}

/** NOT_READY while the balancer still believes that more sessions live there than do: it would have others take them over. */
async function assertForgotten(deps: ActivityDeps, endpoint: string, left: number): Promise<void> {
  const deadlineMs = Date.now() + IPSEC_LIMITS.letGoKnownMs;
  for (;;) {
    const member = (await deps.balancer.health()).find((one) => one.endpoint === endpoint);
    if ((member?.ipsecSessions ?? 0) <= left) return;
    if (Date.now() >= deadlineMs)
      throw new ForeshiftError("NOT_READY", {
        value: endpoint,
        detail: "the balancer has not heard that its IPsec sessions ended",
      });
    await pause(LIMITS.control.verifyPollMs);
  }
}
