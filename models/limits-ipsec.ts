/**
 * Limits of shadowing IPsec sessions. Part of models/limits.ts.
 */
export const IPSEC_LIMITS = {
  /** Between two updates of a counter that changed, and what of lag they are told with: part of the age of what a shadow knows. */
  updateIntervalMs: 50,
  /** What a shadow knows may be this old at most; older, and a handshake is cheaper than a jump. */
  ageMsMax: 5_000,
  /** Packets that may come on top of any rate: what a reading rounds off, and a pair that a queue held back. */
  burstPackets: 4,
  /** A peak is measured over no less: two events a microsecond apart say nothing of a rate. */
  rateWindowMs: 100,
  /** An event of the kernel is heard so late at most, unless a later one was seen. */
  eventLateMs: 20,
  /** Jumps are at least this many times what can have been sent. */
  jumpFactor: 2,
  /**
   * Frames a second that one SA cannot exceed on its sender's link: 1 Gbit/s of the smallest Ethernet frames, 84 bytes each with
   * preamble and gap. Jumping over them costs 0.03 % of the 32-bit numbers for each second, and holds whatever the peak was.
   */
  linePps: 1_488_095,
  /** Numbers left to the sender after a jump; fewer, and the next rekey could come too late. */
  sequenceReserve: 2 ** 24,
  /** A receiver that infers the upper half of an extended number takes a longer jump for a step back. */
  jumpMax: 2 ** 31,
  /** The largest replay window of Linux (XFRMA_REPLAY_ESN_MAX). */
  replayWindowMax: 4_096,
  childrenMax: 16,
  selectorsMax: 32,
  /** Answers of `ip xfrm` that are read at once, and events of one line. */
  outputCharsMax: 16_777_216,
  viciTimeoutMs: 10_000,
  /** As strongSwan's own (VICI_MESSAGE_SIZE_MAX). */
  viciPacketBytesMax: 524_288,
  /** SPIs that the balancer steers. */
  spisMax: 65_536,
  /**
   * Which of an SA's numbers the balancer let through: one element for so many of them, kept for longer than counters may be old. 50
   * sessions of 1000 packets a second fill little more than half of it; nearly full, it may have missed some and says nothing.
   */
  passedBlock: 8,
  passedTimeoutMs: 6_000,
  passedMax: 65_536,
  passedFillMax: 0.9,
  /** Lower SPIs are reserved (RFC 4303, 2.1). */
  spiMin: 256,
  /** An IKE SA, and whose a client is, are remembered this long after the endpoint's last IKE message: two lives of an IKE SA by default. */
  ikeTimeoutMs: 28_800_000,
  /** What a word takes at most, unless a longer lag was seen; it covers what clocks that are compared over the network are apart by. */
  lagAllowedMs: 60,
  /** SAs that count nothing on are read so often, so that what is known of them is never too old to go on with. */
  readIntervalMs: 1_500,
  /** Once an SA has spoken its kernel tells of it after so many packets, or ticks (4 ms in Debian's kernels) after the last word. */
  eventPace: { packets: 64, ticks: 5 },
  /** Changes of SAs come in pairs and fours: they are read once for all that come so close together. */
  settleMs: 60,
  /** An endpoint's sessions, and a request's. */
  sessionsMax: 4_096,
  /** A shadow looks so often for sealed keys that it has not opened yet. */
  openIntervalMs: 250,
  /** Events of the kernel are read by a program that is started again so long after it ended. */
  followAgainMs: 1_000,
  /** The collector forgets a session of which nobody has said a word for so long. */
  copyLifeMs: 60_000,
  /** A word of all sessions: some 1,500 bytes for each copy. */
  wordBytesMax: 8 * 1_024 * 1_024,
  /** `ip` for a batch of lines. */
  batchTimeoutMs: 5_000,
  /** A shadow's own IKE SA with a client; strongSwan repeats what is lost, with growing pauses. */
  initiateTimeoutMs: 60_000,
  /** SAs that were gone on with live on so long beside those of the shadow's own IKE SA: packets under way. */
  overlapMs: 10_000,
  /** The reflex waits so long for a shadow's answer, which comes once SAs are in its kernel, and asks once more. */
  takeOverTimeoutMs: 4_000,
  /** An endpoint that is left hands over within this time, or is taken for one that has crashed: its clients wait. */
  handOverTimeoutMs: 2_000,
  /**
   * ESP of a client waits so long at most for SAs that are being made with it: its IKE takes a round trip and a signature. Of what waits, so many
   * bytes.
   */
  holdMsMax: 3_000,
  holdBytesMax: 16 * 1_024 * 1_024,
  /** Programs that make a client's ESP wait, or end that. */
  holdTimeoutMs: 10_000,
  /** Until the client has answered that its IKE SA is deleted; then it is gone here whatever the client says. */
  terminateTimeoutMs: 3_000,
  /** An endpoint that takes sessions over is asked so often how far it has come. */
  adoptPollMs: 500,
  /** strongSwan gives a client up after `initiateTimeoutMs`; whoever waits for it is told so within this time, after the last that had an outcome. */
  adoptPatienceMs: 75_000,
  /** All that an endpoint lets go of, asked of its agent: each client has its time, all at once. */
  letGoTimeoutMs: 15_000,
  /** Until the balancer has heard that an endpoint let its sessions go. */
  letGoKnownMs: 10_000,
  /** Deltas that an unhurried stream may be behind by, in bytes; beyond it counters are left out: the next say the same and more. */
  streamBehindBytesMax: 262_144,
  /** Lags that quantiles are over. */
  lagsKept: 4_096,
  /** Outcomes of orders that are answered again when asked again. */
  outcomesKept: 64,
} as const;

