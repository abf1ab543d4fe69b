/**
 * Limits of telling overload from failure. Part of models/limits.ts.
 */
export const OVERLOAD_LIMITS = {
  /** An endpoint that carries at least this share of what clients send it is at work: one that is given four times what it can carry does. */
  carriedShareMin: 0.25,
  /** Fewer packets in a stretch of its silence say nothing. */
  packetsMin: 12,
  /** Silent for so many times the misses that eject: its way back to the clients is broken, whatever comes through the way there. */
  silenceFactor: 10,
  /** An endpoint that was overloaded gets few new sessions, and takes none over, for this long. */
  holdMs: 5_000,
  /** Sessions are counted for this at most so often. */
  recountMs: 200,
  /** Two counts of packets are at least this far apart. */
  stretchMsMin: 50,
} as const;
