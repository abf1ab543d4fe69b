/** Limits of the training of failure models, part of models/limits.ts. What a swarm may choose of it is policy (`foresight.retrain`). */
export const TRAINING_LIMITS = {
  /** Rows are minutes: a shorter window than this would hold too few of them. */
  windowMsMin: 240_000,
  /** Of one table. */
  rowsMax: 40_000,
  /** Longer lives are cut, at times that the endpoint's name decides. */
  pieceMs: 14_400_000,
  /** Rows of the audit trail that are looked through for what happened. */
  auditRowsMax: 100_000,
  /** Telemetry is read in slices of so much, less where one answer cannot hold it; so many points in all, the newest. */
  sliceMs: 3_600_000,
  sliceMsMin: 60_000,
  pointsMax: 20_000_000,
  /** The newest stretch that champion and challenger are compared on holds this share of the failures, and no fewer than so many. */
  unseenShare: 0.3,
  unseenFailuresMin: 3,
  /** Of one swarm; older ones go when another is taken. */
  snapshotsKeptMax: 3,
  snapshotBytesMax: 256 * 1024 * 1024,
  /** A killed trainer is noticed after this; longer than the control worker's, since a thread that trains may hold the others up. */
  heartbeatTimeoutMs: 10_000,
  /** Of one attempt at one step. */
  stepTimeoutMs: 3_600_000,
  attemptsMax: 10,
  /** Of a swarm's models that were never in use, the newest so many are kept. */
  unusedModelsKeptMax: 20,
  /** As `nice` has it: whatever else wants the processor goes first. */
  niceness: 10,
  /** Schedules: missed starts are made up for no longer than this, and starts are spread over this much. */
  catchUpMs: 3_600_000,
  jitterMs: 300_000,
  /** How often the trainer looks whether the Schedules are as the swarm files and the stop switch want them. */
  scheduleCheckMs: 5_000,
} as const;
