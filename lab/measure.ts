/**
 * What clients felt between two moments: their counters summed up, and how long each gap was.
 */
import type { ClientTraffic, LabTraffic, PacketCounters } from "./lab-client.ts";

export interface Felt {
  readonly packetsSent: number;
  readonly packetsLost: number;
  readonly packetsDuplicated: number;
  readonly tcpBroken: number;
  /** Longest gap of any client in either direction. */
  readonly longestGapMs: number;
}

export function felt(traffic: LabTraffic, clients: (client: ClientTraffic) => boolean = () => true): Felt {
  const chosen = traffic.clients.filter(clients);
  const directions = chosen.flatMap((client) => [client.up, client.down]);
  return {
    packetsSent: sum(directions, (counters) => counters.sent),
    packetsLost: sum(directions, (counters) => counters.lost),
    packetsDuplicated: sum(directions, (counters) => counters.duplicated),
    tcpBroken: chosen.reduce((total, client) => total + client.tcp.broken, 0),
    longestGapMs: Math.max(0, ...directions.map((counters) => counters.longestGapMs)),
  };
}

/**
 * Milliseconds from a fault to the end of each affected client's gap. Affected: a gap that ended after the fault and is longer than
 * `gapMsMin`, in either direction.
 */
export function recoveries(traffic: LabTraffic, faultAtMs: number, gapMsMin: number): readonly number[] {
  return traffic.clients.flatMap((client) => {
    const ends = [client.up, client.down].flatMap((counters) => gapEnd(counters, faultAtMs, gapMsMin));
    return ends.length === 0 ? [] : [Math.max(...ends) - faultAtMs];
  });
}

/**
 * The longest gap of a client, in either direction, that falls into a span of time (Unix ms). Where none of the gaps that were kept does,
 * it was shorter than the shortest of these, which is answered.
 */
export function longestGapWithin({ up, down }: ClientTraffic, fromMs: number, toMs: number): number {
  const longest = ({ gaps = [] }: PacketCounters): number => {
    const within = gaps.filter(({ ms, endedAtMs }) => endedAtMs >= fromMs && endedAtMs - ms <= toMs);
    return within.length > 0 ? Math.max(...within.map(({ ms }) => ms)) : Math.min(...gaps.map(({ ms }) => ms));
  };
  return Math.max(longest(up), longest(down));
}

/** The `share` (0..1) quantile by the nearest-rank method; undefined for no values. */
export function quantile(values: readonly number[], share: number): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

function gapEnd(counters: PacketCounters, faultAtMs: number, gapMsMin: number): readonly number[] {
  const { longestGapMs, longestGapEndedAtMs } = counters;
  const afterFault = longestGapEndedAtMs !== undefined && longestGapEndedAtMs > faultAtMs;
  return afterFault && longestGapMs > gapMsMin ? [longestGapEndedAtMs] : [];
}

function sum(all: readonly PacketCounters[], value: (counters: PacketCounters) => number): number {
  return all.reduce((total, counters) => total + value(counters), 0);
}
