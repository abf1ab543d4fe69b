/**
 * Limits of rotations of keys and of revocations. Part of models/limits.ts.
 */
export const KEY_LIMITS = {
  /** Batches of a rotation double this often at most. */
  doublingsMax: 12,
  /** Between two looks which sessions carry traffic. */
  trafficSampleMs: 500,
  verifyPollMs: 100,
  /** Clients whose keys are asked for or written at a time. */
  writesAtOnceMax: 8,
  /** Old versions that could not be destroyed: the pause before the next attempt, and how often. */
  retireRetryMs: 15_000,
  retireAttemptsMax: 240,
  /** An agent asks again for keys that Vault did not give it. */
  agentRetryMs: 1_000,
  /** A rotation that runs already is waited for by somebody who wants a further one: looked at this often. */
  underWayPollMs: 10_000,
  underWayLooksMax: 360,
  /** Clients that are named in a status or a report. */
  namedMax: 20,
  /** An endpoint that was told of a revocation is looked at this long and this often, until no session is left. */
  revokeLookMs: 5_000,
  revokePollMs: 25,
  /** Another static key: until every endpoint that serves answers to it, and how often they are asked. */
  identityUpMs: 20_000,
  identityPollMs: 100,
  /** From the last client's move, and from that of probes, until the other key's way is taken down. */
  identityOverlapMs: 1_000,
  /** What still comes through a revoked endpoint is let pass this long, while its sessions are called to their shadows. */
  expelMs: 1_000,
  /** Processes whose certificates are replaced at a time, at most. */
  certificateBatchMax: 16,
  /** Looks whether new certificates are in use and old ones are not. */
  certificatePollMs: 250,
  /** Certificates whose owner is looked up at a time. */
  certificateReadsAtOnceMax: 16,
  /** One step on one batch of clients: so many writes, endpoints and clients, and a Vault that is slow. */
  stepTimeoutMs: 180_000,
  /** Asking the provisioner: its clients may be far away. */
  provisionTimeoutMs: 15_000,
} as const;
