/**
 * The newest revocation list: fetched from whoever has it, believed only with the authority's signature, never replaced by an older one,
 * kept on disk for a start without a network. Connections of a certificate that is on it end at once.
 */
import type { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { type HeldCrl, type StaleCrlPolicy, type Standing, standing, supersedes } from "../../models/crl.ts";
import { messageOf } from "../../models/errors.ts";
import { IDENTITY_LIMITS } from "../../models/limits-identity.ts";
import { writePrivately } from "../private-file.ts";
import { verifiedCrl } from "./authority.ts";
import type { Note } from "./note.ts";

export interface CrlSource {
  readonly name: string;
  /** The list, DER; undefined: there is none newer than `after`. May wait for a newer one. */
  fetch(after: bigint | undefined, signal: AbortSignal): Promise<Uint8Array | undefined>;
  /** Between two looks at a source that does not wait by itself. */
  readonly pauseMs: number;
}

export interface CrlKeeperOptions {
  /** Asked in this order; the next one when the one before fails. */
  readonly sources: readonly CrlSource[];
  readonly authorities: () => readonly X509Certificate[];
  readonly file: string;
  readonly policy: StaleCrlPolicy;
  readonly confirmWithinMs?: number | undefined;
  readonly note: Note;
}

/** Something that lives by a certificate. */
export interface Dependent {
  readonly serial: string;
  end(why: string): void;
}

export class CrlKeeper {
  readonly #options: CrlKeeperOptions;
  readonly #dependents = new Set<Dependent>();
  readonly #onNewer = new Set<() => void>();
  #held: HeldCrl | undefined;
  #der: Uint8Array | undefined;
  #failing = false;
  #first: Promise<void> | undefined;
  #settleFirst: () => void = () => undefined;

  constructor(options: CrlKeeperOptions) {
    this.#options = options;
  }

  get held(): HeldCrl | undefined {
    return this.#held;
  }

  /** The list as it was signed, to be handed on. */
  get der(): Uint8Array | undefined {
    return this.#der;
  }

  standing(serial: string, established: boolean): Standing {
    const { policy, confirmWithinMs } = this.#options;
    return standing(serial, this.#held, { policy, confirmWithinMs, established, nowMs: Date.now() });
  }

  /** Ends it when its certificate may not be used any more; the answer lets go of it. */
  watch(dependent: Dependent): () => void {
    this.#dependents.add(dependent);
    return () => this.#dependents.delete(dependent);
  }

  /** Of certificates that something lives by, each once. */
  serialsInUse(): readonly string[] {
    return [...new Set([...this.#dependents].map(({ serial }) => serial))];
  }

  /** Calls back once a newer list is held; the answer takes the wish back. */
  onNewer(callback: () => void): () => void {
    this.#onNewer.add(callback);
    return () => this.#onNewer.delete(callback);
  }

  /** The list of the life before, if it is still the authorities'. */
  async load(): Promise<void> {
    try {
      await this.take(await readFile(this.#options.file));
    } catch {
      // None yet, or one that is no good: the sources have another.
    }
  }

  /** Takes the list if it is genuine and newer; the same one again is a confirmation. CRL_REFUSED when it is not genuine. */
  async take(der: Uint8Array): Promise<void> {
    const crl = verifiedCrl(der, this.#options.authorities());
    const held = this.#held?.crl;
    if (!supersedes(held, crl)) {
      if (held?.number === crl.number) this.#confirm();
      return;
    }
    this.#held = { crl, confirmedAtMs: Date.now() };
    this.#der = der;
    this.#endRefused();
    for (const callback of this.#onNewer) callback();
    const { number, revoked, nextUpdateMs } = crl;
    this.#options.note("info", {
      event: "crl-taken",
      number: String(number),
      revoked: revoked.size,
      endsAt: new Date(nextUpdateMs).toISOString(),
    });
    await writePrivately(this.#options.file, der).catch((thrown: unknown) =>
      this.#options.note("warn", { event: "crl-not-kept", detail: messageOf(thrown) }),
    );
  }

  /** Settles when every source was asked once, whatever came of it. */
  firstLook(): Promise<void> {
    this.#first ??= new Promise((resolve) => (this.#settleFirst = resolve));
    return this.#first;
  }

  /** Looks for newer lists, and at those who depend on the one there is, until told to stop. */
  async follow(signal: AbortSignal): Promise<void> {
    const overdue = setInterval(() => this.#endRefused(), IDENTITY_LIMITS.crlRetryLongestMs);
    let retryMs: number = IDENTITY_LIMITS.crlRetryFirstMs;
    while (!signal.aborted) {
      const pauseMs = await this.#look(signal);
      this.#settleFirst();
      retryMs =
        pauseMs === undefined ? Math.min(2 * retryMs, IDENTITY_LIMITS.crlRetryLongestMs) : IDENTITY_LIMITS.crlRetryFirstMs;
      await delay(pauseMs ?? retryMs, undefined, { signal }).catch(() => undefined);
    }
    clearInterval(overdue);
  }

  /** Milliseconds until the next look; undefined when no source had an answer. */
  async #look(signal: AbortSignal): Promise<number | undefined> {
    const failures: string[] = [];
    for (const source of this.#options.sources) {
      try {
        const der = await source.fetch(this.#held?.crl.number, signal);
        if (der === undefined) this.#confirm();
        else await this.take(der);
        if (this.#failing) this.#options.note("info", { event: "crl-reachable", source: source.name });
        this.#failing = false;
        return source.pauseMs;
      } catch (thrown) {
        if (signal.aborted) return 0;
        failures.push(`${source.name}: ${messageOf(thrown)}`);
      }
    }
    if (!this.#failing) this.#options.note("warn", { event: "crl-unreachable", detail: failures.join("; ") });
    this.#failing = true;
    return undefined;
  }

  #confirm(): void {
    if (this.#held !== undefined) this.#held = { ...this.#held, confirmedAtMs: Date.now() };
  }

  #endRefused(): void {
    for (const dependent of this.#dependents) {
      const verdict = this.standing(dependent.serial, true);
      if (verdict.use) continue;
      this.#dependents.delete(dependent);
      this.#options.note("warn", { event: "connection-ended", serial: dependent.serial, why: verdict.why });
      dependent.end(verdict.why);
    }
  }
}
