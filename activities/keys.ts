/**
 * Steps of a rotation of preshared keys: issue, distribute, switch, verify, undo, retire. Keys are named by path and version; whoever
 * needs one reads it from Vault itself.
 */

import type { PeerKey } from "../drivers/ports.ts";
import { ForeshiftError } from "../models/errors.ts";
import { type KeyChange, presharedPath, refName } from "../models/keys.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";
import type { Peer } from "../models/session.ts";
import type { KeyPolicy } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { type ActivityDeps, asActivity, asFinish, asStep, pause, type StepInput } from "./deps.ts";
import {
  type MemberAgent,
  memberAgents,
  onEveryMember,
  receivedOnMembers,
  sendersBetween,
  sessionsOnMembers,
} from "./key-members.ts";

export interface KeyStep extends StepInput {
  readonly keys: readonly KeyChange[];
}

export interface IssueRequest {
  readonly publicKey: string;
  /** Newest version that its key has had, 0 for none. */
  readonly after: number;
}

export interface SwitchOutcome {
  /** Public keys of clients that use the new key from their next handshake on. */
  readonly taken: readonly string[];
  readonly refused: readonly string[];
}

/** A client's session before the switch. */
export interface HandshakeLook {
  readonly publicKey: string;
  /** Unix ms of its last handshake, by the clock of its endpoint. */
  readonly handshakeMs: number;
  /** Packets came from it while it was looked at. */
  readonly active: boolean;
}

export interface VerifyOutcome {
  readonly verified: readonly string[];
  /** Clients without traffic: both sides have the new key, and their next handshake will use it. */
  readonly idle: readonly string[];
  readonly failed: readonly string[];
}

export interface UndoOutcome {
  /** Both sides have the key from before. */
  readonly restored: readonly string[];
  /** They took the new key and could not be told to go back: their endpoints keep it too. */
  readonly kept: readonly string[];
}

export function keyActivities(deps: ActivityDeps) {
  return { ...planActivities(deps), ...distributeActivities(deps), ...switchActivities(deps), ...endActivities(deps) };
}

function planActivities(deps: ActivityDeps) {
  return {
    /** What the swarm file in force says of keys. UNKNOWN_SWARM without one. */
    keyPolicy(input: { swarm: string }): Promise<KeyPolicy> {
      return asActivity(async () => {
        const spec = (await deps.store.specs()).find(({ name }) => name === input.swarm);
        if (spec === undefined) throw new ForeshiftError("UNKNOWN_SWARM", { value: input.swarm });
        return spec.keys;
      });
    },

    /** The next clients in the order of their keys, and how many there are in all. */
    nextClients(input: {
      swarm: string;
      after: string | undefined;
      limit: number;
    }): Promise<{ publicKeys: readonly string[]; clients: number }> {
      return asActivity(async () => {
        const all = (await deps.store.peers(input.swarm)).map(({ publicKey }) => publicKey).sort();
        const { after } = input;
        const left = after === undefined ? all : all.filter((publicKey) => publicKey > after);
        return { publicKeys: left.slice(0, input.limit), clients: all.length };
      });
    },
  };
}

function distributeActivities(deps: ActivityDeps) {
  return {
    /** The newest version of each client's key; what comes after it is this rotation's. */
    newestVersions(input: { swarm: string; publicKeys: readonly string[] }): Promise<readonly IssueRequest[]> {
      return asActivity(() =>
        eachAtOnce(input.publicKeys, async (publicKey) => {
          const after = await deps.keyVault.newestVersion({ path: presharedPath(input.swarm, publicKey) });
          return { publicKey, after };
        }),
      );
    },

    /** A further version for each client. Nobody uses it yet. */
    issuePresharedKeys(input: StepInput & { clients: readonly IssueRequest[] }): Promise<readonly KeyChange[]> {
      return asStep(deps, input, "issue preshared keys", async () => {
        const { clients, swarm } = input;
        const known = new Map((await deps.store.peers(swarm)).map((peer) => [peer.publicKey, peer]));
        const present = clients.flatMap(({ publicKey, after }) => {
          const peer = known.get(publicKey);
          return peer === undefined ? [] : [{ peer, after }];
        });
        const keys = await eachAtOnce(present, async ({ peer, after }) =>
          changeOf(peer, await deps.keyVault.issuePresharedKey({ path: presharedPath(swarm, peer.publicKey), after })),
        );
        const text = `${counted(keys.length, "preshared key")} issued`;
        return { result: keys, text, details: { versions: keys.map(({ to }) => refName(to)) } };
      });
    },

    /** Every endpoint and every client that can be reached has the new keys ready. NOT_READY when an endpoint that serves has not. */
    distributeKeys(input: KeyStep): Promise<SwitchOutcome> {
      return asStep(deps, input, "distribute preshared keys", async () => {
        const { keys, operation, swarm } = input;
        const members = await memberAgents(deps);
        // The former ones too: with both in memory an endpoint goes over and back without Vault.
        const peers = keys.flatMap((key) => [asPeer(key, key.to), ...(key.from === undefined ? [] : [asPeer(key, key.from)])]);
        await onEveryMember(members, ({ agent, endpoint }) => agent.loadKeys({ operation: `${operation}:${endpoint}`, peers }));
        const told = await deps.provisioner.distribute({ operation, swarm, keys: keys.map((key) => asKey(key, key.to)) });
        const text = `${counted(told.taken.length, "client")} and ${counted(members.length, "endpoint")} have the new keys ready`;
        return { result: told, text, details: { clients: told.taken.length, refused: told.refused.length } };
      });
    },
  };
}

