/**
 * The data keys of one process: one to seal with, replaced in time, and those unwrapped to open what others sealed. They live in memory
 * alone. While Vault is away the known ones go on working, within limits; nothing is ever sealed with less.
 */
import { setTimeout as delay } from "node:timers/promises";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { CODEC_LIMITS } from "../../models/limits-codec.ts";
import type { DataKeyRegistry } from "../store/data-keys.ts";
import type { DataKey, Transit } from "../vault/transit.ts";
import { keyId, type WrappedKey, wrapVersion } from "./envelope.ts";

export interface DataKeysOptions {
  readonly transit: Pick<Transit, "newDataKey" | "unwrap">;
  /** Knows the newest wrap of each key, which outlives the one inside a payload. */
  readonly registry: Pick<DataKeyRegistry, "register" | "find">;
  /** A refresh that failed is nobody's error: the old key goes on. It is said here. */
  readonly onTrouble?: (detail: string) => void;
  readonly limits?: Partial<Record<keyof typeof CODEC_LIMITS, number>>;
  /** Unix milliseconds, or any other clock that does not run back. */
  readonly now?: () => number;
}

export interface SealingKey extends WrappedKey {
  readonly key: Buffer;
}

interface Current extends SealingKey {
  readonly madeAtMs: number;
  uses: number;
  bytes: number;
}

interface Known {
  readonly key: Buffer;
  readonly untilMs: number;
}

export class DataKeys {
  readonly #options: DataKeysOptions;
  readonly #limits: Record<keyof typeof CODEC_LIMITS, number>;
  readonly #now: () => number;
  readonly #closing = new AbortController();
  #current: Current | undefined;
  #making: Promise<Current> | undefined;
  #refreshedAtMs = Number.NEGATIVE_INFINITY;
  /** By wrap, in the order of their last use. */
  readonly #known = new Map<string, Known>();
  readonly #unwrapping = new Map<string, Promise<Buffer>>();

  constructor(options: DataKeysOptions) {
    this.#options = options;
    this.#limits = { ...CODEC_LIMITS, ...options.limits };
    this.#now = options.now ?? (() => performance.now());
  }

  /** A key that may seal so many bytes more; NOT_READY when there is none and none comes in time. */
  async toSeal(bytes: number): Promise<SealingKey> {
    const current = this.#usable(bytes);
    if (current === undefined) return this.#take(await this.#inTime(() => this.#make(), "a data key"), bytes);
    if (this.#now() - current.madeAtMs > this.#limits.dataKeyRefreshMs) this.#refresh();
    return this.#take(current, bytes);
  }

  /** The key inside a wrap; PAYLOAD_REFUSED when it is not the one that is named, NOT_READY when it cannot be had in time. */
  async toOpen({ id, wrapped }: WrappedKey): Promise<Buffer> {
    const known = this.#known.get(wrapped);
    if (known !== undefined && known.untilMs > this.#now() && keyId(known.key) === id) {
      this.#known.delete(wrapped);
      this.#known.set(wrapped, known);
      return known.key;
    }
    return await this.#inTime(() => this.#unwrap({ id, wrapped }), "the key of a payload");
  }

  /** Forgets every key. None is overwritten: somebody may be about to seal with it, and must not with zeroes. */
  close(): void {
    this.#closing.abort();
    this.#current = undefined;
    this.#known.clear();
  }

  #usable(bytes: number): Current | undefined {
    const { dataKeyLifeMs, dataKeyUsesMax, dataKeyBytesMax } = this.#limits;
    const current = this.#current;
    if (current === undefined || this.#now() - current.madeAtMs > dataKeyLifeMs) return undefined;
    return current.uses < dataKeyUsesMax && current.bytes + bytes <= dataKeyBytesMax ? current : undefined;
  }

  /** Counted before it seals: what fails afterwards has cost a use and no more. */
  #take(current: Current, bytes: number): SealingKey {
    current.uses += 1;
    current.bytes += bytes;
    return current;
  }

