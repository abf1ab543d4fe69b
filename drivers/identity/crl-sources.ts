/**
 * Where a revocation list is to be had: from the collector, which lets one wait for the next, and from Vault itself.
 */
import { z } from "zod";
import { LIMITS } from "../../models/limits.ts";
import { IDENTITY_LIMITS } from "../../models/limits-identity.ts";
import { type Dial, NO_RETRY, UnixHttpClient } from "../http-unix.ts";
import type { Pki } from "../vault/pki.ts";
import type { CrlSource } from "./crl-keeper.ts";

/** Absent: none newer. */
const CrlAnswer = z.object({ crl: z.base64() }).optional();

/** `dial` must not check the list that it is about to fetch. */
export function collectorCrl(dial: Dial, where: string): CrlSource {
  const http = new UnixHttpClient({ socketPath: where, name: "collector", dial });
  return {
    name: "collector",
    // It waits at the collector.
    pauseMs: 0,
    async fetch(after, signal) {
      // A wait is given up for a new certificate, which the next one is made with.
      const renewed = new AbortController();
      const forget = dial.onRenewed?.(() => renewed.abort());
      try {
        return await ask(after, IDENTITY_LIMITS.crlWaitMsMax, AbortSignal.any([signal, renewed.signal]));
      } catch (thrown) {
        if (signal.aborted || !renewed.signal.aborted) throw thrown;
        return await ask(after, 0, signal);
      } finally {
        forget?.();
      }
    },
  };
  async function ask(after: bigint | undefined, longestMs: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const waitMs = after === undefined ? 0 : longestMs;
    const query = after === undefined ? "" : `?after=${after}&waitMs=${waitMs}`;
    const timeoutMs = LIMITS.http.requestTimeoutMs + waitMs;
    const answer = await http.get(`/v1/crl${query}`, { timeoutMs, retry: NO_RETRY, schema: CrlAnswer, signal });
    return answer === undefined ? undefined : Buffer.from(answer.crl, "base64");
  }
}

export function vaultCrl(pki: Pick<Pki, "crl">, pauseMs: number): CrlSource {
  return { name: "vault", pauseMs, fetch: () => pki.crl() };
}