function switchActivities(deps: ActivityDeps) {
  return {
    /** Every endpoint uses these keys from the next handshake on, ghosts and those that come back included: it is in the store. */
    setEndpointKeys(input: KeyStep): Promise<void> {
      return asFinish(deps, input, "set preshared keys", async () => {
        const members = await stateKeys(
          deps,
          input,
          input.keys.map((key) => asKey(key, key.to)),
          input.operation,
        );
        const text = `${counted(members.length, "endpoint")} uses ${counted(input.keys.length, "new key")} from the next handshake on`;
        return { result: undefined, text, details: { versions: input.keys.map(({ to }) => refName(to)) } };
      });
    },

    /** Two looks, a moment apart, at the clients' sessions. */
    lookAtHandshakes(input: { swarm: string; publicKeys: readonly string[] }): Promise<readonly HandshakeLook[]> {
      return asActivity(async () => {
        const before = await receivedOnMembers(deps, input.publicKeys);
        await pause(KEY_LIMITS.trafficSampleMs);
        const [after, held] = await Promise.all([
          receivedOnMembers(deps, input.publicKeys),
          sessionsOnMembers(deps, input.publicKeys),
        ]);
        // Its newest handshake may be elsewhere than its traffic: by another static key that it does not send by yet.
        const sending = sendersBetween(before, after);
        const newestMs = new Map<string, number>();
        for (const { lastHandshakeMs, publicKey } of [...after, ...held.values()])
          newestMs.set(publicKey, Math.max(lastHandshakeMs, newestMs.get(publicKey) ?? 0));
        return [...newestMs].map(([publicKey, handshakeMs]) => ({ publicKey, handshakeMs, active: sending.has(publicKey) }));
      });
    },

    activateClientKeys(input: KeyStep & { handshake: boolean }): Promise<SwitchOutcome> {
      return asFinish(deps, input, "activate preshared keys", async () => {
        const { handshake, keys, operation, swarm } = input;
        const told = await deps.provisioner.activate({
          operation,
          swarm,
          keys: keys.map((key) => asKey(key, key.to)),
          handshake,
        });
        const text = `${counted(told.taken.length, "client")} took the new key, ${told.refused.length} did not`;
        return { result: told, text, details: { clients: told.taken.length, refused: told.refused.length } };
      });
    },

    /** Waits until each client with traffic has shaken hands anew; all endpoints have the new key, so it was with that. */
    verifyKeys(input: {
      swarm: string;
      publicKeys: readonly string[];
      before: readonly HandshakeLook[];
      timeoutMs: number;
    }): Promise<VerifyOutcome> {
      return asActivity(async () => {
        const before = new Map(input.before.map((look) => [look.publicKey, look]));
        const verified = new Set<string>();
        const deadlineMs = Date.now() + input.timeoutMs;
        const waitsFor = () => input.publicKeys.filter((key) => before.get(key)?.active === true && !verified.has(key));
        for (;;) {
          const held = await sessionsOnMembers(deps, input.publicKeys);
          for (const { publicKey, lastHandshakeMs } of held.values())
            if (lastHandshakeMs > (before.get(publicKey)?.handshakeMs ?? 0)) verified.add(publicKey);
          if (waitsFor().length === 0 || Date.now() >= deadlineMs) break;
          await pause(KEY_LIMITS.verifyPollMs);
        }
        const failed = waitsFor();
        const idle = input.publicKeys.filter((key) => !verified.has(key) && !failed.includes(key));
        return { verified: [...verified], idle, failed };
      });
    },
  };
}

