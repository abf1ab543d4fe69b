/**
 * Limits of sealed payloads: data keys wrapped by Vault's transit engine, and the codec server. Part of models/limits.ts.
 */
export const CODEC_LIMITS = {
  /**
   * What one data key may seal: nonces are random, so after 2^20 of them the odds that two met are 2^-57; bytes far below what
   * GCM allows (NIST SP 800-38D: 2^32 blocks for each nonce, here over all).
   */
  dataKeyUsesMax: 2 ** 20,
  dataKeyBytesMax: 1024 ** 3,
  /** A data key is replaced after the first; while Vault is away it goes on being used up to the second, and no longer. */
  dataKeyRefreshMs: 600_000,
  dataKeyLifeMs: 3_600_000,
  dataKeyRetryMs: 10_000,
  /** Unwrapped keys of others in memory, the least lately used go first; each is asked for again after its life. */
  unwrappedKeysMax: 4_096,
  unwrappedKeyLifeMs: 3_600_000,
  /** Whoever encodes or decodes waits so long, of the 10 s that a workflow task has; then it fails and is tried again. */
  waitMs: 6_000,
  /** Longer than a slow Vault takes: an answer that came too late for one attempt serves the next. */
  callTimeoutMs: 15_000,
  retryFirstMs: 100,
  retryLongestMs: 2_000,
  /** A data key that is not in the registry after this is thrown away, so that a rewrap that waits so long misses none. */
  registerWithinMs: 30_000,
  rewrapBatchMax: 128,
  /** The codec server: what a browser may send at a time, and who may be let in. */
  bodyBytesMax: 16 * 1024 * 1024,
  payloadsPerRequestMax: 10_000,
  /** A sign-in of a person, and the address that begins it, which is good once. */
  sessionLifeMs: 12 * 3_600_000,
  sessionsMax: 64,
  ticketLifeMs: 300_000,
  ticketsMax: 64,
  /** The Web UI behind it. */
  uiTimeoutMs: 30_000,
} as const;
