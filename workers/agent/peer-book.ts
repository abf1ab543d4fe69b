/**
 * The peers this endpoint knows, kept on disk (identities and references, no keys), so that a restart needs nobody to ask.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "pino";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { heed, type PeerWord, type RevokedPeer } from "../../models/keys.ts";
import { LIMITS } from "../../models/limits.ts";
import { Peer } from "../../models/session.ts";

const BookFile = z.object({
  peers: z.array(Peer),
  probes: z.array(z.string()),
  revoked: z.array(z.object({ publicKey: z.string(), revision: z.number() })).default([]),
  /** Name of the preshared key's version that the device was given last, by public key; that of slot 1 after a mark. */
  applied: z.record(z.string(), z.string()).default({}),
});

/** Which preshared keys a device was given. */
export interface DeviceBook {
  /** Name of the version that the device has for this peer; undefined: none, as far as is known. */
  appliedKey(publicKey: string): string | undefined;
  noteApplied(publicKey: string, name: string | undefined): void;
  /** The device is a new one. */
  forgetApplied(): void;
}

export class PeerBook {
  readonly #path: string;
  readonly #log: Logger;
  readonly #peers = new Map<string, Peer>();
  readonly #probes = new Set<string>();
  readonly #revoked = new Map<string, RevokedPeer>();
  readonly #applied = new Map<string, string>();
  #saveSoon: NodeJS.Timeout | undefined;

  constructor(stateDir: string, log: Logger) {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    this.#path = join(stateDir, "peers.json");
    this.#log = log;
    this.#load();
  }

  all(): readonly Peer[] {
    return [...this.#peers.values()];
  }

  get(publicKey: string): Peer | undefined {
    return this.#peers.get(publicKey);
  }

  /** Whether the peer is the balancer's prober, which holds no session of a client. */
  isProbe(publicKey: string): boolean {
    return this.#probes.has(publicKey);
  }

  /** Takes what is said of these peers, where nothing later is known; answers them as they are to be configured, less the revoked. */
  add(peers: readonly Peer[]): readonly Peer[] {
    const known: Peer[] = [];
    for (const { publicKey, innerAddresses, presharedKey, revision } of peers) {
      const peer = {
        publicKey,
        innerAddresses,
        ...(presharedKey === undefined ? {} : { presharedKey }),
        ...(revision === undefined ? {} : { revision }),
      };
      const word = heed(this.#wordOf(publicKey), { peer });
      if (!("peer" in word)) continue;
      if (!this.#peers.has(publicKey) && this.#peers.size >= LIMITS.agent.peersMax) {
        const detail = `an endpoint holds ${LIMITS.agent.peersMax} peers at most`;
        throw new ForeshiftError("INVALID_FIELD", { field: "peers", value: peers.length, detail });
      }
      this.#peers.set(publicKey, word.peer);
      this.#revoked.delete(publicKey);
      known.push(word.peer);
    }
    this.#save();
    return known;
  }

  /** Answers those that are out now, whether this word or an earlier one put them out. */
  revoke(peers: readonly RevokedPeer[]): readonly string[] {
    const out: string[] = [];
    for (const revoked of peers) {
      const word = heed(this.#wordOf(revoked.publicKey), { revoked });
      if (!("revoked" in word)) continue;
      this.#peers.delete(revoked.publicKey);
      this.#applied.delete(revoked.publicKey);
      this.#applied.delete(`1:${revoked.publicKey}`);
      this.#revoked.set(revoked.publicKey, word.revoked);
      out.push(revoked.publicKey);
    }
    this.#save();
    return out;
  }

  /** Its revision; 0: none is known. */
  get newestRevocation(): number {
    return [...this.#revoked.values()].reduce((newest, { revision }) => Math.max(newest, revision), 0);
  }

  isRevoked(publicKey: string): boolean {
    return this.#revoked.has(publicKey);
  }

  /** Revisions begin anew, as the source of truth did. */
  forgetRevisions(): void {
    for (const [publicKey, { revision: _, ...peer }] of this.#peers) this.#peers.set(publicKey, peer);
    for (const publicKey of this.#revoked.keys()) this.#revoked.set(publicKey, { publicKey, revision: 0 });
  }

  /** What one of the endpoint's devices has of it. */
  onDevice(slot: 0 | 1): DeviceBook {
    const mark = slot === 0 ? "" : "1:";
    return {
      appliedKey: (publicKey) => this.#applied.get(`${mark}${publicKey}`),
      noteApplied: (publicKey, name) => this.#noteApplied(`${mark}${publicKey}`, name),
      forgetApplied: () => {
        for (const name of this.#applied.keys()) if (name.startsWith("1:") === (slot === 1)) this.#applied.delete(name);
      },
    };
  }

  #noteApplied(place: string, name: string | undefined): void {
    if (this.#applied.get(place) === name) return;
    if (name === undefined) this.#applied.delete(place);
    else this.#applied.set(place, name);
    this.#save();
  }

  #wordOf(publicKey: string): PeerWord | undefined {
    const revoked = this.#revoked.get(publicKey);
    if (revoked !== undefined) return { revoked };
    const peer = this.#peers.get(publicKey);
    return peer === undefined ? undefined : { peer };
  }

  /** The probers, instead of those known before; answers the ones that are probers no more. */
  setProbes(probes: readonly Peer[]): readonly string[] {
    const present = new Set(probes.map(({ publicKey }) => publicKey));
    const gone = [...this.#probes].filter((publicKey) => !present.has(publicKey));
    for (const publicKey of gone) this.#peers.delete(publicKey);
    this.#probes.clear();
    for (const publicKey of present) this.#probes.add(publicKey);
    this.add(probes);
    return gone;
  }

  /** Writes what is not written yet. */
  flush(): void {
    if (this.#saveSoon === undefined) return;
    clearTimeout(this.#saveSoon);
    this.#saveSoon = undefined;
    const temporary = `${this.#path}.tmp`;
    try {
      const probes = [...this.#probes];
      const revoked = [...this.#revoked.values()];
      const file = { peers: this.all(), probes, revoked, applied: Object.fromEntries(this.#applied) };
      writeFileSync(temporary, JSON.stringify(file), { mode: 0o600 });
      renameSync(temporary, this.#path);
    } catch (thrown) {
      this.#log.error({ event: "peers-not-written", detail: messageOf(thrown) });
    }
  }

  /** A stream of peers at start must not write the file for each of them. */
  #save(): void {
    this.#saveSoon ??= setTimeout(() => this.flush(), 200);
  }

  #load(): void {
    let text: string;
    try {
      text = readFileSync(this.#path, "utf8");
    } catch {
      return;
    }
    try {
      const file = BookFile.parse(JSON.parse(text));
      for (const peer of file.peers) this.#peers.set(peer.publicKey, peer);
      for (const publicKey of file.probes) this.#probes.add(publicKey);
      for (const revoked of file.revoked) this.#revoked.set(revoked.publicKey, revoked);
      for (const [publicKey, name] of Object.entries(file.applied)) this.#applied.set(publicKey, name);
    } catch (thrown) {
      this.#log.warn({ event: "peers-unreadable", detail: messageOf(thrown) });
    }
  }
}
