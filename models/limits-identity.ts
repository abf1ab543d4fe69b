/**
 * Limits of who processes are to each other: logins, certificates, revocation, what a stranger may cost. Part of models/limits.ts.
 */
export const IDENTITY_LIMITS = {
  /** A secret-id on disk is replaced this often, and with every login. */
  secretIdRollMs: 86_400_000,
  /** Of an AppRole: tokens live this long from their last renewal, secret-ids from when they were made. */
  tokenPeriodMs: 3_600_000,
  secretIdTtlMs: 30 * 86_400_000,
  /** One login takes one; more, for a process that is killed after it and before its next secret-id is on the disk. */
  secretIdUses: 5,
  /** A secret-id on its way must be opened within this. */
  wrapTtlMs: 600_000,
} as const;
