/** The newest values of a stream in order of arrival, in a ring of fixed length. */
export class Recent {
  readonly capacity: number;
  readonly #ring: Float64Array;
  #next = 0;
  #size = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#ring = new Float64Array(capacity);
  }

  get size(): number {
    return this.#size;
  }

  push(value: number): void {
    this.#ring[this.#next] = value;
    this.#next = this.#next + 1 === this.capacity ? 0 : this.#next + 1;
    if (this.#size < this.capacity) this.#size++;
  }

  /** The value that came `age` values before the newest one; 0 <= age < size. */
  back(age: number): number {
    const index = this.#next - 1 - age;
    return this.#ring[index < 0 ? index + this.capacity : index] ?? Number.NaN;
  }

  /** Mean of the values from `age` (the youngest of them) on, `length` of them. Summed anew: running sums drift. */
  mean(age: number, length: number): number {
    let sum = 0;
    for (let offset = 0; offset < length; offset++) sum += this.back(age + offset);
    return sum / length;
  }

  /** Oldest first. */
  values(): number[] {
    return Array.from({ length: this.#size }, (_, index) => this.back(this.#size - 1 - index));
  }
}
