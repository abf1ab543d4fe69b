/**
 * Limits of what is asked of a cloud provider. Part of models/limits.ts.
 */
export const CLOUD_LIMITS = {
  connectTimeoutMs: 3_000,
  requestTimeoutMs: 20_000,
  /** Attempts of one call, the SDK's own and adaptive: it also slows down by itself while it is throttled. */
  callAttemptsMax: 6,
  /** A machine that boots, one that stops with its memory written to disk, and one that must become visible after its launch. */
  bootTimeoutMs: 600_000,
  stopTimeoutMs: 600_000,
  /** A launch that nobody has brought to its end by then never will be: all attempts of its step are over. */
  abandonedAfterMs: 1_800_000,
  consistencyTimeoutMs: 60_000,
  /** While something is waited for, all who wait look together, this often. */
  lookIntervalMs: 2_000,
  /** Machines of one page of a description: the most that EC2 answers. */
  describePageSize: 1_000,
  /** Calls on single machines that come within this time go out as one. */
  batchWaitMs: 20,
  batchSizeMax: 100,
  /** A type that had no capacity in a zone is tried there last for this long. */
  noCapacityMemoryMs: 300_000,
  launchTriesMax: 64,
  /** What a machine's tag holds of the keys that were carried out on it: 256 characters at most. */
  journalKeysMax: 15,
  /** The provider's word on its machines is this fresh at least. */
  noticesIntervalMs: 15_000,
  /** An instance's own metadata service, which is on its host. */
  metadataIntervalMs: 5_000,
  metadataTimeoutMs: 2_000,
  metadataTokenS: 21_600,
  /** What user data wants run before an instance's agent begins. */
  prepareTimeoutMs: 60_000,
  /** The same dynamic update is sent again after this long; how far the clocks of both sides may be apart. */
  dnsRepeatMs: 600_000,
  dnsFudgeS: 300,
  /** What the provider says of an error, as far as it is passed on. */
  messageCharsMax: 300,
} as const;
