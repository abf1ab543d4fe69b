/**
 * Steps of a rotation of the swarm's static key: a second key beside the first at every endpoint, clients moved to it by the hook that
 * reaches them, and the first one given up.
 */
import type { IdentityOrder, Provisioned } from "../drivers/key-ports.ts";
import { ForeshiftError } from "../models/errors.ts";
import { refName } from "../models/keys.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";
import type { SecretRef } from "../models/session.ts";
import { firstIdentity, portOfSlot, type StaticIdentity, servingOf } from "../models/static-identities.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { changeSteering, probedBy } from "./balancer.ts";
import { type ActivityDeps, asActivity, asFinish, asStep, pause, type StepInput } from "./deps.ts";
import { answersTo, memberAgents, onEveryMember, receivedOnMembers } from "./key-members.ts";

export interface IdentityLook {
  readonly identities: readonly StaticIdentity[];
  /** Newest version at the path of the key that serves. */
  readonly newest: number;
}

export interface ClientStep extends StepInput {
  readonly publicKeys: readonly string[];
  readonly identity: StaticIdentity;
}

/** A client's session by one static key. */
export interface IdentityTraffic {
  readonly publicKey: string;
  readonly rxBytes: number;
}

export function staticKeyActivities(deps: ActivityDeps) {
  return { ...endpointSteps(deps), ...clientSteps(deps), ...endSteps(deps) };
}

function endpointSteps(deps: ActivityDeps) {
  return {
    lookAtIdentities(input: { swarm: string }): Promise<IdentityLook> {
      return asActivity(async () => {
        const identities = (await deps.store.identities(input.swarm)) ?? [firstIdentity((await specOf(deps, input.swarm)).key)];
        const { path } = servingOf(identities).secret;
        return { identities, newest: await deps.keyVault.newestVersion({ path }) };
      });
    },

    issueStaticKey(input: StepInput & { path: string; after: number }): Promise<Pick<StaticIdentity, "publicKey" | "secret">> {
      return asStep(deps, input, "issue a static key", async () => {
        const { after, path } = input;
        const issued = await deps.keyVault.issueStaticKey({ path, after });
        const version = refName(issued.secret);
        return { result: issued, text: `${version} issued`, details: { version }, made: version };
      });
    },

    /** Every endpoint that serves answers to these keys, and to no other; those that come back follow the store. */
    stateIdentities(input: StepInput & { identities: readonly StaticIdentity[] }): Promise<void> {
      return asFinish(deps, input, "state static keys", async () => {
        const { identities, swarm } = input;
        await deps.store.stateIdentities({ swarm, identities });
        const members = await untilAllAnswerTo(deps, identities);
        const names = identities.map(({ secret, state }) => `${refName(secret)} (${state})`);
        const text = `${counted(members, "endpoint")} answers to ${names.join(" and ")}`;
        return { result: undefined, text, details: { identities: names } };
      });
    },

    /** The reflex tries endpoints by the key that serves. */
    probeByServing(input: StepInput & { identities: readonly StaticIdentity[] }): Promise<void> {
      return asFinish(deps, input, "probe by the static key that serves", async () => {
        const serving = servingOf(input.identities);
        await changeSteering(deps, input.operation, (state) => ({ ...state, ...probedBy(serving, state.vip.port) }));
        return { result: undefined, text: `Endpoints are probed by ${refName(serving.secret)}` };
      });
    },
  };
}

