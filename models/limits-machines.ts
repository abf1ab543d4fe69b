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
  guestCommandTimeoutMs: 60_000,
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