  #refresh(): void {
    if (this.#making !== undefined || this.#now() - this.#refreshedAtMs < this.#limits.dataKeyRetryMs) return;
    this.#refreshedAtMs = this.#now();
    this.#make().catch((thrown: unknown) => this.#options.onTrouble?.(messageOf(thrown)));
  }

  #make(): Promise<Current> {
    this.#making ??= this.#register().finally(() => {
      this.#making = undefined;
    });
    return this.#making;
  }

  /** Used only once it is registered and Vault has unwrapped it again: what it seals can be opened. */
  async #register(): Promise<Current> {
    const { transit, registry } = this.#options;
    const madeAtMs = this.#now();
    const { key, wrapped }: DataKey = await transit.newDataKey();
    const made = { id: keyId(key), key, wrapped, madeAtMs, uses: 0, bytes: 0 };
    await registry.register({ id: made.id, wrapped, version: wrapVersion(wrapped) });
    const again = await transit.unwrap(wrapped);
    if (keyId(again) !== made.id) throw notReady("Vault unwraps a new data key to another one");
    if (this.#now() - madeAtMs > this.#limits.registerWithinMs) throw notReady("a data key took too long to be registered");
    if (this.#closing.signal.aborted) throw notReady("it is closed");
    this.#current = made;
    this.#remember(wrapped, again);
    return made;
  }

  #unwrap(wanted: WrappedKey): Promise<Buffer> {
    const name = `${wanted.id} ${wanted.wrapped}`;
    const underWay = this.#unwrapping.get(name) ?? this.#fetch(wanted).finally(() => this.#unwrapping.delete(name));
    this.#unwrapping.set(name, underWay);
    return underWay;
  }

  /** By the wrap at hand; where Vault will not have that one any more, by the one it was rewrapped to. */
  async #fetch({ id, wrapped }: WrappedKey): Promise<Buffer> {
    const { transit, registry } = this.#options;
    let key: Buffer;
    try {
      key = await transit.unwrap(wrapped);
    } catch (thrown) {
      if (!(thrown instanceof ForeshiftError) || thrown.code !== "PAYLOAD_REFUSED") throw thrown;
      const rewrapped = await registry.find(id);
      if (rewrapped === undefined || rewrapped === wrapped) throw thrown;
      key = await transit.unwrap(rewrapped);
    }
    if (keyId(key) !== id) throw new ForeshiftError("PAYLOAD_REFUSED", { detail: "its wrapped key is not the one it names" });
    this.#remember(wrapped, key);
    return key;
  }

  #remember(wrapped: string, key: Buffer): void {
    if (this.#closing.signal.aborted) return;
    this.#known.delete(wrapped);
    this.#known.set(wrapped, { key, untilMs: this.#now() + this.#limits.unwrappedKeyLifeMs });
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= this.#limits.unwrappedKeysMax) return;
      this.#known.delete(oldest);
    }
  }

  /** Tries again while there is time. A call that takes longer goes on for whoever asks next. */
  async #inTime<T>(work: () => Promise<T>, what: string): Promise<T> {
    const { waitMs, retryFirstMs, retryLongestMs } = this.#limits;
    const over = AbortSignal.any([AbortSignal.timeout(waitMs), this.#closing.signal]);
    let last = "no answer yet";
    for (let attempt = 0; ; attempt += 1) {
      const got = await Promise.race([settled(work()), aborted(over)]);
      if (got === undefined) throw notReady(`${what}: ${last}`);
      if ("value" in got) return got.value;
      if (got.thrown instanceof ForeshiftError && got.thrown.code === "PAYLOAD_REFUSED") throw got.thrown;
      last = messageOf(got.thrown);
      const pauseMs = Math.min(retryFirstMs * 2 ** attempt, retryLongestMs);
      await delay(pauseMs, undefined, { signal: over }).catch(() => undefined);
      if (over.aborted) throw notReady(`${what}: ${last}`);
    }
  }
}

function settled<T>(work: Promise<T>): Promise<{ value: T } | { thrown: unknown }> {
  return work.then(
    (value) => ({ value }),
    (thrown: unknown) => ({ thrown }),
  );
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
}

function notReady(detail: string): ForeshiftError {
  return new ForeshiftError("NOT_READY", { value: "the payload codec", detail });
}
