/**
 * What one receiver knows of one stream of numbered packets: which arrived, how often, in which order, and the longest silence.
 */
import { LIMITS } from "../models/limits.ts";

const WINDOW = LIMITS.lab.trafficWindowPackets;

export interface Received {
  /** Different packets among those asked for. */
  readonly received: number;
  readonly duplicated: number;
  readonly reordered: number;
  readonly longestGapMs: number;
  /** Unix milliseconds; undefined while the longest gap lasts, or before the first arrival. */
  readonly longestGapEndedAtMs: number | undefined;
  /** The longest gaps, in no order. */
  readonly gaps: readonly Gap[];
}

export interface Gap {
  readonly ms: number;
  /** Unix milliseconds. */
  readonly endedAtMs: number;
}

const GAPS_KEPT = 32;

/** Times are milliseconds of one monotonic clock, except where Unix time is said. */
export class ReceivedStream {
  /** Whether each of the last WINDOW packets has arrived, by sequence number modulo WINDOW. */
  readonly #seen = new Uint8Array(WINDOW);
  /** Packets before this one are not counted. */
  #base = 0;
  /** One above the highest sequence number that has arrived. */
  #end = 0;
  #unique = 0;
  #duplicated = 0;
  #reordered = 0;
  #lastArrivalMs: number;
  #longestGapMs = 0;
  #longestGapEndedAtMs: number | undefined;
  #gaps: Gap[] = [];

  constructor(nowMs: number) {
    this.#lastArrivalMs = nowMs;
  }

  /** Counts from packet `base` on, and silence from now on. */
  reset(base: number, nowMs: number): void {
    this.#base = base;
    this.#unique = this.#countSeen(base, this.#end);
    this.#duplicated = 0;
    this.#reordered = 0;
    this.#lastArrivalMs = nowMs;
    this.#longestGapMs = 0;
    this.#longestGapEndedAtMs = undefined;
    this.#gaps = [];
  }

  note(sequence: number, nowMs: number, nowUnixMs: number): void {
    this.#noteArrival(nowMs, nowUnixMs);
    if (sequence >= this.#end) {
      this.#advance(sequence);
    } else if (sequence < this.#end - WINDOW) {
      return;
    } else if (this.#seen[sequence % WINDOW] === 1) {
      if (sequence >= this.#base) this.#duplicated += 1;
      return;
    } else if (sequence >= this.#base) {
      this.#reordered += 1;
    }
    this.#seen[sequence % WINDOW] = 1;
    if (sequence >= this.#base) this.#unique += 1;
  }

  /** Of the packets from the base up to, and without, `upTo`, which must be within the window of the newest. */
  report(upTo: number, nowMs: number): Received {
    const silenceMs = nowMs - this.#lastArrivalMs;
    const lasting = silenceMs > this.#longestGapMs;
    return {
      received: this.#unique - this.#countSeen(Math.max(upTo, this.#base), this.#end),
      duplicated: this.#duplicated,
      reordered: this.#reordered,
      longestGapMs: lasting ? silenceMs : this.#longestGapMs,
      longestGapEndedAtMs: lasting ? undefined : this.#longestGapEndedAtMs,
      gaps: [...this.#gaps],
    };
  }

  #noteArrival(nowMs: number, nowUnixMs: number): void {
    const gapMs = nowMs - this.#lastArrivalMs;
    this.#lastArrivalMs = nowMs;
    this.#keep({ ms: gapMs, endedAtMs: nowUnixMs });
    if (gapMs <= this.#longestGapMs) return;
    this.#longestGapMs = gapMs;
    this.#longestGapEndedAtMs = nowUnixMs;
  }

  #keep(gap: Gap): void {
    if (this.#gaps.length < GAPS_KEPT) {
      this.#gaps.push(gap);
      return;
    }
    const shortest = this.#gaps.reduce((least, one, at) => (one.ms < (this.#gaps[least]?.ms ?? 0) ? at : least), 0);
    if (gap.ms > (this.#gaps[shortest]?.ms ?? 0)) this.#gaps[shortest] = gap;
  }

  /** Numbers between the highest so far and this one have not arrived; their places may hold older ones. */
  #advance(sequence: number): void {
    if (sequence - this.#end >= WINDOW) this.#seen.fill(0);
    else for (let skipped = this.#end; skipped < sequence; skipped += 1) this.#seen[skipped % WINDOW] = 0;
    this.#end = sequence + 1;
  }

  #countSeen(from: number, to: number): number {
    let count = 0;
    for (let sequence = Math.max(from, to - WINDOW, 0); sequence < to; sequence += 1)
      count += this.#seen[sequence % WINDOW] ?? 0;
    return count;
  }
}
