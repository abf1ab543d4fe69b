/**
 * Endpoints that a person has put out: nothing of theirs is heard, whatever certificate they show, and what they follow ends.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import type { EndpointName } from "../../drivers/store/revoked-endpoints.ts";
import type { PostgresStore } from "../../drivers/store/store.ts";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";

export class RevokedEndpoints {
  readonly #names = new Set<string>();
  readonly #followers = new Map<string, Set<() => void>>();

  add(one: EndpointName): void {
    const name = nameOf(one);
    this.#names.add(name);
    for (const end of this.#followers.get(name) ?? []) end();
    this.#followers.delete(name);
  }

  forget(swarm: string): void {
    for (const name of this.#names) if (name.startsWith(`${swarm}.`)) this.#names.delete(name);
  }

  has(one: EndpointName): boolean {
    return this.#names.has(nameOf(one));
  }

  /** ENDPOINT_REVOKED when it is one of them. */
  refuse(one: EndpointName): void {
    if (this.has(one)) throw new ForeshiftError("ENDPOINT_REVOKED", { value: one.endpoint, detail: "its agent is not heard" });
  }

  /** Calls `end` once the endpoint is put out; the answer takes the wish back. */
  whenOut(one: EndpointName, end: () => void): () => void {
    const name = nameOf(one);
    const followers = this.#followers.get(name) ?? new Set();
    this.#followers.set(name, followers.add(end));
    return () => {
      followers.delete(end);
      if (followers.size === 0 && this.#followers.get(name) === followers) this.#followers.delete(name);
    };
  }

  /** All that the database knows: some may have been put out while nobody listened. Tried until it is read. */
  async load(store: Pick<PostgresStore, "allRevokedEndpoints">, log: Logger, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for (const one of await store.allRevokedEndpoints()) this.add(one);
        return;
      } catch (thrown) {
        log.warn({ event: "revoked-endpoints-not-read", detail: messageOf(thrown) });
        await delay(LIMITS.collector.streamReconnectFirstMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }
}

function nameOf({ endpoint, swarm }: EndpointName): string {
  return `${swarm}.${endpoint}`;
}
