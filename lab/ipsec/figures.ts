/** What trials of `bench ipsec` cost, as it is printed. */
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";

export interface Crash {
  /** From the detection to the first answer; undefined: none came. */
  readonly recoverMs: number | undefined;
  /** Of it, until the balancer had moved the SPI and fenced the endpoint before. */
  readonly takeoverMs: number;
  readonly packetsLost: number;
  /** An answer came by the old SPIs, before the new IKE SA was begun. */
  readonly wentOnWithoutRekey: boolean;
  readonly outboundJump: number;
  readonly inboundJump: number;
  /** Numbers that the endpoint before may have accepted and that the shadow's window would let in again. */
  readonly replayable: number;
  /** Packets of the client that were sent once more after the takeover, and how many of them came through. */
  readonly replayed: number;
  readonly replayAccepted: number;
  /** For their numbers: replays, and what was skipped. */
  readonly refusedByShadow: number;
  readonly newSpi: boolean;
}

export interface Move {
  readonly packetsLost: number;
}

export interface Stock {
  readonly kind: "default" | "fastest";
  readonly recoverMs: number | undefined;
  readonly watchedMs: number;
}

export interface Played {
  readonly crashes: readonly Crash[];
  readonly moves: readonly Move[];
  readonly stock: readonly Stock[];
  readonly lagsMs: readonly number[];
  readonly wire: { readonly packets: number; readonly notGrowing: number; readonly usedTwice: number };
  readonly refused: { readonly replayed: number; readonly failed: number };
}

export function figures({ crashes, moves, stock, lagsMs, wire, refused }: Played): object {
  const recoveries = crashes.flatMap(({ recoverMs }) => (recoverMs === undefined ? [] : [recoverMs]));
  return {
    packetsPerSecond: IPSEC_BENCH.packetsPerSecond,
    planned: { moves: moves.length, packetsLost: sum(moves.map(({ packetsLost }) => packetsLost)) },
    crash: {
      trials: crashes.length,
      recovered: recoveries.length,
      wentOnWithoutRekey: crashes.filter(({ wentOnWithoutRekey }) => wentOnWithoutRekey).length,
      newIkeSas: crashes.filter(({ newSpi }) => newSpi).length,
      detectionMs: IPSEC_BENCH.detectionMs,
      recoverMsP50: quantile(recoveries, 0.5),
      recoverMsP99: quantile(recoveries, 0.99),
      packetsLost: sum(crashes.map(({ packetsLost }) => packetsLost)),
      inboundJumpMax: Math.max(0, ...crashes.map(({ inboundJump }) => inboundJump)),
    },
    stock: Object.fromEntries(
      stock.map(({ kind, recoverMs, watchedMs }) => [kind, { recoverMs: recoverMs ?? null, watchedMs }]),
    ),
    counters: {
      reused: wire.usedTwice,
      notGrowing: wire.notGrowing,
      packets: wire.packets,
      replayed: sum(crashes.map(({ replayed }) => replayed)),
      replayAccepted: sum(crashes.map(({ replayAccepted }) => replayAccepted)),
      replayable: sum(crashes.map(({ replayable }) => replayable)),
      refusedByShadow: sum(crashes.map(({ refusedByShadow }) => refusedByShadow)),
      refusedByClient: refused,
      heard: lagsMs.length,
      lagMsP50: quantile(lagsMs, 0.5),
      lagMsP99: quantile(lagsMs, 0.99),
    },
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** The smallest value that this share of the values does not exceed; null of none. */
function quantile(values: readonly number[], share: number): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  const found = sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];
  return found === undefined ? null : Math.round(found * 10) / 10;
}
