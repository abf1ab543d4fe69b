/** What trials of `bench ipsec` cost, as it is printed. */
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";
import type { WireCounts } from "./wire.ts";

/** What the one client's session is like: bare, in UDP behind a network that translates ports, or with extended sequence numbers. */
export const VARIANTS = ["plain", "nat-t", "esn"] as const;
export type Variant = (typeof VARIANTS)[number];

export interface Crash {
  readonly variant: Variant;
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
  /** Replays, and what was skipped. */
  readonly refusedByShadow: number;
  readonly newSpi: boolean;
  /** Of the gateways on the wire; how many of them were in UDP, and had an extended number of 2^32 or above. */
  readonly packets: number;
  readonly packetsInUdp: number;
  readonly packetsBeyondWord: number;
}

/** One of three gateways was lost, and sessions of several clients with it. */
export interface Spread {
  readonly killed: string;
  readonly sessions: number;
  readonly tookOver: number;
  /** Answers came by the old SPIs, before new IKE SAs were begun. */
  readonly recovered: number;
  /** Sessions whose SPIs the kernel of their new gateway has, as they were. */
  readonly sameSpis: number;
  readonly onGateways: Readonly<Record<string, number>>;
  /** From the detection to the first answer of the last session; undefined: one got none. */
  readonly recoverMsMax: number | undefined;
  readonly packetsLost: number;
  /** Of clients whose gateways live. */
  readonly packetsLostOfOthers: number;
  readonly packets: number;
  readonly reused: number;
  readonly notGrowing: number;
  readonly replayed: number;
  readonly replayAccepted: number;
  readonly replayable: number;
}

/** All sessions at one rate. Rates are those of the gateway's packets to the clients; as many came back to it. */
export interface LoadStep {
  /** How often the kernel speaks: by the sysctls, or as it was told for each SA. */
  readonly pace: "sysctl" | "each SA";
  readonly sessions: number;
  readonly offeredPps: number;
  readonly carriedPps: number;
  /** Events of both directions. */
  readonly eventsPps: number;
  /** From a packet's passing until an event with its very number was read. */
  readonly wordMsP50: number | null;
  readonly wordMsP99: number | null;
  /** From any packet's passing until an event with its number or a later one was read. */
  readonly lagMsP50: number | null;
  readonly lagMsP99: number | null;
  readonly packets: number;
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
  readonly spreads: readonly Spread[];
  readonly load: readonly LoadStep[];
  readonly stock: readonly Stock[];
  readonly lagsMs: readonly number[];
  readonly wire: WireCounts;
  readonly refused: { readonly replayed: number; readonly failed: number };
}

export function figures({ crashes, moves, spreads, load, stock, lagsMs, wire, refused }: Played): object {
  return {
    packetsPerSecond: IPSEC_BENCH.packetsPerSecond,
    planned: { moves: moves.length, packetsLost: sum(moves.map(({ packetsLost }) => packetsLost)) },
    crash: { ...ofCrashes(crashes), variants: VARIANTS.map((variant) => ofVariant(crashes, variant)) },
    spread: spreads.map((spread) => ({ ...spread, recoverMsMax: spread.recoverMsMax ?? null })),
    load,
    stock: Object.fromEntries(
      stock.map(({ kind, recoverMs, watchedMs }) => [kind, { recoverMs: recoverMs ?? null, watchedMs }]),
    ),
    counters: {
      reused: wire.usedTwice,
      notGrowing: wire.notGrowing,
      packets: wire.packets,
      replayed: sum([...crashes, ...spreads].map(({ replayed }) => replayed)),
      replayAccepted: sum([...crashes, ...spreads].map(({ replayAccepted }) => replayAccepted)),
      replayable: sum([...crashes, ...spreads].map(({ replayable }) => replayable)),
      refusedByShadow: sum(crashes.map(({ refusedByShadow }) => refusedByShadow)),
      refusedByClient: refused,
      heard: lagsMs.length,
      lagMsP50: quantile(lagsMs, 0.5),
      lagMsP99: quantile(lagsMs, 0.99),
    },
  };
}

function ofCrashes(crashes: readonly Crash[]) {
  const recoveries = crashes.flatMap(({ recoverMs }) => (recoverMs === undefined ? [] : [recoverMs]));
  return {
    trials: crashes.length,
    recovered: recoveries.length,
    wentOnWithoutRekey: crashes.filter(({ wentOnWithoutRekey }) => wentOnWithoutRekey).length,
    newIkeSas: crashes.filter(({ newSpi }) => newSpi).length,
    detectionMs: IPSEC_BENCH.detectionMs,
    recoverMsP50: quantile(recoveries, 0.5),
    recoverMsP99: quantile(recoveries, 0.99),
    packetsLost: sum(crashes.map(({ packetsLost }) => packetsLost)),
    inboundJumpMax: Math.max(0, ...crashes.map(({ inboundJump }) => inboundJump)),
  };
}

function ofVariant(crashes: readonly Crash[], variant: Variant) {
  const own = crashes.filter((crash) => crash.variant === variant);
  const total = (of: (crash: Crash) => number) => sum(own.map(of));
  return {
    variant,
    ...ofCrashes(own),
    packets: total(({ packets }) => packets),
    packetsInUdp: total(({ packetsInUdp }) => packetsInUdp),
    packetsBeyondWord: total(({ packetsBeyondWord }) => packetsBeyondWord),
    replayed: total(({ replayed }) => replayed),
    replayAccepted: total(({ replayAccepted }) => replayAccepted),
    replayable: total(({ replayable }) => replayable),
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** The smallest value that this share of the values does not exceed; null of none. */
export function quantile(values: readonly number[], share: number): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  const found = sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];
  return found === undefined ? null : Math.round(found * 10) / 10;
}
