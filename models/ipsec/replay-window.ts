/**
 * The counters of an SA as Linux keeps them (net/xfrm/xfrm_replay.c): what a sender numbers its packets with, and what a receiver's
 * replay window lets in. For judging takeovers, not for packets.
 */

const WORD = 2 ** 32;

/** Numbers packets from 1 on; `undefined` when the SA has none left, where Linux reports an error and sends nothing. */
export class SequenceSender {
  readonly #last: number;
  #sequence: number;

  constructor(esn: boolean, sequence: number) {
    this.#sequence = sequence;
    this.#last = esn ? Number.MAX_SAFE_INTEGER : WORD - 1;
  }

  get sequence(): number {
    return this.#sequence;
  }

  next(): number | undefined {
    if (this.#sequence >= this.#last) return undefined;
    this.#sequence += 1;
    return this.#sequence;
  }
}

/** A receiver. `sequence` is the newest number seen; an empty window behind it lets the numbers in that it covers, each once. */
export class ReplayWindow {
  readonly #esn: boolean;
  readonly #size: number;
  /** By number modulo the size. */
  readonly #seen: Uint8Array;
  #top: number;

  constructor(esn: boolean, size: number, sequence: number) {
    this.#esn = esn;
    this.#size = size;
    this.#top = sequence;
    this.#seen = new Uint8Array(size);
  }

  get sequence(): number {
    return this.#top;
  }

  /**
   * Whether a packet of the peer with this (whole) number is accepted. On the wire are its lower 32 bits; with ESN the receiver infers the
   * upper half, and a packet for which it infers another one fails its integrity check.
   */
  accept(sequence: number): boolean {
    if (sequence < 1) return false;
    if (this.#esn && this.#inferred(sequence % WORD) !== sequence) return false;
    if (sequence > this.#top) {
      this.#advance(sequence);
    } else {
      if (this.#top - sequence >= this.#size || this.#seen[sequence % this.#size] === 1) return false;
    }
    this.#seen[sequence % this.#size] = 1;
    return true;
  }

  #advance(sequence: number): void {
    const cleared = Math.min(sequence - this.#top, this.#size);
    for (let at = sequence - cleared + 1; at <= sequence; at += 1) this.#seen[at % this.#size] = 0;
    this.#top = sequence;
  }

  /** The whole number that the receiver takes the lower half for (RFC 4304, appendix A; xfrm_replay_seqhi). */
  #inferred(low: number): number {
    const topLow = this.#top % WORD;
    const topHigh = Math.floor(this.#top / WORD);
    const bottom = topLow - this.#size + 1;
    if (bottom >= 0) return (low < bottom ? topHigh + 1 : topHigh) * WORD + low;
    return (low >= bottom + WORD ? topHigh - 1 : topHigh) * WORD + low;
  }
}
