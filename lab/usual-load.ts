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
 * Where two processors emulate four machines, what others carry leaves no processor idle, and machines with nothing wrong with them look dead; with
 * 20 packets/s and a tenth of the download, six clients left a fifth of both idle.
 */
const USUAL: Readonly<Record<Processors, UsualLoad>> = {
  own: { clients: 6, packetsPerSecond: 100, tcpBytesPerSecond: 50_000 },
  emulated: { clients: 3, packetsPerSecond: 20, tcpBytesPerSecond: 5_000 },
};

/** `processors`: of the machines that carry it. */
export function usualLoad(processors: Processors): UsualLoad {
  return USUAL[processors];
}
