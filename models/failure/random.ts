/** Seeded pseudo-random numbers, so that the same data and seed train the same model anywhere. */
import { seededRandom } from "../random.ts";

export class Random {
  /** Uniform in [0, 1). */
  readonly next: () => number;

  constructor(seed: number) {
    this.next = seededRandom(seed);
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
