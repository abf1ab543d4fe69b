/**
 * Limits of the runs that a swarm begins. Part of models/limits.ts.
 */
export const RUN_LIMITS = {
  /** Waits between attempts to begin a run while a former one of its id, which has said its last word, has not quite ended. */
  beginAgainAfterMs: [50, 100, 200, 400, 800],
} as const;
