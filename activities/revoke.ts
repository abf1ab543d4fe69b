/**
 * Revocation of clients: out of the source of truth, out of every endpoint, and their keys destroyed. It is somebody's order, not
 * automation's choice, so the stop switch does not hold it up.
 */

import { ForeshiftError, messageOf } from "../models/errors.ts";
import { presharedPath, type RevokedPeer } from "../models/keys.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";
import { counted } from "../models/words.ts";
import { type ActivityDeps, asActivity, asFinish, pause, type StepInput } from "./deps.ts";
import { type MemberAgent, memberAgents } from "./key-members.ts";

export interface OutOn {
  readonly endpoint: string;
  /** From the order until its WireGuard had no session of theirs; undefined: it cannot be reached, and will not come back before it knows. */
  readonly outAfterMs: number | undefined;
  readonly because?: string;
}

export interface Revocation {
  readonly revoked: readonly string[];
  readonly endpoints: readonly OutOn[];
}

export function revokeActivities(deps: ActivityDeps) {
  return {
    /** Public keys of the swarm's clients that are named by public key or by inner address. UNKNOWN_CLIENT for a name that is neither. */
    findClients(input: { swarm: string; clients: readonly string[] }): Promise<readonly string[]> {
      return asActivity(async () => {
        const [peers, revoked] = await Promise.all([deps.store.peers(input.swarm), deps.store.revokedPeers(input.swarm)]);
        return input.clients.map((name) => {
          const peer = peers.find(({ innerAddresses, publicKey }) => publicKey === name || innerAddresses.includes(name));
          const publicKey = peer?.publicKey ?? revoked.find((one) => one.publicKey === name)?.publicKey;
          if (publicKey === undefined) throw new ForeshiftError("UNKNOWN_CLIENT", { value: name, detail: input.swarm });
          return publicKey;
        });
      });
    },

    /** Everybody who follows the swarm hears of it; the endpoints that serve are asked as well, and looked at until they are out. */
    revokeClients(input: StepInput & { publicKeys: readonly string[] }): Promise<Revocation> {
      return asFinish(deps, input, "revoke clients", async () => {
        const { operation, publicKeys, reason, swarm } = input;
        const sinceMs = performance.now();
        const peers = await deps.store.revokePeers({ swarm, publicKeys, reason });
        const members = await memberAgents(deps);
        const endpoints = await Promise.all(members.map((member) => outOn(member, peers, operation, sinceMs)));
        const result: Revocation = { revoked: peers.map(({ publicKey }) => publicKey), endpoints };
        const slowest = Math.max(0, ...endpoints.map(({ outAfterMs }) => Math.ceil(outAfterMs ?? 0)));
        const unreached = endpoints.filter(({ outAfterMs }) => outAfterMs === undefined);
        const rest =
          unreached.length === 0 ? "" : `; ${unreached.map(({ endpoint }) => endpoint).join(", ")} cannot be reached`;
        const text = `${counted(peers.length, "client")} out of ${members.length - unreached.length} of ${counted(members.length, "endpoint")} within ${slowest} ms${rest}`;
        return { result, text, details: { ...result } };
      });
    },

    /** Whoever holds it is out as soon as a process has the new list: the collector looks twice a second and hands it on. */
    revokeCertificate(input: StepInput & { serial: string }): Promise<void> {
      return asFinish(deps, input, "revoke a certificate", async () => {
        await deps.certificates.revoke(input.serial);
        return {
          result: undefined,
          text: `Certificate ${input.serial} is on the revocation list`,
          details: { serial: input.serial },
        };
      });
    },

    /** Every version of the preshared keys of clients that are out. */
    destroyClientKeys(input: StepInput & { publicKeys: readonly string[] }): Promise<void> {
      return asFinish(deps, input, "destroy keys of revoked clients", async () => {
        let destroyed = 0;
        for (const publicKey of input.publicKeys)
          destroyed += await deps.keyVault.destroyOthers({ path: presharedPath(input.swarm, publicKey), keep: undefined });
        return { result: undefined, text: `${counted(destroyed, "version")} destroyed` };
      });
    },
  };
}

async function outOn(
  { agent, endpoint }: MemberAgent,
  peers: readonly RevokedPeer[],
  operation: string,
  sinceMs: number,
): Promise<OutOn> {
  const out = new Set(peers.map(({ publicKey }) => publicKey));
  try {
    await agent.revoke({ operation: `${operation}:${endpoint}`, peers });
    for (;;) {
      const held = await agent.sessions();
      if (!held.some(({ publicKey }) => out.has(publicKey))) return { endpoint, outAfterMs: performance.now() - sinceMs };
      if (performance.now() - sinceMs > KEY_LIMITS.revokeLookMs)
        return { endpoint, outAfterMs: undefined, because: "its sessions stay" };
      await pause(KEY_LIMITS.revokePollMs);
    }
  } catch (thrown) {
    return { endpoint, outAfterMs: undefined, because: messageOf(thrown) };
  }
}
