/**
 * Limits of telling overload from failure. Part of models/limits.ts.
 */
export const OVERLOAD_LIMITS = {
  /**
   * Of what clients send to it, the share that a silent endpoint has to carry to be let alone lies between these, and is what the others
   * have room for of its sessions.
   */
  carriedShareMin: 0.05,
  carriedShareMax: 0.5,
  /** Fewer packets during its silence say nothing, and a single one that came out is chance. */
  packetsMin: 6,
  passedMin: 2,
  /** Where hardly anything is sent to it, and so hardly anything is lost, so many times the misses are waited for more. */
  idleFactor: 2,
  /** Silent for so many times the misses that eject: its way back to the clients is broken, whatever comes through the way there. */
  silenceFactor: 10,
  /** An endpoint that was overloaded gets few new sessions, and takes none over, for this long. */
  holdMs: 5_000,
  /** Sessions are counted for this at most so often. */
  recountMs: 200,
  /** Two counts of packets are at least this far apart. */
  stretchMsMin: 50,
  /** Of so many packets over so long none came out: it has died since others did. */
  diedPacketsMin: 12,
  diedMsMin: 200,
  /** What came out longer ago says nothing of the present. */
  pastMsMax: 1_000,
} as const;
