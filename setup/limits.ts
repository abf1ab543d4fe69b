/** Every time limit, size and count of the set-up. */
export const SETUP_LIMITS = {
  /** How long a service may take until it answers; the first start creates its data. */
  serviceReadyTimeoutMs: 60_000,
  readyPollMs: 100,
  /** How long a service may take to end by itself before it is killed. */
  stopGraceMs: 10_000,
  /** How long the service of a parent that was killed may take to be gone. */
  predecessorTimeoutMs: 15_000,
  /** The same when its parent seems to live. */
  ownedPredecessorTimeoutMs: 1_000,
  externalTimeoutMs: 5_000,
  requestTimeoutMs: 10_000,
  /** Starts that fail because another process took the port in between are repeated on another port. */
  startAttemptsMax: 3,
  portsTriedMax: 32,
  logTailBytes: 4_096,
  logTailLines: 8,
  lockPollMs: 100,
  downloadTimeoutMs: 30 * 60_000,
  downloadPollMs: 250,
  unpackTimeoutMs: 120_000,
  packageManagerTimeoutMs: 15 * 60_000,
  probeTimeoutMs: 5_000,
  /** A test file that hangs is a failure, not a job that never ends. */
  testFileTimeoutMs: 30 * 60_000,
  diskFreeBytesMin: 2 * 1024 ** 3,
} as const;
