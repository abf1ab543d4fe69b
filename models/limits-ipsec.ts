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
} as const;

/** How `bench ipsec` plays takeovers between guests. */
export const IPSEC_BENCH = {
  /** The kernel speaks after so many packets of an SA, and after so many tenths of a second when one moved at all. */
  eventPackets: 2,
  eventTenths: 1,
  packetsPerSecond: 50,
  warmUpMs: 3_000,
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
  /** Stock behaviour without dead-peer detection is looked at this long. */
  stockWatchMs: 30_000,
  /** The smallest delay that strongSwan knows. */
  fastestDetection: { delaySeconds: 1 },
  /** In a planned move ESP of the new SAs waits for them this long at the new endpoint, and then so much less in each step. */
  holdMs: 600,
  holdStepMs: 100,
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
