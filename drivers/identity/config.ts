/**
 * How a process identifies itself to the others; no secret.
 */
import { z } from "zod";
import { IDENTITY_LIMITS } from "../../models/limits-identity.ts";

export const IdentityConfig = z.strictObject({
  /** Private folder of this process: its key, certificate and the last revocation list. */
  dir: z.string().min(1),
  certificateTtlMs: z.number().int().min(IDENTITY_LIMITS.certificateTtlMsMin).default(IDENTITY_LIMITS.certificateTtlMs),
  /** Of the handshakes of its connections, from a connection's begin; absent: as long as one of our processes needs. */
  handshakeTimeoutMs: z.number().int().min(100).max(IDENTITY_LIMITS.handshakeTimeoutMsMax).optional(),
  /** While no revocation list is valid: what becomes of new connections, and of those there are. A revoked certificate is out anyhow. */
  staleCrl: z
    .strictObject({
      newConnections: z.enum(["refuse", "accept"]).default("refuse"),
      established: z.enum(["keep", "close"]).default("keep"),
    })
    .prefault({}),
  /** Silence of every source that makes a list stale before its own end; absent: its end alone does. */
  confirmCrlWithinMs: z.number().int().min(1_000).optional(),
});
export type IdentityConfig = z.infer<typeof IdentityConfig>;
