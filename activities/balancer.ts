/**
 * Steps on the balancer. Each reads the desired state, changes it, and applies it one epoch higher; a step that finds its change
 * made already applies nothing.
 */
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";
import type { SessionState } from "../models/session.ts";
import { portOfSlot, type StaticIdentity, servingOf } from "../models/static-identities.ts";
import { REVOKED_KEPT_MAX, type SteeringState } from "../models/steering.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { type ActivityDeps, asActivity, asFinish, asStep, pause, type StepInput } from "./deps.ts";
import { withoutIpsecPins } from "./ipsec-pins.ts";
import { askMover, linkOf, sessionsToMove } from "./links.ts";

export interface MemberStatus {
  readonly member: boolean;
  readonly weight: number;
  readonly draining: boolean;
  readonly ejected: boolean;
}

export interface OnEndpoint extends StepInput {
  readonly endpoint: string;
}

type Change = (state: SteeringState) => SteeringState;

export function balancerActivities(deps: ActivityDeps) {
  return { ...memberActivities(deps), ...leavingActivities(deps), ...moveActivities(deps), ...probeActivities(deps) };
}

function memberActivities(deps: ActivityDeps) {
  return {
    /** The swarm's table as its file states it; made empty when the balancer has none. */
    applySteeringPolicy(input: StepInput & { spec: SwarmSpec }): Promise<void> {
      return asStep(deps, input, "state the steering policy", async () => {
        const stated = { ...policyOf(input.spec), ...(await keyInForce(deps, input.spec)) };
        const changed = await changeSteering(deps, input.operation, (state) => ({ ...state, ...stated }), input.spec);
        return { result: undefined, text: "The balancer holds the swarm's policy", outcome: outcomeOf(changed) };
      });
    },

    /** Adds the endpoint with this weight; 0 so that it is probed before it serves. */
    joinMember(input: OnEndpoint & { weight: number }): Promise<void> {
      return asStep(deps, input, "join the balancer", async () => {
        const link = await linkOf(deps, input.swarm, input.endpoint);
        const revoked = await deps.store.revokedEndpoints(input.swarm);
        if (revoked.includes(input.endpoint))
          throw new ForeshiftError("ENDPOINT_REVOKED", { value: input.endpoint, detail: "it does not join" });
        const changed = await changeSteering(deps, input.operation, (state) => {
          if (state.members.some((member) => member.endpoint === input.endpoint)) return state;
          const member = { endpoint: input.endpoint, weight: input.weight, draining: false, link };
          return { ...withRevoked(state, revoked), members: [...state.members, member] };
        });
        const text = `${input.endpoint} is a member with weight ${input.weight}`;
        return { result: undefined, text, endpoint: input.endpoint, outcome: outcomeOf(changed) };
      });
    },

    setWeight(input: OnEndpoint & { weight: number; draining: boolean; cause?: string | undefined }): Promise<void> {
      const { endpoint, weight, draining, cause } = input;
      return asStep(deps, input, draining ? "drain" : "set weight", async () => {
        const changed = await changeSteering(deps, input.operation, (state) => {
          if (!state.members.some((member) => member.endpoint === endpoint)) {
            throw new ForeshiftError("UNKNOWN_ENDPOINT", { value: endpoint });
          }
          return {
            ...state,
            members: state.members.map((member) => (member.endpoint === endpoint ? { ...member, weight, draining } : member)),
          };
        });
        const text = draining ? `${endpoint} takes no new sessions` : `${endpoint} has weight ${weight}`;
        return { result: undefined, text, endpoint, outcome: outcomeOf(changed), details: { weight, draining, cause } };
      });
    },
  };
}

