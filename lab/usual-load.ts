/** What the lab's clients send unless somebody says otherwise. */
import type { Processors } from "../models/patience.ts";

export interface UsualLoad {
  readonly clients: number;
  /** Numbered packets, for each client and direction. */
  readonly packetsPerSecond: number;
  /** Of each session's download. */
  readonly tcpBytesPerSecond: number;
}

/**
 * Two processors that emulate four machines pass three hundred packets a second in all, and each of them takes a millisecond or more; with more,
 * machines with nothing wrong with them look dead.
 */
const USUAL: Readonly<Record<Processors, UsualLoad>> = {
  own: { clients: 6, packetsPerSecond: 100, tcpBytesPerSecond: 50_000 },
  emulated: { clients: 3, packetsPerSecond: 20, tcpBytesPerSecond: 5_000 },
};

/** `processors`: of the machines that carry it. */
export function usualLoad(processors: Processors): UsualLoad {
  return USUAL[processors];
}