function clientSteps(deps: ActivityDeps) {
  type Hook = (order: IdentityOrder) => Promise<Provisioned>;
  const ask = async (input: ClientStep, hook: Hook): Promise<Provisioned> => {
    const { identity, operation, publicKeys, swarm } = input;
    if (publicKeys.length === 0) return { taken: [], refused: [] };
    const { vip } = await specOf(deps, swarm);
    const end = { publicKey: identity.publicKey, port: portOfSlot(vip.port, identity.slot) };
    return await hook({ operation, swarm, publicKeys, identity: end });
  };
  const report = (told: Provisioned, done: string) => ({
    result: told,
    text: `${counted(told.taken.length, "client")} ${done}, ${told.refused.length} did not`,
    details: { clients: told.taken.length, refused: told.refused.length },
  });
  return {
    bringIdentity(input: ClientStep): Promise<Provisioned> {
      return asStep(deps, input, "bring a static key to clients", async () =>
        report(await ask(input, (order) => deps.provisioner.bringIdentity(order)), "has a way to it"),
      );
    },

    useIdentity(input: ClientStep): Promise<Provisioned> {
      return asFinish(deps, input, "move clients to a static key", async () =>
        report(await ask(input, (order) => deps.provisioner.useIdentity(order)), "sends by it"),
      );
    },

    dropIdentity(input: ClientStep): Promise<Provisioned> {
      return asFinish(deps, input, "take a static key from clients", async () => {
        // By then endpoints and router send by the other way: they were told of the handshakes that moved the clients.
        await pause(KEY_LIMITS.identityOverlapMs);
        return report(await ask(input, (order) => deps.provisioner.dropIdentity(order)), "has no way to it any more");
      });
    },

    /** Waits until each of these clients has a session by this key, and more came by it than before (`before`: absent is anything). */
    awaitByIdentity(input: {
      swarm: string;
      publicKeys: readonly string[];
      identity: StaticIdentity;
      before: readonly IdentityTraffic[] | undefined;
      timeoutMs: number;
    }): Promise<readonly IdentityTraffic[]> {
      return asActivity(async () => {
        const before = new Map(input.before?.map(({ publicKey, rxBytes }) => [publicKey, rxBytes]));
        const wanted = new Set(input.publicKeys).size;
        const deadlineMs = Date.now() + input.timeoutMs;
        for (;;) {
          const seen = await trafficBy(deps, input.publicKeys, input.identity);
          const met = seen.filter(
            ({ publicKey, rxBytes }) => input.before === undefined || rxBytes > (before.get(publicKey) ?? 0),
          );
          if (met.length === wanted || Date.now() >= deadlineMs) return met;
          await pause(KEY_LIMITS.verifyPollMs);
        }
      });
    },
  };
}

function endSteps(deps: ActivityDeps) {
  return {
    /** This version, which nobody uses any more; with `keep` every other one too, such as those of attempts whose answers were lost. */
    destroyStaticKey(input: StepInput & { identity: Pick<StaticIdentity, "secret">; keep?: SecretRef }): Promise<void> {
      return asFinish(deps, input, "destroy a static key", async () => {
        const { path, version } = input.identity.secret;
        if (input.keep?.path === path) await deps.keyVault.destroyOthers({ path, keep: input.keep.version });
        else await deps.keyVault.destroy({ path, versions: [version] });
        const name = refName(input.identity.secret);
        return { result: undefined, text: `${name} destroyed`, details: { version: name } };
      });
    },
  };
}

/** What came by this key, on all endpoints together: a client that moves between them is one. */
async function trafficBy(
  deps: ActivityDeps,
  publicKeys: readonly string[],
  { secret }: StaticIdentity,
): Promise<readonly IdentityTraffic[]> {
  const sums = new Map<string, number>();
  for (const { identity, publicKey, rxBytes } of await receivedOnMembers(deps, publicKeys))
    if (identity === refName(secret)) sums.set(publicKey, (sums.get(publicKey) ?? 0) + rxBytes);
  return [...sums].map(([publicKey, rxBytes]) => ({ publicKey, rxBytes }));
}

/** NOT_READY when one that serves does not in time. Answers how many there are. */
async function untilAllAnswerTo(deps: ActivityDeps, identities: readonly StaticIdentity[]): Promise<number> {
  const deadlineMs = Date.now() + KEY_LIMITS.identityUpMs;
  const members = await memberAgents(deps);
  await onEveryMember(members, async ({ agent, endpoint }) => {
    while (!(await answersTo(agent, identities))) {
      if (Date.now() >= deadlineMs)
        throw new ForeshiftError("NOT_READY", { value: endpoint, detail: "it does not answer to the static keys stated" });
      await pause(KEY_LIMITS.identityPollMs);
    }
  });
  return members.length;
}

async function specOf(deps: ActivityDeps, swarm: string): Promise<SwarmSpec> {
  const spec = (await deps.store.specs()).find(({ name }) => name === swarm);
  if (spec === undefined) throw new ForeshiftError("UNKNOWN_SWARM", { value: swarm });
  return spec;
}
