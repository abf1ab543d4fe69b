/**
 * Limits of virtual machines: their image, QEMU, and what is said over their serial lines. Part of models/limits.ts.
 */
export const MACHINE_LIMITS = {
  /** Building the image. */
  packageQueryTimeoutMs: 30_000,
  packageDownloadTimeoutMs: 10 * 60_000,
  unpackTimeoutMs: 120_000,
  packTimeoutMs: 10 * 60_000,
  imagesKeptMax: 3,
  /** Whether KVM works is tried for so long; a device that exists may hang. */
  kvmProbeTimeoutMs: 4_000,
  /** QEMU's own start, up to its greeting. */
  processStartTimeoutMs: 15_000,
  qmpTimeoutMs: 10_000,
  /** Of as much memory as a machine has, to a busy disk. */
  snapshotTimeoutMs: 60_000,
  /** Until a guest's agent answers: emulated processors on a busy machine are slow. */
  bootTimeoutMs: 90_000,
  /** Of an agent in a guest whose processor is emulated, and of its answers, while the machine boots. */
  agentAnswerTimeoutMs: 10_000,
  /** Between two looks for it: each costs the machine time that it boots with. */
  agentPollMs: 500,
  guestCommandTimeoutMs: 60_000,
  selfTestTimeoutMs: 60_000,
  guestPingTimeoutMs: 1_000,
  guestPollMs: 50,
  pollMs: 20,
  /** A guest whose host has come anew is called this often until it answers. */
  rejoinCallMs: 250,
  /** Of a console log, from its end. */
  consoleBytesMax: 64 * 1024,
  lineBytesMax: 4 * 1024 * 1024,
  endGraceMs: 2_000,
  memoryBytesDefault: 320 * 1024 * 1024,
  /** Padding of the configuration drive: QEMU wants whole sectors. */
  driveBytesMax: 1024 * 1024,
} as const;

/** What is waited for longer where guests' processors are emulated. */
export const EMULATED_LIMITS = {
  /** From the swarm file to every endpoint serving: all of them boot at once. */
  swarmReadyTimeoutMs: 300_000,
  /** Of one phase of the lab's story: a machine boots in it, and one that ends is waited for. */
  phaseTimeoutMs: 240_000,
  /** From a machine's launch until its tunnel is up: half a minute of a processor, of which four machines on two cores get half each. */
  bootTimeoutMs: 180_000,
  /** Of an image's test of itself: modules, programs and daemons are loaded one after the other. */
  selfTestTimeoutMs: 240_000,
  /** Of a connection's handshake with a guest, from either end. */
  handshakeTimeoutMs: 10_000,
  /** Of a call from a guest to Vault: a login whose answer comes too late has used up its only credentials. */
  vaultCallTimeoutMs: 30_000,
  /**
   * Of a guest's agent: a look at its device costs it ten milliseconds, an exchange with the balancer thirty. A push that is given up costs a
   * further handshake.
   */
  agentPace: {
    pushTimeoutMs: 10_000,
    watchIntervalMs: 1_000,
    watchIntervalAdoptingMs: 200,
    sessionsRepeatMs: 2_000,
  },
} as const;
