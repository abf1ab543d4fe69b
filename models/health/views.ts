/**
 * Four ways in which a value may be unlike its past: a shift of the level, a departure from the recent median, a shape not seen
 * before (nearest neighbours among lagged windows), another value than at this time of day. Each judges its residual by its own past.
 */
import { Recent } from "./recent.ts";
import { SlidingOrder } from "./sliding-order.ts";
import { SurpriseScale } from "./surprise.ts";

export const VIEWS = {
  /** The mean of the newest values against the mean of those before, up to a day of them at five minutes. */
  shiftLength: 16,
  shiftReferenceMin: 96,
  shiftReferenceMax: 288,
  medianLength: 96,
  /** Windows of this many values, compared with this many earlier ones; the distances to the nearest are summed. */
  shapeLength: 32,
  shapesKept: 400,
  shapeNeighbours: 10,
  shapesMin: 30,
  /** Times of day, the values kept for each, and how many make a baseline. */
  timesOfDay: 48,
  valuesPerTimeMax: 40,
  valuesPerTimeMin: 8,
  /** A residual smaller than this share of the values it came from is their rounding. */
  roundingShare: 1e-9,
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
  readonly #recent = new Recent(VIEWS.shiftLength + VIEWS.shiftReferenceMax);
  readonly #scale: SurpriseScale;

  constructor(historyLength: number) {
    this.#scale = new SurpriseScale(historyLength);
  }

  observe(value: number): number | undefined {
    const recent = this.#recent;
    recent.push(value);
    const referenceLength = recent.size - VIEWS.shiftLength;
    if (referenceLength < VIEWS.shiftReferenceMin) return undefined;
    const now = recent.mean(0, VIEWS.shiftLength);
    const before = recent.mean(VIEWS.shiftLength, referenceLength);
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
  readonly #window = new SlidingOrder(VIEWS.medianLength);
  readonly #scale: SurpriseScale;

  constructor(historyLength: number) {
    this.#scale = new SurpriseScale(historyLength);
  }

  observe(value: number): number | undefined {
    const window = this.#window;
    const surprise = window.size < window.capacity ? undefined : this.#scale.observe(residualOf(value, window.median()));
    window.push(value);
    return surprise;
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
  readonly #recent: Recent;
  readonly #scale: SurpriseScale;
  readonly #window = new Float64Array(VIEWS.shapeLength);
  readonly #nearest = new Float64Array(VIEWS.shapeNeighbours);

  constructor(historyLength: number) {
    this.#scale = new SurpriseScale(historyLength);
    this.#recent = new Recent(VIEWS.shapesKept + VIEWS.shapeLength);
  }

  observe(value: number): number | undefined {
    const recent = this.#recent;
    recent.push(value);
    const shapes = recent.size - VIEWS.shapeLength;
    if (shapes < VIEWS.shapesMin) return undefined;
    return this.#scale.observe(this.#distance(shapes));
  }

  /** Sum of the distances from the newest window to the nearest of the earlier ones. */
  #distance(shapes: number): number {
    const { shapeLength } = VIEWS;
    const window = this.#window;
    for (let lag = 0; lag < shapeLength; lag++) window[lag] = this.#recent.back(lag);
    this.#nearest.fill(Number.POSITIVE_INFINITY);
    for (let age = 1; age <= shapes; age++) this.#keep(this.#squares(age));
    let sum = 0;
    for (const squares of this.#nearest) sum += Math.sqrt(squares);
    return sum;
  }

  #squares(age: number): number {
    const worst = this.#nearest[VIEWS.shapeNeighbours - 1] ?? 0;
    let sum = 0;
    for (let lag = 0; lag < VIEWS.shapeLength; lag++) {
      const difference = (this.#window[lag] ?? 0) - this.#recent.back(age + lag);
      sum += difference * difference;
      if (sum > worst) return sum;
    }
    return sum;
  }

  #keep(squares: number): void {
    const nearest = this.#nearest;
    let place = VIEWS.shapeNeighbours - 1;
    if (squares >= (nearest[place] ?? 0)) return;
    while (place > 0 && (nearest[place - 1] ?? 0) > squares) {
      nearest[place] = nearest[place - 1] ?? 0;
      place--;
    }
    nearest[place] = squares;
  }

  snapshot(): ViewState {
    return { residuals: this.#scale.snapshot(), values: [this.#recent.values()] };
  }

  restore(state: ViewState): void {
    this.#scale.restore(state.residuals);
    for (const value of state.values[0] ?? []) this.#recent.push(value);
  }
}

export class SeasonView implements View {
  readonly #times = Array.from({ length: VIEWS.timesOfDay }, () => new SlidingOrder(VIEWS.valuesPerTimeMax));
  readonly #scale: SurpriseScale;

  constructor(historyLength: number) {
    this.#scale = new SurpriseScale(historyLength);
  }

  observe(value: number, atMs: number): number | undefined {
    const time = this.#times[timeOfDay(atMs)];
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
function timeOfDay(atMs: number): number {
  const ofDayMs = ((atMs % DAY_MS) + DAY_MS) % DAY_MS;
  return Math.min(VIEWS.timesOfDay - 1, Math.floor((ofDayMs / DAY_MS) * VIEWS.timesOfDay));
}
