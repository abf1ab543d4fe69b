/**
 * Four ways in which a value may be unlike its past: a shift of the level, a departure from the recent median, a shape not seen
 * before (nearest neighbours among lagged windows), another value than at this time of day. Each judges its residual by its own past.
 */
import { Recent } from "./recent.ts";
import { SlidingOrder } from "./sliding-order.ts";
import { SurpriseScale } from "./surprise.ts";

export interface ShiftLengths {
  /** The mean of so many newest values against the mean of those before, from `referenceMin` up to `referenceMax` of them. */
  readonly length: number;
  readonly referenceMin: number;
  readonly referenceMax: number;
}

export interface SeasonLengths {
  readonly timesOfDay: number;
  /** Values kept for each time of day: the newest. */
  readonly valuesMax: number;
}

/** Windows of so many values (an even number), compared with so many earlier ones. */
export interface ShapeLengths {
  readonly length: number;
  readonly kept: number;
}

const VIEWS = {
  shapeNeighbours: 10,
  shapesMin: 30,
  shapeStride: 2,
  /** Fewer values make no baseline for a time of day. */
  valuesPerTimeMin: 8,
  /** A residual smaller than this share of the values it came from is their rounding. */
  roundingShare: 1e-12,
} as const;

const DAY_MS = 86_400_000;

/** A view takes values one by one and says how surprising each is given those before; undefined until it can say anything. */
export interface View {
  observe(value: number, atMs: number): number | undefined;
  snapshot(): ViewState;
  restore(state: ViewState): void;
}

/** What a view remembers: its residuals, and the values it judges by (one list for each time of day, else one). */
export interface ViewState {
  readonly residuals: readonly number[];
  readonly values: readonly (readonly number[])[];
}

/** Difference of two figures, zero where it is but the rounding of them. */
function residualOf(value: number, reference: number): number {
  const difference = Math.abs(value - reference);
  return difference <= VIEWS.roundingShare * Math.max(Math.abs(value), Math.abs(reference)) ? 0 : difference;
}

export class ShiftView implements View {
  readonly #lengths: ShiftLengths;
  readonly #recent: Recent;
  readonly #scale: SurpriseScale;

  constructor(lengths: ShiftLengths, historyLength: number, learnAfter: number) {
    this.#lengths = lengths;
    this.#recent = new Recent(lengths.length + lengths.referenceMax);
    this.#scale = new SurpriseScale(historyLength, learnAfter);
  }

  observe(value: number): number | undefined {
    const recent = this.#recent;
    recent.push(value);
    const { length, referenceMin } = this.#lengths;
    const referenceLength = recent.size - length;
    if (referenceLength < referenceMin) return undefined;
    const now = recent.mean(0, length);
    const before = recent.mean(length, referenceLength);
    return this.#scale.observe(residualOf(now, before));
  }

  snapshot(): ViewState {
    return { residuals: this.#scale.snapshot(), values: [this.#recent.values()] };
  }

  restore(state: ViewState): void {
    this.#scale.restore(state.residuals);
    for (const value of state.values[0] ?? []) this.#recent.push(value);
  }
}

export class MedianView implements View {
  readonly #window: SlidingOrder;
  readonly #scale: SurpriseScale;

  constructor(length: number, historyLength: number, learnAfter: number) {
    this.#window = new SlidingOrder(length);
    this.#scale = new SurpriseScale(historyLength, learnAfter);
  }

  observe(value: number): number | undefined {
    const window = this.#window;
    const surprise = window.size < window.capacity ? undefined : this.#scale.observe(residualOf(value, window.median()));
    window.push(value);
    return surprise;
  }

