/**
 * Whether a shadow may go on with an SA, and from which numbers. With AES-GCM a sequence number is the nonce, so one used twice breaks the
 * SA; one accepted twice is a replay. docs/ipsec.md derives the bound.
 */
import { IPSEC_LIMITS } from "../limits-ipsec.ts";

/** What a shadow knows of one CHILD SA. */
export interface ShadowedCounters {
  readonly esn: boolean;
  readonly outbound: { readonly sequence: number };
  readonly inbound: {
    readonly sequence: number;
    readonly replayWindow: number;
    /**
     * No higher number reached the endpoint until it was fenced, as the balancer knows, which every packet of the peer passes. Undefined:
     * it does not know.
     */
    readonly passedAtMost?: number | undefined;
  };
  readonly lifetime: {
    readonly endsAtMs?: number | undefined;
    readonly bytesMax?: number | undefined;
    readonly packetsMax?: number | undefined;
  };
  readonly bytes: number;
  readonly packets: number;
}

/** Packets a second: the highest that was measured in the SA's life, for each direction (see `PeakRate`); undefined: not yet. */
export interface PeakRates {
  readonly outboundPps: number | undefined;
  readonly inboundPps: number | undefined;
}

export interface TakeoverMoment {
  /** From the reading of the counters at the endpoint until nothing more of it passes: time since the word came, and its lag. */
  readonly ageMs: number;
  readonly nowMs: number;
}

export interface TakeoverPlan {
  readonly kind: "go-on";
  /** The last number to count as sent: `replay-oseq`. */
  readonly outboundSequence: number;
  /**
   * The newest number to count as received: `replay-seq`, with an empty bitmap. It lies a whole window above the last number that can
   * have been accepted, so that everything the window would still let in is new.
   */
  readonly inboundSequence: number;
  readonly replayWindow: number;
  readonly outboundJump: number;
  readonly inboundJump: number;
}

export type RefusalReason = "stale" | "expired" | "sequence-near-its-end" | "jump-too-long" | "rate-unknown" | "bad-measure";

/** No bound can be met, or none is worth it: the shadow begins a new handshake at once. */
export interface TakeoverRefusal {
  readonly kind: "new-handshake";
  readonly reason: RefusalReason;
  readonly detail: string;
}

/** What the bound rests on. Others than the one in force exist to show that a smaller one would not do. */
export interface Bound {
  readonly factor: number;
  /** Packets a second that the sender's line carries at most; 0 leaves the measured peak alone. */
  readonly linePps: number;
}

const BOUND: Bound = { factor: IPSEC_LIMITS.jumpFactor, linePps: IPSEC_LIMITS.linePps };

/**
 * The bound. Let `peak` be the highest rate measured and `age` the time that the known counters can be old. At least
 * 2 (peak age + burst) numbers are skipped in each direction; outbound as many as the line can carry in that time if that is more,
 * because skipping outbound numbers costs nothing, while inbound ones are packets of the peer that will be refused. Inbound no more is
 * skipped than what passed the balancer: nothing else can have been accepted.
 */
export function takeOver(
  sa: ShadowedCounters,
  peaks: PeakRates,
  moment: TakeoverMoment,
  bound: Bound = BOUND,
): TakeoverPlan | TakeoverRefusal {
  const { ageMs } = moment;
  const { outboundPps, inboundPps } = peaks;
  if (outboundPps === undefined || inboundPps === undefined) return refusal("rate-unknown", "the SA is too young");
  const measures = [ageMs, outboundPps, inboundPps];
  if (!measures.every((measure) => Number.isFinite(measure) && measure >= 0))
    return refusal("bad-measure", `age and peaks are ${measures.join(", ")}`);
  if (ageMs > IPSEC_LIMITS.ageMsMax)
    return refusal("stale", `the counters are ${Math.round(ageMs)} ms old, more than ${IPSEC_LIMITS.ageMsMax} ms`);
  const expiry = expired(sa, moment.nowMs);
  if (expiry !== undefined) return expiry;

  const byPeak = (peakPps: number) => Math.ceil(bound.factor * (packetsIn(peakPps, ageMs) + IPSEC_LIMITS.burstPackets));
  const outboundJump = Math.max(byPeak(outboundPps), packetsIn(bound.linePps, ageMs));
  const { sequence, replayWindow, passedAtMost = Number.POSITIVE_INFINITY } = sa.inbound;
  const inboundJump = Math.min(byPeak(inboundPps), Math.max(0, passedAtMost - sequence));
  const outboundSequence = sa.outbound.sequence + outboundJump;
  const inboundSequence = sequence + inboundJump + replayWindow;

  const longest = Math.max(outboundJump, inboundJump + replayWindow);
  if (longest >= IPSEC_LIMITS.jumpMax) return refusal("jump-too-long", `${longest} numbers would have to be skipped`);
  const end = (sa.esn ? Number.MAX_SAFE_INTEGER : 2 ** 32 - 1) - IPSEC_LIMITS.sequenceReserve;
  const highest = Math.max(outboundSequence, inboundSequence);
  if (highest > end) return refusal("sequence-near-its-end", `number ${highest} would be beyond ${end}`);
  return { kind: "go-on", outboundSequence, inboundSequence, replayWindow, outboundJump, inboundJump };
}

function packetsIn(pps: number, ms: number): number {
  return Math.ceil((pps * ms) / 1000);
}

function expired(sa: ShadowedCounters, nowMs: number): TakeoverRefusal | undefined {
  const { endsAtMs, bytesMax, packetsMax } = sa.lifetime;
  if (endsAtMs !== undefined && nowMs >= endsAtMs) return refusal("expired", "its time is over");
  if (bytesMax !== undefined && sa.bytes >= bytesMax) return refusal("expired", "its bytes are used up");
  if (packetsMax !== undefined && sa.packets >= packetsMax) return refusal("expired", "its packets are used up");
  return undefined;
}

function refusal(reason: RefusalReason, detail: string): TakeoverRefusal {
  return { kind: "new-handshake", reason, detail };
}

/** The highest rate that a counter has shown since the SA began. It never falls while the SA lives: what came once may come again. */
export class PeakRate {
  #last: { readonly sequence: number; readonly atMs: number } | undefined;
  #peakPps: number | undefined;

  /** Undefined before two readings that are far enough apart. */
  get pps(): number | undefined {
    return this.#peakPps;
  }

  /**
   * A reading, in the order of their times; `lateMs`: what one may be late by, and the one before it not. The time between the two is
   * taken for as short as it can have been. Too near to the one before, a reading waits for the next.
   */
  read(sequence: number, atMs: number, lateMs = 0): void {
    const last = this.#last;
    if (last === undefined) {
      this.#last = { sequence, atMs };
      return;
    }
    const elapsedMs = atMs - last.atMs - lateMs;
    if (elapsedMs < IPSEC_LIMITS.rateWindowMs) return;
    // One more than counted: the reading may have come just before the next packet.
    this.#peakPps = Math.max(this.#peakPps ?? 0, ((sequence - last.sequence + 1) * 1000) / elapsedMs);
    this.#last = { sequence, atMs };
  }
}