function leavingActivities(deps: ActivityDeps) {
  return {
    /** Members that are revoked lose their sessions to their shadows and never come back. Answers once it is out, and after how long. */
    expelMember(input: OnEndpoint): Promise<{ outAfterMs: number | undefined }> {
      return asFinish(deps, input, "put out for good", async () => {
        const { endpoint, operation, swarm } = input;
        const sinceMs = performance.now();
        const revoked = await deps.store.revokedEndpoints(swarm);
        const changed = await changeSteering(deps, operation, (state) => withRevoked(state, [...revoked, endpoint]));
        for (;;) {
          const health = await deps.balancer.health();
          const isOut = health.every((member) => member.endpoint !== endpoint || member.ejected);
          const passedMs = performance.now() - sinceMs;
          const outAfterMs = isOut ? passedMs : undefined;
          const text = isOut ? `${endpoint} carries nothing any more` : `${endpoint} is to carry nothing any more`;
          if (isOut || passedMs > KEY_LIMITS.revokeLookMs)
            return { result: { outAfterMs }, text, endpoint, outcome: outcomeOf(changed) };
          await pause(KEY_LIMITS.revokePollMs);
        }
      });
    },

    /** Takes the endpoint out, with the pins and return routes that lead to it. */
    removeMember(input: OnEndpoint): Promise<void> {
      return asStep(deps, input, "leave the balancer", async () => {
        const changed = await changeSteering(deps, input.operation, (state) => ({
          ...withoutIpsecPins(state, ({ endpoint, from }) => endpoint === input.endpoint || from === input.endpoint),
          members: state.members.filter((member) => member.endpoint !== input.endpoint),
          pins: state.pins.filter((pin) => pin.endpoint !== input.endpoint),
          returnRoutes: state.returnRoutes.filter((route) => route.endpoint !== input.endpoint),
        }));
        const text = `${input.endpoint} is no member any more`;
        return { result: undefined, text, endpoint: input.endpoint, outcome: outcomeOf(changed) };
      });
    },
  };
}

function moveActivities(deps: ActivityDeps) {
  return {
    /**
     * Sends the handshakes of these sessions, which live on `from`, to `to`. Answers the time by `to`'s clock, before any handshake
     * from there: what later counts as adopted.
     */
    pinSessions(input: StepInput & { from: string; to: string; publicKeys: readonly string[] }): Promise<{ sinceMs: number }> {
      return asStep(deps, input, "pin sessions", async () => {
        const [{ clockMs }, sessions] = await Promise.all([
          askMover(deps, input.swarm, input.to, (target) => target.status()),
          sessionsToMove(deps, input.swarm, input.from, input.publicKeys),
        ]);
        const clients = new Set(sessions.map((session) => session.outerAddress));
        const changed = await changeSteering(deps, input.operation, (state) => ({
          ...state,
          pins: [
            ...state.pins.filter((pin) => !clients.has(pin.client)),
            ...[...clients].map((client) => ({ client, endpoint: input.to })),
          ],
        }));
        const text = `The handshakes of ${counted(clients.size, "client")} go to ${input.to}`;
        return { result: { sinceMs: clockMs }, text, endpoint: input.from, outcome: outcomeOf(changed) };
      });
    },

    /** Packets to these sessions' inner addresses return through `to`. */
    routeBack(input: StepInput & { to: string; publicKeys: readonly string[] }): Promise<void> {
      return asStep(deps, input, "move return routes", async () => {
        const wanted = new Set(input.publicKeys);
        const held = await askMover(deps, input.swarm, input.to, (target) => target.sessions());
        const sessions = held.filter((session) => wanted.has(session.publicKey));
        const addresses = new Set(sessions.flatMap((session) => session.innerAddresses));
        const changed = await changeSteering(deps, input.operation, (state) => ({
          ...state,
          returnRoutes: [
            ...state.returnRoutes.filter((route) => !addresses.has(route.innerAddress)),
            ...[...addresses].map((innerAddress) => ({ innerAddress, endpoint: input.to })),
          ],
        }));
        const text = `The way back of ${counted(addresses.size, "client address")} leads through ${input.to}`;
        return { result: undefined, text, endpoint: input.to, outcome: outcomeOf(changed) };
      });
    },

    /**
     * The move is over: what the balancer and the router have learned by now carries on without pins and explicit routes. Those of a
     * client that another endpoint than these two holds belong to another move, and stay; unless it is one of `publicKeys`, which this
     * move has pinned, and whose sessions may have been taken over elsewhere on the way.
     */
    unpinSessions(input: StepInput & { from: string; to: string; publicKeys?: readonly string[] }): Promise<void> {
      return asStep(deps, input, "unpin sessions", async () => {
        const { from, to, publicKeys } = input;
        const own = new Set(publicKeys);
        const isAnothers = ({ endpoint, publicKey }: SessionState) =>
          endpoint !== from && endpoint !== to && !own.has(publicKey);
        const others = (await deps.balancer.sessions()).filter(isAnothers);
        const clients = new Set(others.map((session) => session.outerAddress));
        const addresses = new Set(others.flatMap((session) => session.innerAddresses));
        const changed = await changeSteering(deps, input.operation, (state) => ({
          ...state,
          pins: state.pins.filter((pin) => pin.endpoint !== to || clients.has(pin.client)),
          returnRoutes: state.returnRoutes.filter((route) => route.endpoint !== to || addresses.has(route.innerAddress)),
        }));
        const text = `No pins from ${from} to ${to} are left`;
        return { result: undefined, text, endpoint: to, outcome: outcomeOf(changed) };
      });
    },
  };
}

