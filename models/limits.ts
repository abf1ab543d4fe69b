import { TRAINING_LIMITS } from "./limits-training.ts";

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
    /** Events kept on disk until a controller has read them. */
    eventsKeptMax: 10_000,
    eventsPerAnswerMax: 500,
    eventsWaitMsMax: 30_000,
    nftTimeoutMs: 10_000,
    nftOutputBytesMax: 64 * 1024 * 1024,
    /** Buckets of the table that new sessions are spread by: one more or less is under 1 % of a member's share. */
    bucketsMin: 4_096,
    bucketsMax: 65_536,
    bucketsPerMemberMin: 128,
    /** A prober that judges a probe this much too late was held up, and so was perhaps the endpoint beside it. */
    proberLateMs: 25,
    /** So many times the misses are needed while half of the other members miss probes as well. */
    commonSilenceFactor: 2,
    /** After a miss the next probes come after this share of the interval. */
    probeHurryShare: 0.75,
    /** Outside the tunnel: a TCP connection to a port where nobody listens (tcpmux); its refusal is the answer. */
    outerProbeIntervalMs: 500,
    outerProbeTimeoutMs: 400,
    outerProbePort: 1,
    /** Weights that rise, pins that are no longer needed and devices that came or went are looked at this often. */
    tidyIntervalMs: 1_000,
    /** What the kernel holds is read and compared this often. */
    verifyIntervalMs: 30_000,
    /** The packets sent to each member are counted this often; a count that takes longer to read is left out. */
    countIntervalMs: 1_000,
    countTookMsMax: 150,
    /**
     * A pin that an ejection made, or that is no longer desired, is kept until what was learned of the client before has expired
     * (sessionTimeoutMs) and a session's next handshake (180 s at most) was seen.
     */
    pinAfterlifeMs: 420_000,
    /** Asking a shadow's agent to take sessions over; then the next shadow is asked. */
    adoptTimeoutMs: 700,
    /** Sessions that are not confirmed after this long are adopted again, this often in all. */
    adoptConfirmMs: 5_000,
    adoptAttemptsMax: 4,
    operationsKeptMax: 4_096,
    /** WireGuard's REKEY_AFTER_TIME and, a little early, REJECT_AFTER_TIME; and how long a cookie may be used. */
    probeRekeyAfterMs: 120_000,
    probeSessionLifeMs: 170_000,
    probeCookieLifeMs: 120_000,
    /** Initiations to one endpoint are at least this far apart (it takes one per 20 ms); doubled up to the longest. */
    probeHandshakeRetryFirstMs: 100,
    probeHandshakeRetryLongestMs: 1_000,
    probesOutstandingMax: 64,
    /** A table that changed under a transaction is read again and the transaction made again, this often. */
    nftAttemptsMax: 3,
    /** Inner addresses with a learned or an explicit way back. */
    returnRoutesMax: 65_536,
  },
  /** Endpoints in the balancer's table. */
  members: {
    countMax: 512,
    /** A returning member starts with this share of its weight. */
    slowStartSharePercent: 10,
    /** No weight between 0 and this is set by automation: a trickle shows nothing. */
    degradedWeightMin: 10,
    /** Smaller changes of weight than this are not worth a new table. */
    weightStepMin: 10,
  },
  /** The process beside each endpoint's WireGuard. */
  agent: {
    heartbeatIntervalMs: 1_000,
    /** How often the device is looked at, and how often while handshakes it began are under way. */
    watchIntervalMs: 200,
    watchIntervalAdoptingMs: 25,
    /** The full set of sessions goes to the reflex at least this often; counters alone go to the collector this often. */
    sessionsRepeatMs: 1_000,
    countersIntervalMs: 5_000,
    /** WireGuard's REJECT_AFTER_TIME: an older handshake's keys are not used any more. */
    sessionLifeMs: 180_000,
    /** A handshake the agent began is begun again after the first wait without an answer, doubled each time. */
    adoptRetryFirstMs: 250,
    adoptRetriesMax: 4,
    /** Then it is left to WireGuard itself. */
    adoptGiveUpMs: 10_000,
    /** A session that came without data is kept warm this long, so that the client learns of it though a packet is lost. */
    adoptWarmMs: 3_000,
    peersMax: 65_536,
    peersPerSetMax: 512,
    adoptBatchMax: 4_096,
    journalEntriesMax: 4_096,
    probePeersFirstMs: 1_000,
    probePeersIntervalMs: 1_000,
    /** A push to the reflex or the collector, and the pause before the next attempt. */
    pushTimeoutMs: 2_000,
    paceMsMax: 30_000,
    pushRetryMs: 300,
    startRetryMs: 1_000,
    requestTimeoutMs: 10_000,
    /** New processes of a namespace are looked for this often; the known ones are read with each heartbeat. */
    processSearchMs: 5_000,
    /** Interfaces whose counters are sent. */
    interfacesMax: 16,
    /** What the balancer said of its probes is of the present for this long. */
    balancerWordMsMax: 2_500,
  },
  /** PostgreSQL, for each process that opens it. */
  store: {
    connectionsMax: 8,
    connectTimeoutMs: 2_000,
    statementTimeoutMs: 2_000,
    migrationTimeoutMs: 60_000,
    /** When the server went away: in all, and the pauses between; about 3 s together. */
    attemptsMax: 6,
    retryFirstMs: 100,
    retryLongestMs: 1_000,
    auditRowsPerAnswerMax: 10_000,
    listenRetryFirstMs: 100,
    listenRetryLongestMs: 2_000,
    /** The listening connection is asked this often whether it still is one. */
    listenCheckMs: 2_000,
  },
  collector: {
    heartbeatsQueuedMax: 10_000,
    heartbeatBatchMax: 500,
    heartbeatFlushMs: 500,
    sessionDeltasPerRequestMax: 8_192,
    streamClientsMax: 1_024,
    streamCatchUpBatch: 2_000,
    /** Empty lines keep a quiet stream alive; both sides count on them. */
    streamKeepAliveMs: 2_000,
    streamIdleTimeoutMs: 8_000,
    streamReconnectFirstMs: 100,
    streamReconnectLongestMs: 2_000,
    /** A reader that lags behind by this much is cut off; it comes back and catches up by version. */
    streamUnsentBytesMax: 16 * 1024 * 1024,
    lagSamplesMax: 2_048,
    /** An endpoint whose heartbeat is older shadows no session. */
    shadowHeartbeatAgeMsMax: 10_000,
    shadowCheckMs: 500,
    migrateRetryMs: 1_000,
  },
  /** The local APIs on unix sockets, both sides. */
  http: {
    requestTimeoutMs: 5_000,
    connectTimeoutMs: 1_000,
    /** Connections to one socket at a time; more calls wait their turn. */
    connectionsMax: 16,
    /** An idle connection is closed by the client first, so that no call meets one that the server is closing. */
    clientKeepAliveMs: 4_000,
    serverKeepAliveMs: 30_000,
    answerBytesMax: 64 * 1024 * 1024,
    bodyBytesMax: 32 * 1024 * 1024,
    streamLineCharsMax: 1024 * 1024,
    /** `sun_path` of Linux, less its closing zero. */
    socketPathBytesMax: 107,
    /** A listener that accepts nothing for this long is stopped or overloaded, not gone. */
    staleProbeTimeoutMs: 1_000,
    /** Requests under way get this long to end once the server closes. */
    closeGraceMs: 2_000,
    /** A call that is repeated because it got no answer: attempts in all, and the pauses between. */
    attemptsMax: 4,
    retryFirstMs: 50,
    retryLongestMs: 400,
  },
  wireguard: {
    controlTimeoutMs: 1_000,
    commandTimeoutMs: 5_000,
    startTimeoutMs: 5_000,
    endTimeoutMs: 2_000,
    pollMs: 10,
    answerCharsMax: 32 * 1024 * 1024,
    /** Peers named in the arguments of one `wg`. */
    peersPerCommandMax: 512,
  },
  vault: {
    callTimeoutMs: 3_000,
    callTimeoutMsMax: 60_000,
    connectionsMax: 4,
    /** A token is renewed when this share of its time has passed; one that could not be, again after this; looked at once a day at least. */
    renewAtSharePercent: 50,
    renewRetryMs: 30_000,
    renewLongestMs: 86_400_000,
  },
  command: {
    outputCharsMax: 16 * 1024 * 1024,
    /** Of its standard error, the end is kept for the message. */
    errorCharsMax: 300,
  },
  lab: {
    clientsMax: 64,
    sessionsMax: 1_000,
    packetsPerSecondMax: 1_000,
    endpointsMax: 24,
    commandTimeoutMs: 20_000,
    bootTimeoutMs: 30_000,
    stopTimeoutMs: 5_000,
    faultSecondsMax: 3_600,
    buildUpSecondsDefault: 40,
    /** Of a machine that the agents' share of memory is of: four Node processes' worth, and room to leak into. */
    memoryBytesDefault: 512 * 1024 * 1024,
    memoryBytesMin: 256 * 1024 * 1024,
    /** A child of the supervisor must do its work within this. */
    processReadyTimeoutMs: 60_000,
    /** SIGTERM, then SIGKILL after this. */
    stopGraceMs: 5_000,
    restartPauseMsMin: 200,
    restartPauseMsMax: 5_000,
    vaultTimeoutMs: 5_000,
    /** Machine states and operations that labd remembers. */
    journalEntriesMax: 100_000,
    /** A numbered packet that has not arrived after this long is lost. */
    trafficSettleMs: 1_000,
    /** After a stall a traffic process catches up on packets that were due since this long; older ones are left out. */
    trafficCatchUpMs: 25,
    /** Packets back from the newest within which duplicates and late arrivals are told apart. */
    trafficWindowPackets: 65_536,
    trafficAnswerTimeoutMs: 5_000,
    /** From the swarm file to every endpoint serving. */
    swarmReadyTimeoutMs: 120_000,
    pollMs: 100,
  },
  /** The decision, models/plan.ts. */
  plan: {
    /** CPU and tunnel state of an older heartbeat say nothing. */
    heartbeatFreshMs: 5_000,
    /** No heartbeat for this long while the data path is fine: worth a page, and no more than that. */
    heartbeatLostPageMs: 30_000,
    /** The reflex does not answer for this long: worth a page. */
    reflexSilentPageMs: 10_000,
    /** Inner probes in the window below which loss and round trip say nothing. */
    probesMin: 5,
    /** A healthy endpoint is not doubted for fewer missed probes than this, whatever share they are. */
    lossMissesMin: 2,
    /** An endpoint is slow when it is slower than the median by so many spreads of the members' round trips (and by the file's bounds). */
    rttSpreads: 6,
    /** A subject is paged for again only when its cause has been gone, and this time has passed. */
    pageRepeatMs: 600_000,
    /** A launched machine that is not seen healthy after this long is taken for failed. */
    launchTimeoutMs: 180_000,
    /** A lost endpoint whose run failed is tried again after this. */
    lostRetryMs: 10_000,
    /** The balancer's weight differs from the one asked for, this long after asking: then the asking came to nothing. */
    weightSettleMs: 10_000,
    /** A signal stays on until it falls below this share of the threshold that turned it on. */
    leaveSharePercent: 80,
    /** Loss is rising when it has grown by this share of `lossCritical` since the endpoint ceased to be healthy. */
    lossRiseSharePercent: 25,
    /** More than this share (and than the budget's own) unhealthy at once, even for a moment: the measurement is doubted. */
    doubtSharePercent: 50,
    /** Weight of an endpoint that has only just become degraded, as a share of its full weight. */
    degradedFirstSharePercent: 75,
    requestsQueuedMax: 512,
  },
  /** Decisions on predictions; thresholds and costs are policy and lie in the swarm file. */
  foresight: {
    /** A risk is elevated from this share of the failure threshold. */
    elevatedShare: 0.5,
    /** Endpoints are scored so many times in the window that is looked ahead, within these bounds. */
    scoresPerWindow: 60,
    scoreIntervalMsMin: 1_000,
    scoreIntervalMsMax: 30_000,
    /** So much of the past is looked at, in windows. */
    pastShareMax: 1.5,
    /** Anomalies below this are no evidence. */
    severityMin: 0.1,
    /** A health monitor that has missed more than this does without it. */
    healthCatchUpMs: 120_000,
    /** Five minutes are forecast from when they have been written for so long; the forecasts of so much past calibrate the next. */
    demandDelayMs: 30_000,
    demandWarmUpMs: 86_400_000,
    /** Forecasts are held against what came for this long, and scored over the newest part of it. */
    forecastsKeptMs: 30 * 86_400_000,
    forecastsScoredMs: 7 * 86_400_000,
    /** The newest forecasts are for this long ahead at most; metrics look so far back for what came. */
    forecastNearMs: 2 * 3_600_000,
    /** Forecasts shown beside what came, and rows of one answer. */
    forecastsShown: 8,
    forecastRowsMax: 500,
    /** A swarm learns its day from its peers' until it has this much of its own; so many of them are looked at. */
    peersUntilMs: 2 * 86_400_000,
    peerSwarmsMax: 16,
    /** A change of the expected load that is worth telling, as a share of it. */
    demandChangeShareMin: 0.02,
    /** Until a machine that is asked for serves, before any was measured. */
    launchMsAssumed: 60_000,
    /** Rows of the last launches that are looked through; the slowest of so many is the measure. */
    launchRowsMax: 400,
    launchesMax: 5,
    /** A change of a score that is worth telling. */
    scoreChangeMin: 0.1,
    /** A risk from here on is told again and again, lest it grows stale. */
    scoreConcernMin: 0.2,
    /** While nothing changes, a watch over the risks reports after this long. */
    watchLongestMs: 300_000,
    /** Scores are explained for this long. */
    scoresKeptMs: 30 * 24 * 3_600_000,
    /** Pieces of evidence that a reason names. */
    termsShown: 2,
  },
  training: TRAINING_LIMITS,
  /** The health monitor. Grains are of 5 s. */
  health: {
    endpointsMax: 512,
    seriesPerEndpointMax: 64,
    /** Mean of own and peers' surprise from which an anomaly opens, for one series; with n of them log10(n) more. */
    enterSurprise: 1.8,
    /** So many of the newest grains have to say so, and of how many. */
    confirmations: 2,
    confirmationsOf: 3,
    /** An anomaly goes on while its surprise is above this share of what opened it, or the value outside of what was expected. */
    leaveShare: 0.5,
    calmGrains: 6,
    /** Then a lasting level is the usual one. */
    adoptAfterMs: 1_800_000,
    /** An anomaly that comes again within this is the same one. */
    restMs: 600_000,
    /** Endpoints that report a metric before anybody is compared, and the share of them that makes an anomaly everybody's. */
    peersMin: 2,
    everybodyShare: 0.5,
    /** What sends nothing for this long is forgotten. */
    forgetAfterMs: 3_600_000,
    metricsNamedMax: 4,
  },
  /** Workflows and activities. A call's own timeout is shorter than its activity's, so that the error names the cause. */
  control: {
    /** A killed worker is noticed when its heartbeats end: after this long the step is given to the next worker. */
    heartbeatIntervalMs: 1_000,
    heartbeatTimeoutMs: 5_000,
    /** One change of the balancer, the store or an agent. */
    stepTimeoutMs: 15_000,
    /** A machine boots, is repaired or ends. */
    machineTimeoutMs: 120_000,
    retryFirstMs: 200,
    retryLongestMs: 5_000,
    /** Attempts on a downstream that may be down for good; those that must succeed are tried for ever. */
    retryAttemptsMax: 8,
    /** On an endpoint that may be dead. */
    doubtfulAttemptsMax: 3,
    /** Changes of the desired state that lose the race for the epoch are made again, this often. */
    staleEpochAttemptsMax: 20,
    /** How old the stop switch may be when a step reads it. */
    stopSwitchAgeMsMax: 500,
    stopSwitchPollMs: 400,
    /** A replacement must answer its inner probe this often in a row within this time before sessions come. */
    preflightAnswersMin: 5,
    preflightTimeoutMs: 20_000,
    /** The same after a repair in place. */
    recoverTimeoutMs: 10_000,
    probePollMs: 100,
    /** Two looks at an endpoint's counters this far apart tell which sessions carry traffic. */
    trafficSampleMs: 300,
    verifyPollMs: 50,
    /**
     * Without a takeover a client that sends and hears nothing shakes hands anew after 15 s (WireGuard's KEEPALIVE_TIMEOUT and
     * REKEY_TIMEOUT); twice that, and its endpoint may be repaired under it. Looked at this often.
     */
    clientsFindOutMs: 30_000,
    takeoverPollMs: 500,
    /** Rounds over the sessions that are left on an endpoint that drains. */
    moveRoundsMax: 5,
    /** Of a WireGuard session: past this age its keys are dead (REJECT_AFTER_TIME). */
    sessionAgeMsMax: 180_000,
    /** A handshake response counts this many received bytes; more means data. */
    handshakeBytes: 92,
    watchPollMs: 200,
    machinesPollMs: 1_000,
    telemetryPollMs: 1_000,
    /** How often the watch looks whether the runs it waits for are still there. */
    runsPollMs: 30_000,
    /** A watch that saw nothing to decide reports after this long. */
    watchLongestMs: 300_000,
    /** Retry pause of the swarm's main loop when a watch failed for good. */
    watchRetryMs: 5_000,
    launchesAtOnceMax: 8,
    workerRestartFirstMs: 500,
    workerRestartLongestMs: 10_000,
    workerShutdownMs: 5_000,
    hypervisorCallsPerSecond: 20,
    balancerCallsPerSecond: 100,
    storeCallsPerSecond: 200,
    agentCallsPerSecond: 200,
    vaultCallsPerSecond: 50,
    updateTimeoutMs: 15_000,
    /** How often somebody who waits for a run looks whether it has begun. */
    runBeginPollMs: 300,
  },
  /** The person's file. */
  swarmFile: {
    bytesMax: 256 * 1024,
    aliasesMax: 100,
  },
  story: {
    steadyMs: 5_000,
    phaseTimeoutMs: 60_000,
    newsRowsMax: 500,
  },
  bench: {
    countMax: 1_000_000,
    /** A span that could not be measured is begun again, this often in all. */
    attemptsMax: 3,
    /** So long nothing has happened before a span begins, and so long that is waited for before a fresh lab is begun instead. */
    restMs: 10_000,
    restTimeoutMs: 120_000,
    /** In less time nobody could act. */
    buildUpSecondsMin: 5,
  },
  /** What agents measure and what the collector keeps of it. */
  telemetry: {
    seriesNameCharsMax: 96,
    /** Gauges of one heartbeat, and counters of one. */
    readingsMax: 256,
    /** Between two readings of a counter: a shorter time makes the rate a matter of chance, a longer one is a gap. */
    rateOverMsMin: 200,
    gapMsMax: 3_500,
    /** Behind the fastest heartbeats of the same clock. */
    lateMsMax: 10_000,
    /** As many late ones in a row are no late ones: the endpoint's clock was set. */
    lateInARowMax: 5,
    clockStepMs: 1_000,
    /** What a clock may drift in its time, parts per million: beyond what a quartz does. */
    clockDriftPpm: 200,
    /** Sequence numbers remembered, to tell a duplicate from a latecomer. */
    sequencesKeptMax: 64,
    /** The live window: one value a second. */
    windowMs: 900_000,
    stepMs: 1_000,
    endpointsMax: 2_048,
    seriesPerEndpointMax: 320,
    /** A rollup is made this long after its time is over: later than anything that is not too late. */
    rollupDelayMs: 12_000,
    rollupCheckMs: 1_000,
    /** Rows of rollups that wait for the database; the oldest go first. */
    rollupsQueuedMax: 500_000,
    rollupBatchMax: 20_000,
    minuteMs: 60_000,
    fiveMinutesMs: 300_000,
    /** Raw heartbeats, minutes, five minutes. */
    rawRetentionMs: 3 * 86_400_000,
    minuteRetentionMs: 30 * 86_400_000,
    fiveMinuteRetentionMs: 400 * 86_400_000,
    /** Partitions are made this many days ahead; looked at this often. */
    partitionsAheadDays: 3,
    partitionCheckMs: 3_600_000,
    /** Points of one answer of the store. */
    pointsPerAnswerMax: 500_000,
    /** The online statistics forget half of what they know in this time. */
    statisticsHalfLifeMs: 900_000,
    /** CPU that crosses one of these is worth waking the watch for, less this to come back down. */
    wakeCpuShares: [0.8, 0.95],
    wakeHysteresisShare: 0.05,
    wakeSilenceMs: 3_000,
  },
  /** Paths that agents measure: a connection that is refused at once, as the balancer's outer probe. */
  paths: {
    probeIntervalMs: 1_000,
    probeTimeoutMs: 900,
    probePort: 1,
    /** Over the last so many probes of a path. */
    probesKept: 30,
    /** Endpoints that one endpoint measures the way to, one of them with each probe of the balancer. */
    peersMax: 4,
    peersOfferedMax: 16,
  },
  outsideEvents: {
    bytesMax: 4 * 1024 * 1024,
    eventsMax: 10_000,
    textCharsMax: 2_000,
    idCharsMax: 200,
    /** A window that is longer is taken for a slip of the pen. */
    windowDaysMax: 400,
    pollMsMin: 1_000,
    pollMsDefault: 60_000,
    fetchTimeoutMs: 10_000,
    /** Refused entries that are named in the log of one poll. */
    refusedNamedMax: 20,
    retentionMs: 30 * 86_400_000,
  },
  backtest: {
    /** Of one file, unpacked. */
    fileBytesMax: 512 * 1024 * 1024,
    /** Load series need this much before the tested part; the model forecasts this long before it, so that it has outcomes to learn from. */
    loadDaysMin: 1,
    loadWarmUpDays: 3,
  },
} as const;
