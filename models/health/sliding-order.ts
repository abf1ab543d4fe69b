/** The newest values of a stream in order of size: ranks and quantiles of a sliding window, a few hundred nanoseconds a value. */
export class SlidingOrder {
  readonly capacity: number;
  readonly #sorted: Float64Array;
  /** Ring of the same values in order of arrival; `#next` is where the next one goes, which is the oldest once it is full. */
  readonly #arrivals: Float64Array;
  #next = 0;
  #size = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#sorted = new Float64Array(capacity);
    this.#arrivals = new Float64Array(capacity);
  }

  get size(): number {
    return this.#size;
  }

  /** How many of the values are smaller than `value`. */
  countBelow(value: number): number {
    let low = 0;
    let high = this.#size;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.at(middle) < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The value with `rank` smaller ones before it; 0 <= rank < size. */
  at(rank: number): number {
    return this.#sorted[rank] ?? Number.NaN;
  }

  /** The upper median, NaN while empty. */
  median(): number {
    return this.at(this.#size >> 1);
  }

  /** Takes a value in; the oldest leaves once the window is full. */
  push(value: number): void {
    if (this.#size === this.capacity) {
      const leaving = this.countBelow(this.#arrivals[this.#next] ?? Number.NaN);
      this.#sorted.copyWithin(leaving, leaving + 1, this.#size);
      this.#size--;
    }
    const place = this.countBelow(value);
    this.#sorted.copyWithin(place + 1, place, this.#size);
    this.#sorted[place] = value;
    this.#size++;
    this.#arrivals[this.#next] = value;
    this.#next = (this.#next + 1) % this.capacity;
  }

  /** The values, oldest first: pushing them into an empty window of the same capacity restores this one. */
  arrivals(): number[] {
    const first = this.#size === this.capacity ? this.#next : 0;
    return Array.from({ length: this.#size }, (_, index) => this.#arrivals[(first + index) % this.capacity] ?? Number.NaN);
  }
}