function probeActivities(deps: ActivityDeps) {
  return {
    memberStatus(input: { endpoint: string }): Promise<MemberStatus> {
      return asActivity(async () => {
        const [desired, health] = await Promise.all([deps.balancer.desired(), deps.balancer.health()]);
        const member = desired?.members.find((candidate) => candidate.endpoint === input.endpoint);
        const probed = health.find((candidate) => candidate.endpoint === input.endpoint);
        return {
          member: member !== undefined,
          weight: member?.weight ?? 0,
          draining: member?.draining ?? false,
          ejected: probed?.ejected ?? false,
        };
      });
    },

    /**
     * Waits until the endpoint answers through its tunnel `answersMin` times in a row. Answers false when it has not within
     * `timeoutMs`; the caller decides what that means.
     */
    awaitInnerAnswer(input: { endpoint: string; answersMin: number; timeoutMs: number }): Promise<boolean> {
      return asActivity(async () => {
        const deadlineMs = Date.now() + input.timeoutMs;
        for (;;) {
          const health = await deps.balancer.health();
          const probed = health.find((candidate) => candidate.endpoint === input.endpoint);
          if ((probed?.inner.answersInARow ?? 0) >= input.answersMin) return true;
          if (Date.now() >= deadlineMs) return false;
          await pause(LIMITS.control.probePollMs);
        }
      });
    },
  };
}

/** The key that serves: the swarm file's, until another one has taken its place. */
async function keyInForce(deps: ActivityDeps, spec: SwarmSpec): Promise<Pick<SteeringState, "swarmPublicKey" | "swarmPort">> {
  const identities = await deps.store.identities(spec.name);
  return identities === undefined ? { swarmPublicKey: spec.key.publicKey } : probedBy(servingOf(identities), spec.vip.port);
}

/** What makes the reflex probe by this key. */
export function probedBy(
  { publicKey, slot }: StaticIdentity,
  port: number,
): Pick<SteeringState, "swarmPublicKey" | "swarmPort"> {
  return { swarmPublicKey: publicKey, swarmPort: portOfSlot(port, slot) };
}

/** Applies a change of the desired state; false when there was nothing to change. The change may run more than once. */
export async function changeSteering(
  deps: ActivityDeps,
  operation: string,
  change: Change,
  bootstrap?: SwarmSpec,
): Promise<boolean> {
  for (let attempt = 1; ; attempt += 1) {
    const held = (await deps.balancer.desired()) ?? (bootstrap === undefined ? undefined : emptyState(bootstrap));
    if (held === undefined)
      throw new ForeshiftError("NOT_READY", { value: "balancer", detail: "it holds no desired state yet" });
    const wanted = { ...change(held), epoch: held.epoch + 1 };
    if (held.epoch > 0 && sameSteering(held, wanted)) return false;
    try {
      await deps.balancer.apply({ ...wanted, operation });
      return true;
    } catch (thrown) {
      const raced = thrown instanceof ForeshiftError && thrown.code === "STALE_EPOCH";
      if (!raced || attempt >= LIMITS.control.staleEpochAttemptsMax) throw thrown;
      await pause(Math.random() * LIMITS.control.probePollMs);
    }
  }
}

/** In the order in which they were revoked; a balancer that has lost its disk learns of the older ones again. */
function withRevoked(state: SteeringState, revoked: readonly string[]): SteeringState {
  const known = [...new Set([...revoked, ...(state.revoked ?? [])])].slice(-REVOKED_KEPT_MAX);
  return known.length === 0 ? state : { ...state, revoked: known };
}

function sameSteering(held: SteeringState, wanted: SteeringState): boolean {
  return JSON.stringify({ ...held, epoch: 0 }) === JSON.stringify({ ...wanted, epoch: 0 });
}

function policyOf(spec: SwarmSpec): Omit<SteeringState, "epoch" | "members" | "pins" | "returnRoutes"> {
  return {
    swarm: spec.name,
    vip: spec.vip,
    algorithm: spec.algorithm,
    swarmPublicKey: spec.key.publicKey,
    outlier: spec.outlier,
    capacitySessions: spec.endpoints.capacitySessions,
  };
}

function emptyState(spec: SwarmSpec): SteeringState {
  return { ...policyOf(spec), epoch: 0, members: [], pins: [], returnRoutes: [] };
}

export function outcomeOf(changed: boolean): "done" | "already-done" {
  return changed ? "done" : "already-done";
}
