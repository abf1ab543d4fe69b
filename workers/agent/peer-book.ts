/**
 * The peers this endpoint knows, kept on disk (identities and references, no keys), so that a restart needs nobody to ask.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "pino";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { Peer } from "../../models/session.ts";

const BookFile = z.object({ peers: z.array(Peer), probes: z.array(z.string()) });

export class PeerBook {
  readonly #path: string;
  readonly #log: Logger;
  readonly #peers = new Map<string, Peer>();
  readonly #probes = new Set<string>();
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

  add(peers: readonly Peer[]): void {
    for (const { publicKey, innerAddresses, presharedKey } of peers) {
      if (!this.#peers.has(publicKey) && this.#peers.size >= LIMITS.agent.peersMax) {
        const detail = `an endpoint holds ${LIMITS.agent.peersMax} peers at most`;
        throw new ForeshiftError("INVALID_FIELD", { field: "peers", value: peers.length, detail });
      }
      this.#peers.set(publicKey, { publicKey, innerAddresses, ...(presharedKey === undefined ? {} : { presharedKey }) });
    }
    this.#save();
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
      writeFileSync(temporary, JSON.stringify({ peers: this.all(), probes: [...this.#probes] }), { mode: 0o600 });
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
    } catch (thrown) {
      this.#log.warn({ event: "peers-unreadable", detail: messageOf(thrown) });
    }
  }
}
