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
  /** Processes that share a credentials file take turns, each no longer than its calls of Vault may take. */
  fileTurnMsMax: 20_000,
  fileTurnPollMs: 20,
  /** A secret-id on its way must be opened within this. */
  wrapTtlMs: 600_000,
  /** Of a process's certificate, when its configuration says nothing; renewed when this share has passed. */
  certificateTtlMs: 86_400_000,
  certificateTtlMsMin: 5_000,
  renewAtShare: 2 / 3,
  renewRetryFirstMs: 1_000,
  renewRetryLongestMs: 60_000,
  /** Clocks that are further apart than this are worth a word. */
  clockOffsetMsMax: 2_000,
  crlBytesMax: 4 * 1024 * 1024,
  crlEntriesMax: 100_000,
  /** How often the collector looks for a newer list in Vault, and how long it lets others wait for one. */
  crlPollMs: 500,
  crlWaitMsMax: 20_000,
  /** Between two looks of the others in Vault, while the collector does not answer. */
  crlVaultPollMs: 5_000,
  crlRetryFirstMs: 200,
  crlRetryLongestMs: 5_000,
  /** A list is made anew when this share of its life has passed. */
  crlRenewAtShare: 1 / 3,
  handshakeTimeoutMs: 3_000,
  handshakeTimeoutMsMax: 30_000,
  /** Connections over TCP whose handshake is under way; the oldest gives way to a newer one. */
  handshakesPendingMax: 256,
  connectionsMax: 4_096,
  /** Of one certificate's owner. */
  connectionsPerPeerMax: 32,
} as const;

/** What one endpoint may send. */
export const HEARTBEAT_LIMITS = {
  /** A heartbeat with every gauge and counter there is has under 20 kB. */
  bytesMax: 64 * 1024,
  /** One a second is sent; a burst after a silence, and no more. */
  perSecondMax: 5,
  burstMax: 20,
} as const;
