/**
 * Limits of growing with the load, and of leading sessions away from where there are too many. Part of models/limits.ts.
 */
export const SCALING_LIMITS = {
  /** Runs that add endpoints at a time: one that waits for a launch does not hold up the next, and no rush asks for machines without end. */
  addRunsMax: 3,
  /** Endpoints whose excess is led away at a time: the swarm's own bound for this, since none of them leaves service. */
  relieveRunsMax: 2,
  /** Sessions that one such run leads away; what is more is another run's. */
  relieveSessionsMax: 64,
  /** Sessions that have come over are counted where they are by then. Until then they count as on their way. */
  relieveSettleMs: 3_000,
} as const;
