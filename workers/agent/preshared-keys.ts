/**
 * The preshared keys that this endpoint has in memory, by the version they are: read from Vault once, given to WireGuard, never written
 * down. With them in memory, setting one and going back to the one before need nobody.
 */
import type { Logger } from "pino";
import type { Kv } from "../../drivers/vault/kv.ts";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { refName } from "../../models/keys.ts";
import { LIMITS } from "../../models/limits.ts";
import type { Peer, SecretRef } from "../../models/session.ts";

export class PresharedKeys {
  readonly #secrets: Pick<Kv, "read">;
  readonly #log: Logger;
  readonly #keys = new Map<string, string>();

  constructor(parts: { secrets: Pick<Kv, "read">; log: Logger }) {
    this.#secrets = parts.secrets;
    this.#log = parts.log;
  }

  /** Base64; undefined for a peer without one. */
  of({ presharedKey: ref }: Peer): string | undefined {
    return ref === undefined ? undefined : this.#keys.get(refName(ref));
  }

  /** NOT_READY unless all of these peers' keys are here afterwards. Answers how many were read. */
  async load(peers: readonly Peer[]): Promise<number> {
    const before = this.#keys.size;
    const { failed } = await this.ready(peers);
    if (failed > 0) {
      const detail = `${failed} of ${peers.length} preshared keys could not be read`;
      throw new ForeshiftError("NOT_READY", { value: "vault", detail });
    }
    return this.#keys.size - before;
  }

  /** Reads what is not here; peers without their key are left out and counted. */
  async ready<P extends Peer>(peers: readonly P[]): Promise<{ ready: readonly P[]; failed: number }> {
    const absent = new Map<string, SecretRef>();
    for (const { presharedKey: ref } of peers)
      if (ref !== undefined && !this.#keys.has(refName(ref))) absent.set(refName(ref), ref);
    const waiting = [...absent];
    const readOn = async () => {
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) await this.#read(...next);
    };
    await Promise.all(Array.from({ length: LIMITS.vault.connectionsMax }, readOn));
    const ready = peers.filter(({ presharedKey: ref }) => ref === undefined || this.#keys.has(refName(ref)));
    return { ready, failed: peers.length - ready.length };
  }

  forgetBut(peers: readonly Peer[]): void {
    const wanted = new Set(peers.flatMap(({ presharedKey: ref }) => (ref === undefined ? [] : [refName(ref)])));
    for (const name of this.#keys.keys()) if (!wanted.has(name)) this.#keys.delete(name);
  }

  async #read(name: string, ref: SecretRef): Promise<void> {
    try {
      const { presharedKey } = await this.#secrets.read(ref);
      if (presharedKey !== undefined) this.#keys.set(name, presharedKey);
    } catch (thrown) {
      this.#log.warn({ event: "preshared-key-not-read", path: ref.path, detail: messageOf(thrown) });
    }
  }
}