function endActivities(deps: ActivityDeps) {
  return {
    /** The keys from before, on both sides, of clients that took the new one (`taken`) and of those that did not (`keys`). */
    undoKeys(input: KeyStep & { taken: readonly KeyChange[] }): Promise<UndoOutcome> {
      return asFinish<UndoOutcome>(deps, input, "undo preshared keys", async () => {
        const { keys, operation, swarm, taken } = input;
        const back = { swarm, keys: taken.map((key) => asKey(key, key.from)) };
        const nobody: SwitchOutcome = { taken: [], refused: [] };
        const tell = async (name: string, handshake: boolean): Promise<SwitchOutcome> =>
          taken.length === 0
            ? nobody
            : await deps.provisioner.activate({ ...back, operation: `${operation}:${name}`, handshake });
        // No handshake before the endpoints are back as well: it would fail, and the client would wait for its next attempt.
        const told = await tell("clients", false);
        const restored = [...keys, ...taken.filter(({ publicKey }) => told.taken.includes(publicKey))];
        const former = restored.map((key) => asKey(key, key.from));
        await stateKeys(deps, input, former, `${operation}:endpoints`);
        await tell("handshakes", true);
        const result: UndoOutcome = { restored: restored.map(({ publicKey }) => publicKey), kept: told.refused };
        const text = `${counted(restored.length, "client")} back on the key from before`;
        return { result, text, details: { restored: restored.length, kept: told.refused.length } };
      });
    },

    /** Of each client, every version but the one in use. Agents forget keys that nobody refers to. */
    retireKeys(input: KeyStep): Promise<void> {
      return asStep(deps, input, "destroy old preshared keys", async () => {
        let destroyed = 0;
        for (const { to } of input.keys) destroyed += await deps.keyVault.destroyOthers({ path: to.path, keep: to.version });
        const members = await memberAgents(deps);
        const forget = ({ agent, endpoint }: MemberAgent) =>
          agent.loadKeys({ operation: `${input.operation}:${endpoint}`, peers: [] });
        await Promise.allSettled(members.map(forget));
        const text = `${counted(destroyed, "old version")} destroyed`;
        return { result: undefined, text, details: { kept: input.keys.map(({ to }) => refName(to)) } };
      });
    },

    /** Versions that were issued and are not used. */
    discardKeys(input: KeyStep): Promise<void> {
      return asFinish(deps, input, "destroy unused preshared keys", async () => {
        for (const { to } of input.keys) await deps.keyVault.destroy({ path: to.path, versions: [to.version] });
        const text = `${counted(input.keys.length, "unused version")} destroyed`;
        return { result: undefined, text, details: { versions: input.keys.map(({ to }) => refName(to)) } };
      });
    },
  };
}

/** The store first, which every endpoint follows; then each endpoint that serves is asked, and has to say that it is done. */
async function stateKeys(
  deps: ActivityDeps,
  { swarm }: StepInput,
  keys: readonly PeerKey[],
  operation: string,
): Promise<readonly MemberAgent[]> {
  const peers = await deps.store.rekeyPeers({ swarm, keys });
  const members = await memberAgents(deps);
  await onEveryMember(members, ({ agent, endpoint }) => agent.setKeys({ operation: `${operation}:${endpoint}`, peers }));
  return members;
}

/** In the order given, a few under way at a time. */
async function eachAtOnce<A, B>(all: readonly A[], work: (one: A) => Promise<B>): Promise<readonly B[]> {
  const done: B[] = [];
  const size = KEY_LIMITS.writesAtOnceMax;
  for (let from = 0; from < all.length; from += size) done.push(...(await Promise.all(all.slice(from, from + size).map(work))));
  return done;
}

function changeOf({ innerAddresses, presharedKey, publicKey }: Peer, to: KeyChange["to"]): KeyChange {
  return { publicKey, innerAddresses, ...(presharedKey === undefined ? {} : { from: presharedKey }), to };
}

function asPeer({ innerAddresses, publicKey }: KeyChange, ref: KeyChange["from"]): Peer {
  return { publicKey, innerAddresses: [...innerAddresses], ...(ref === undefined ? {} : { presharedKey: ref }) };
}

function asKey({ publicKey }: KeyChange, ref: KeyChange["from"]): PeerKey {
  return { publicKey, ...(ref === undefined ? {} : { presharedKey: ref }) };
}
