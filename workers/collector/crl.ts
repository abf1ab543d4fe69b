/**
 * The collector as the publisher of the revocation list: has it made anew before it ends, and hands it to everybody, the next one as soon
 * as it is there.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import type { CrlKeeper } from "../../drivers/identity/crl-keeper.ts";
import type { ProcessIdentity } from "../../drivers/identity/process-identity.ts";
import type { Pki } from "../../drivers/vault/pki.ts";
import { messageOf } from "../../models/errors.ts";
import { IDENTITY_LIMITS } from "../../models/limits-identity.ts";

export class CrlPublisher {
  readonly #keeper: CrlKeeper;
  readonly #onRenewed: ProcessIdentity["onRenewed"];
  readonly #pki: Pick<Pki, "crl" | "renewCrl">;
  readonly #log: Logger;

  constructor(parts: {
    identity: Pick<ProcessIdentity, "crl" | "onRenewed">;
    pki: Pick<Pki, "crl" | "renewCrl">;
    log: Logger;
  }) {
    this.#keeper = parts.identity.crl;
    this.#onRenewed = (callback) => parts.identity.onRenewed(callback);
    this.#pki = parts.pki;
    this.#log = parts.log;
  }

  /**
   * The list, DER in base64, if it is newer than `after`; waits for one up to `waitMs`. Undefined: none. A wait ends with this process's
   * certificate: the next one is made over a connection with the new one.
   */
  async newerThan(after: bigint | undefined, waitMs: number): Promise<string | undefined> {
    if (!this.#isNewer(after) && waitMs > 0) await this.#nextList(waitMs);
    const { der } = this.#keeper;
    return der !== undefined && this.#isNewer(after) ? Buffer.from(der).toString("base64") : undefined;
  }

  /** Looks in Vault now: somebody has just revoked. Answers the list's number. */
  async refresh(): Promise<string> {
    await this.#keeper.take(await this.#pki.crl());
    return String(this.#keeper.held?.crl.number);
  }

  async keepFromEnding(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const crl = this.#keeper.held?.crl;
      if (crl !== undefined) {
        const { thisUpdateMs, nextUpdateMs } = crl;
        const dueAtMs = thisUpdateMs + (nextUpdateMs - thisUpdateMs) * IDENTITY_LIMITS.crlRenewAtShare;
        if (Date.now() >= dueAtMs) await this.#renew();
      }
      await delay(IDENTITY_LIMITS.crlRetryLongestMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async #renew(): Promise<void> {
    try {
      await this.#pki.renewCrl();
      await this.refresh();
    } catch (thrown) {
      this.#log.warn({ event: "crl-not-renewed", detail: messageOf(thrown) });
    }
  }

  #isNewer(after: bigint | undefined): boolean {
    const number = this.#keeper.held?.crl.number;
    return number !== undefined && (after === undefined || number > after);
  }

  #nextList(waitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        for (const letGo of wishes) letGo();
        resolve();
      };
      const timer = setTimeout(end, waitMs);
      const wishes = [this.#keeper.onNewer(end), this.#onRenewed(end)];
    });
  }
}
