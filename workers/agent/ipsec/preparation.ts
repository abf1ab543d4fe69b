/** What is done ahead of time so that a takeover is quick: policies are installed, keys opened, and the kernel has code for the algorithms. */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import { sampleSa } from "../../../drivers/tunnel/ipsec-sas.ts";
import type { IpsecKernel } from "../../../drivers/tunnel/xfrm-kernel.ts";
import { addStateLine, deleteStateLine } from "../../../drivers/tunnel/xfrm-state.ts";
import type { TextSealer } from "../../../drivers/vault/sealed-text.ts";
import { messageOf } from "../../../models/errors.ts";
import { IPSEC_LIMITS } from "../../../models/limits-ipsec.ts";
import { kindOf, type ShadowedSessions } from "./shadowed.ts";

export interface PreparationParts {
  readonly shadowed: ShadowedSessions;
  readonly kernel: IpsecKernel;
  readonly sealer: TextSealer;
  readonly log: Logger;
}

export class Preparation {
  readonly #parts: PreparationParts;
  /** Of what is shadowed, as it was when its policies were installed and its keys opened. */
  #prepared = 0;
  #policies = "";
  /** How often policies may have gone, and how often that was mended. */
  #went = 0;
  #mended = 0;
  readonly #loaded = new Set<string>();

  constructor(parts: PreparationParts) {
    this.#parts = parts;
  }

  /** Policies first, which need no key. Keys are opened ahead of time: a takeover does not wait for Vault. Ends with `signal`. */
  async keep(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const { revision } = this.#parts.shadowed;
      const went = this.#went;
      try {
        if (went !== this.#mended) this.#policies = "";
        if (went !== this.#mended || revision !== this.#prepared) await this.#prepare();
        this.#prepared = revision;
        this.#mended = went;
      } catch (thrown) {
        this.#parts.log.warn({ event: "ipsec-keys-not-opened", detail: messageOf(thrown) });
      }
      await delay(IPSEC_LIMITS.openIntervalMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** strongSwan has taken the policies of sessions out that ended, which may have been those of a session that is shadowed here. */
  policiesWent(): void {
    this.#went += 1;
  }

  async #prepare(): Promise<void> {
    const policies = this.#parts.shadowed.policies();
    const wanted = policies.join("\n");
    if (wanted !== this.#policies) await this.#parts.kernel.batch(policies);
    this.#policies = wanted;
    const unopened = this.#parts.shadowed.unopened();
    const texts = await this.#parts.sealer.open(unopened);
    for (const [at, { key, context }] of unopened.entries()) {
      const text = texts[at];
      if (text !== undefined) this.#parts.shadowed.opened(key, text);
      else {
        this.#parts.shadowed.refused(key);
        this.#parts.log.error({ event: "ipsec-keys-refused", of: context });
      }
    }
    await this.#loadAlgorithms();
  }

  /** Ahead of time, too: the kernel loads code of algorithms when they are first used. */
  async #loadAlgorithms(): Promise<void> {
    for (const secret of this.#parts.shadowed.kinds()) {
      const kind = kindOf(secret);
      if (this.#loaded.has(kind)) continue;
      this.#loaded.add(kind);
      const sample = sampleSa(secret, randomBytes);
      try {
        await this.#parts.kernel.batch([addStateLine(sample), deleteStateLine(sample)]);
      } catch (thrown) {
        this.#parts.log.warn({ event: "ipsec-algorithms-not-loaded", detail: messageOf(thrown) });
      }
    }
  }
}
