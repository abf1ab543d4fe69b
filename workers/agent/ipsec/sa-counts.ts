/** How far the kernel's SAs have counted: read from time to time, and followed by the kernel's own events in between. The clock is given. */
import type { XfrmCounters } from "../../../drivers/tunnel/xfrm-events.ts";
import type { XfrmState } from "../../../drivers/tunnel/xfrm-state.ts";
import { PeakRate } from "../../../models/ipsec/takeover.ts";
import { IPSEC_LIMITS } from "../../../models/limits-ipsec.ts";

/** By the collector's clock: the kernel was asked at `atMs`, and had answered by `untilMs`. */
export interface ReadAt {
  readonly atMs: number;
  readonly untilMs: number;
}

/** What names an SA: one host has no two of them. */
export type SaName = Pick<XfrmState, "destination" | "spi">;

interface Counters {
  readonly sequence: number;
  /** Bitmap of the replay window. */
  readonly seen: string;
  readonly bytes: number;
  readonly packets: number;
}

interface Counted extends Counters {
  /** When the kernel said so, by the collector's clock. */
  readonly atMs: number;
  readonly peak: PeakRate;
}

export class SaCounts {
  readonly #counted = new Map<string, Counted>();
  /** The last reading, which tells how late an event is. */
  readonly #read = new Map<string, { readonly sequence: number; readonly untilMs: number }>();
  /** SAs that have spoken and were not given a pace of their own yet, and those that were. */
  readonly #spoken = new Map<string, SaName>();
  readonly #paced = new Set<string>();
  #eventLagMs = 0;

  /** The longest that an event of the kernel was seen to take until it was heard here. */
  get eventLagMs(): number {
    return this.#eventLagMs;
  }

  of(sa: SaName): Counted | undefined {
    return this.#counted.get(keyOf(sa));
  }

  /** Of all SAs that there are: others are forgotten. */
  read(states: readonly XfrmState[], { atMs, untilMs }: ReadAt): void {
    this.#read.clear();
    for (const state of states) {
      const counters = countersOf(state);
      this.#count(keyOf(state), counters, atMs);
      this.#read.set(keyOf(state), { sequence: counters.sequence, untilMs });
    }
    for (const known of [this.#counted, this.#paced, this.#spoken])
      for (const key of known.keys()) if (!this.#read.has(key)) known.delete(key);
  }

  /** True when it is of an SA that is known. */
  heard(event: XfrmCounters, atMs: number): boolean {
    const key = keyOf(event);
    if (!this.#counted.has(key)) return false;
    const { destination, spi } = event;
    if (!this.#paced.has(key)) this.#spoken.set(key, { destination, spi });
    const sequence = Math.max(event.inboundSequence, event.outboundSequence);
    const read = this.#read.get(key);
    // The kernel had counted further when it was read: the event was under way since before that.
    if (read !== undefined && sequence < read.sequence) this.#eventLagMs = Math.max(this.#eventLagMs, atMs - read.untilMs);
    const counters = { sequence, seen: event.seen ?? "0", bytes: event.bytes, packets: event.packets };
    this.#count(key, counters, atMs - this.#eventLagMs);
    return true;
  }

  /** SAs that are to be given a pace: the kernel's timer is begun by an event, so that it is of use after the first. Each is answered once. */
  toBePaced(): readonly SaName[] {
    const spoken = [...this.#spoken];
    this.#spoken.clear();
    for (const [key] of spoken) this.#paced.add(key);
    return spoken.map(([, sa]) => sa);
  }

  #count(key: string, counters: Counters, atMs: number): void {
    const known = this.#counted.get(key);
    const peak = known?.peak ?? new PeakRate();
    // A reading that an event has overtaken says nothing.
    if (known !== undefined && (counters.sequence < known.sequence || atMs < known.atMs)) return;
    peak.read(counters.sequence, atMs, Math.max(IPSEC_LIMITS.eventLateMs, this.#eventLagMs));
    this.#counted.set(key, { ...counters, atMs, peak });
  }
}

export function keyOf({ destination, spi }: SaName): string {
  return `${destination} ${spi}`;
}

function countersOf({ inboundSequence, outboundSequence, seen, bytes, packets }: XfrmState): Counters {
  return { sequence: Math.max(inboundSequence, outboundSequence), seen, bytes, packets };
}
