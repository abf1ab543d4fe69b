/**
 * Limits of image rollouts. Part of models/limits.ts.
 */
export const ROLL_LIMITS = {
  /** Replacements that may fail one after the other: one can fail for its own reasons, the second says that it is the image. */
  failuresInARowMax: 2,
  /** Endpoints that are remembered with what was seen of them: those there were and those that replaced them, of the largest swarm. */
  seenMax: 1_024,
  /** The first of a rollout, on its own: what is wrong with every machine of an image shows on one. */
  firstBatchEndpoints: 1,
} as const;
