/**
 * Every limit of Foreshift in one file: queues, batches, tables, budgets, timeouts, retries, histories. Units come last in the name.
 * What a person may choose for one swarm is policy and lives in the swarm file (models/swarm-spec.ts); what is here is fixed.
 */
export const LIMITS = {
  /** The balancer's process. */
  reflex: {
    /** Probes that the loss and round trip of a member are taken over. */
    probeWindowMs: 3_000,
    /** Probes kept for each member and kind, whatever the window and interval. */
    probesKeptMax: 512,
    /** Slots of the `sessions` and `clients` maps of nftables. */
    sessionsMax: 65_536,
    /** WireGuard forgets a session 180 s after its handshake (REJECT_AFTER_TIME); a learned index outlives that a little. */
    sessionTimeoutMs: 240_000,
    /** Packets a second with an unknown index that are looked at, over all clients. */
    unknownIndexPps: 2_000,
    /** Sessions that are moved side by side on an ejection. */
    ejectionMovesParallel: 256,
    /** Events kept on disk until a controller has read them. */
    eventsKeptMax: 10_000,
    eventsPerAnswerMax: 500,
    eventsWaitMsMax: 30_000,
    desiredStateBytesMax: 32 * 1024 * 1024,
    nftTimeoutMs: 10_000,
  },
  /** Endpoints in the balancer's table. */
  members: {
    countMax: 512,
    weightMax: 100,
    /** A returning member starts with this share of its weight. */
    slowStartSharePercent: 10,
    /** No weight between 0 and this is set by automation: a trickle shows nothing. */
    degradedWeightMin: 10,
    /** Smaller changes of weight than this are not worth a new table. */
    weightStepMin: 10,
  },
  agent: {
    heartbeatIntervalMs: 1_000,
    sessionsIntervalMs: 250,
    peersMax: 65_536,
    adoptBatchMax: 4_096,
    requestTimeoutMs: 10_000,
    commandTimeoutMs: 5_000,
  },
  collector: {
    heartbeatsQueuedMax: 10_000,
    heartbeatBatchMax: 500,
    heartbeatFlushMs: 500,
    sessionDeltasPerRequestMax: 8_192,
    streamClientsMax: 1_024,
    streamCatchUpBatch: 2_000,
    watchWaitMsMax: 60_000,
    /** Telemetry is deleted after this. */
    telemetryRetentionMs: 14 * 86_400_000,
    databaseConnectionsMax: 10,
    statementTimeoutMs: 10_000,
  },
  http: {
    requestTimeoutMs: 5_000,
    connectTimeoutMs: 1_000,
    bodyBytesMax: 32 * 1024 * 1024,
    retriesMax: 3,
    retryFirstMs: 50,
    retryLongestMs: 1_000,
  },
  lab: {
    clientsMax: 1_000,
    endpointsMax: 16,
    commandTimeoutMs: 20_000,
    bootTimeoutMs: 30_000,
    stopTimeoutMs: 5_000,
    faultSecondsMax: 3_600,
    /** A child of the supervisor must do its work within this. */
    processReadyTimeoutMs: 60_000,
    /** SIGTERM, then SIGKILL after this. */
    stopGraceMs: 5_000,
    restartPauseMsMin: 200,
    restartPauseMsMax: 5_000,
    vaultTimeoutMs: 5_000,
    /** From the swarm file to every endpoint serving. */
    swarmReadyTimeoutMs: 120_000,
    pollMs: 100,
  },
  temporal: {
    activityTimeoutMs: 60_000,
    watchHeartbeatMs: 5_000,
    watchLongestMs: 600_000,
    retryFirstMs: 500,
    retryLongestMs: 10_000,
    retryAttemptsMax: 10,
  },
  /** The decision, models/plan.ts. */
  plan: {
    /** No heartbeat for this long: worth a page when the data path is fine. */
    heartbeatLostPageMs: 30_000,
    /** Inner probes in the window below which loss and round trip say nothing. */
    probesMin: 5,
    /** The same subject is not paged for again within this time. */
    pageRepeatMs: 600_000,
    /** A launched machine that is not seen after this long is taken for failed, and another is asked for. */
    launchTimeoutMs: 180_000,
    /** Signals stay on until they fall below this share of the threshold that turned them on. */
    leaveSharePercent: 80,
    /** A degraded endpoint's loss grows by this share of `lossCritical` within `holdMs`: rising. */
    lossRiseSharePercent: 25,
    /** Ended disruptions kept at most, beyond those the window needs. */
    disruptionsKeptMax: 1_024,
    requestsQueuedMax: 512,
    reasonCharsMax: 400,
  },
  /** The person's file. */
  swarmFile: {
    bytesMax: 256 * 1024,
    aliasesMax: 100,
  },
  story: {
    steadyMs: 5_000,
    phaseTimeoutMs: 120_000,
  },
} as const;