  /** The recent median and how far from it `share` of the values were; undefined until there are enough. */
  usual(share: number): { readonly middle: number; readonly reach: number } | undefined {
    const reach = this.#scale.quantile(share);
    return reach === undefined ? undefined : { middle: this.#window.median(), reach };
  }

  snapshot(): ViewState {
    return { residuals: this.#scale.snapshot(), values: [this.#window.arrivals()] };
  }

  restore(state: ViewState): void {
    this.#scale.restore(state.residuals);
    for (const value of state.values[0] ?? []) this.#window.push(value);
  }
}

/** Conformal nearest-neighbour distance of lagged windows, as in KNN-CAD (Burnaev and Ishimtsev 2016, arXiv:1608.04585). */
export class ShapeView implements View {
  readonly #length: number;
  readonly #capacity: number;
  /** The newest values in one piece, twice the room they need: moved to the front when the room is used up. */
  readonly #line: Float64Array;
  #end = 0;
  readonly #scale: SurpriseScale;
  readonly #nearest = new Float64Array(VIEWS.shapeNeighbours);

  constructor({ length, kept }: ShapeLengths, historyLength: number, learnAfter: number) {
    this.#length = length;
    this.#capacity = kept + length;
    this.#line = new Float64Array(2 * this.#capacity);
    this.#scale = new SurpriseScale(historyLength, learnAfter);
  }

  observe(value: number): number | undefined {
    this.#push(value);
    const shapes = Math.min(this.#end, this.#capacity) - this.#length;
    if (shapes < VIEWS.shapesMin) return undefined;
    return this.#scale.observe(this.#distance(shapes));
  }

  #push(value: number): void {
    if (this.#end === this.#line.length) {
      this.#line.copyWithin(0, this.#end - this.#capacity + 1);
      this.#end = this.#capacity - 1;
    }
    this.#line[this.#end] = value;
    this.#end++;
  }

  /** Sum of the distances from the newest window to the nearest of every other earlier one: neighbours in time are near copies. */
  #distance(shapes: number): number {
    this.#nearest.fill(Number.POSITIVE_INFINITY);
    const start = this.#end - this.#length;
    let worst = Number.POSITIVE_INFINITY;
    for (let age = 1; age <= shapes; age += VIEWS.shapeStride) {
      const squares = this.#squares(start, start - age, worst);
      if (squares < worst) worst = this.#keep(squares);
    }
    let sum = 0;
    for (const squares of this.#nearest) sum += Math.sqrt(squares);
    return sum;
  }

  /** Squared distance of the windows that begin at two places; given up once it is beyond `worst`. */
  #squares(one: number, other: number, worst: number): number {
    const line = this.#line;
    let sum = 0;
    for (let index = this.#length - 1; index > 0; index -= 2) {
      const newer = (line[one + index] ?? 0) - (line[other + index] ?? 0);
      const older = (line[one + index - 1] ?? 0) - (line[other + index - 1] ?? 0);
      sum += newer * newer + older * older;
      if (sum > worst) return sum;
    }
    return sum;
  }

  /** Takes it among the nearest, and says how far the farthest of them is. */
  #keep(squares: number): number {
    const nearest = this.#nearest;
    let place = VIEWS.shapeNeighbours - 1;
    while (place > 0 && (nearest[place - 1] ?? 0) > squares) {
      nearest[place] = nearest[place - 1] ?? 0;
      place--;
    }
    nearest[place] = squares;
    return nearest[VIEWS.shapeNeighbours - 1] ?? 0;
  }

  snapshot(): ViewState {
    const values = [...this.#line.subarray(Math.max(0, this.#end - this.#capacity), this.#end)];
    return { residuals: this.#scale.snapshot(), values: [values] };
  }

  restore(state: ViewState): void {
    this.#scale.restore(state.residuals);
    for (const value of state.values[0] ?? []) this.#push(value);
  }
}

export class SeasonView implements View {
  readonly #times: readonly SlidingOrder[];
  readonly #scale: SurpriseScale;

  constructor({ timesOfDay, valuesMax }: SeasonLengths, historyLength: number, learnAfter: number) {
    this.#times = Array.from({ length: timesOfDay }, () => new SlidingOrder(valuesMax));
    this.#scale = new SurpriseScale(historyLength, learnAfter);
  }

  observe(value: number, atMs: number): number | undefined {
    const time = this.#times[timeOfDay(atMs, this.#times.length)];
    if (time === undefined) return undefined;
    const surprise = time.size < VIEWS.valuesPerTimeMin ? undefined : this.#scale.observe(residualOf(value, time.median()));
    time.push(value);
    return surprise;
  }

  snapshot(): ViewState {
    return { residuals: this.#scale.snapshot(), values: this.#times.map((time) => time.arrivals()) };
  }

  restore(state: ViewState): void {
    this.#scale.restore(state.residuals);
    state.values.forEach((values, index) => {
      for (const value of values) this.#times[index]?.push(value);
    });
  }
}

/** Index of the time of day (UTC), also before 1970. */
function timeOfDay(atMs: number, timesOfDay: number): number {
  const ofDayMs = ((atMs % DAY_MS) + DAY_MS) % DAY_MS;
  return Math.min(timesOfDay - 1, Math.floor((ofDayMs / DAY_MS) * timesOfDay));
}