/** How `bench ipsec` plays takeovers between guests. */
export const IPSEC_BENCH = {
  /** The kernel speaks after so many packets of an SA, and after so many tenths of a second when one moved at all. */
  eventPackets: 2,
  eventTenths: 1,
  packetsPerSecond: 50,
  warmUpMs: 3_000,
  firstWordsMs: 500,
  /** As the reflex with its defaults: three probes without an answer, 100 ms apart. */
  detectionMs: 300,
  /** Under traffic after a takeover and its new IKE SA. */
  afterMs: 3_000,
  /** What a word takes at most, unless a longer lag was seen. */
  lagAllowedMs: 60,
  /** Until packets pass again, else a takeover counts as failed. */
  recoverMsMax: 30_000,
  /** Packets are waited for by the old SPIs so long, before the new IKE SA is begun. */
  oldSpiMs: 2_000,
  /** Of what is tried beside crashes and moves: each of three gateways is lost once. */
  partTrialsMax: 3,
  /** Sessions over three gateways, which one of them is lost; packets a second of each. */
  spreadSessions: 9,
  spreadPps: 20,
  /** Sessions that one gateway holds, and packets a second of each, one after the other, until fewer than this share of them pass. */
  loadSessions: 50,
  loadPps: [10, 20, 40, 80],
  loadCarriedLeast: 0.95,
  loadRampMs: 1_000,
  loadMs: 5_000,
  /** What the kernel is told for each SA: 20 ms where its ticks are 4 ms long. */
  pace: { packets: 64, ticks: 5 },
  tickMs: 4,
  /** Following is also measured by itself, as if so many packets a second came by each session. */
  readerPps: 1_000,
  readerMs: 8_000,
  readerReadyMs: 10_000,
  /**
   * What an extended counter has left of its first 2^32 numbers: outbound fewer than a takeover skips (linePps, for the detection alone),
   * inbound a little more than the packets of the warm-up.
   */
  esnOutboundLeft: 200_000,
  esnInboundLeft: 140,
  /** Stock behaviour without dead-peer detection is looked at this long. */
  stockWatchMs: 30_000,
  /** The smallest delay that strongSwan knows. */
  fastestDetection: { delaySeconds: 1 },
  /** In a planned move ESP of the new SAs waits for them at the new endpoint; once it is let go, the queue is empty after so long. */
  holdEmptyMs: 200,
  /** Of the client's packets so many are kept, and so many sent once more after a takeover, as somebody on its link could. */
  framesKept: 2_000,
  framesReplayed: 100,
  replayPauseMs: 5,
  pollMs: 5,
  installTimeoutMs: 5_000,
  scriptTimeoutMs: 90_000,
  initiateTimeoutSeconds: 60,
  waitTries: 300,
} as const;
