/** Seeded pseudo-random numbers, so that the same data and seed train the same model anywhere. */

/** mulberry32 (T. Ettinger, public domain): uniform in [0, 1), period 2^32, one 32-bit word of state. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** A whole number in [0, end). */
  below(end: number): number {
    return Math.floor(this.next() * end);
  }

  /** Standard normal, by Box and Muller. */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next());
  }

  /** Puts `count` of the items, drawn without replacement, at the front. */
  shuffleFront(items: Int32Array, count: number): void {
    for (let i = 0; i < count && i < items.length - 1; i++) {
      const other = i + this.below(items.length - i);
      const held = items[i] as number;
      items[i] = items[other] as number;
      items[other] = held;
    }
  }
}
