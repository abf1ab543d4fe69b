/**
 * Keeps a process's Vault token alive: an endpoint that runs for months must still read the preshared key of a client that is new.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import type { Vault } from "../drivers/vault/vault.ts";
import { messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";

/** Renews for as long as it is wanted. Keys that were read before stay in memory whatever happens to the token. */
export async function keepToken(secrets: Pick<Vault, "renewToken">, log: Logger, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const pauseMs = await renew(secrets, log);
    await delay(pauseMs, undefined, { signal }).catch(() => undefined);
  }
}

/** Milliseconds until the next time. */
async function renew(secrets: Pick<Vault, "renewToken">, log: Logger): Promise<number> {
  const { renewAtSharePercent, renewRetryMs, renewLongestMs } = LIMITS.vault;
  try {
    const leftMs = await secrets.renewToken();
    log.info({ event: "vault-token-renewed", leftMs });
    const dueMs = leftMs === undefined ? renewLongestMs : (leftMs * renewAtSharePercent) / 100;
    return Math.min(renewLongestMs, Math.max(renewRetryMs, dueMs));
  } catch (thrown) {
    log.warn({ event: "vault-token-not-renewed", detail: messageOf(thrown) });
    return renewRetryMs;
  }
}
