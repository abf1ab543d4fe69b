/**
 * What is expected of the next value when little was seen: Student's t around a mean that is learned, on a scale where equal steps are
 * equal ratios. It begins with what is usual of metrics of this kind and believes the series as much as it has seen of it.
 */
import { Recent } from "./recent.ts";

/** What is known of a kind of metric before it was seen. Deviations are on the warped scale: near to ratios. */
export interface ScalePrior {
  /** In the metric's unit: differences well below it are linear, beyond it ratios count. */
  readonly unit: number;
  /** Of one endpoint from grain to grain. */
  readonly deviation: number;
  /** Between sound endpoints of one swarm. */
  readonly spread: number;
}

const EXPECTATION = {
  /** Values the prior deviation is worth. */
  priorWeight: 4,
  /** Values remembered, with weights that fall off: five minutes of grains. */
  memory: 60,
  /** What is learned from is this share of what was seen behind, and at most so many values: what builds up is not usual on the way. */
  waitingShare: 1 / 3,
  waitingMax: 24,
  /** The mean of so many newest values is judged too: noise averages out, though values close in time are not independent. */
  levelLength: 6,
  levelDeviationShare: 0.5,
  /** Values farther out are learned as this many deviations. */
  outlierDeviations: 3,
  surpriseMax: 8,
  digitsKept: 6,
} as const;

export interface ExpectationState {
  readonly seen: number;
  readonly weight: number;
  readonly mean: number;
  readonly squares: number;
  readonly waiting: readonly number[];
}

export class Expectation {
  readonly #prior: ScalePrior;
  /** How far from 0 the mean may lie; undefined: anywhere. */
  readonly #meanSpread: number | undefined;
  readonly #waiting = new Recent(EXPECTATION.waitingMax + 1);
  #taken = 0;
  #seen = 0;
  #weight = 0;
  #mean = 0;
  #squares = 0;

  constructor(prior: ScalePrior, meanSpread?: number) {
    this.#prior = prior;
    this.#meanSpread = meanSpread;
  }

  /** Values seen. */
  get seen(): number {
    return this.#seen;
  }

  /** Mean and deviation of the next value; undefined while nothing says where it might lie. */
  next(): { readonly mean: number; readonly deviation: number } | undefined {
    const noise = this.#variance();
    if (this.#meanSpread === undefined) {
      if (this.#weight === 0) return undefined;
      return { mean: this.#mean, deviation: Math.sqrt(noise * (1 + 1 / this.#weight)) };
    }
    // The mean is drawn towards 0, as much as one value's noise weighs against the spread of means.
    const certainty = 1 / this.#meanSpread ** 2 + this.#weight / noise;
    const mean = (this.#mean * this.#weight) / noise / certainty;
    return { mean, deviation: Math.sqrt(noise + 1 / certainty) };
  }

  /** Surprise (0..8) of a warped value, or of the level of the newest ones, before it is learned from. */
  observe(value: number): number {
    const next = this.next();
    this.#seen++;
    this.#waiting.push(value);
    const surprise = next === undefined ? 0 : this.#surprise(value, next);
    const waits = Math.min(EXPECTATION.waitingMax, Math.floor(this.#seen * EXPECTATION.waitingShare));
    while (this.#waiting.size > 0 && this.#seen - this.#taken > waits) {
      this.#learn(this.#waiting.back(this.#seen - this.#taken - 1));
      this.#taken++;
    }
    return surprise;
  }

  #surprise(value: number, { mean, deviation }: { readonly mean: number; readonly deviation: number }): number {
    const { levelLength, levelDeviationShare } = EXPECTATION;
    const single = (value - mean) / deviation;
    if (this.#waiting.size < levelLength) return surpriseOf(single);
    const level = (this.#waiting.mean(0, levelLength) - mean) / (deviation * levelDeviationShare);
    return surpriseOf(Math.max(Math.abs(single), Math.abs(level)));
  }

  #variance(): number {
    const { priorWeight } = EXPECTATION;
    return (priorWeight * this.#prior.deviation ** 2 + this.#squares) / (priorWeight + this.#weight);
  }

  #learn(value: number): void {
    const keep = this.#weight < EXPECTATION.memory ? 1 : 1 - 1 / EXPECTATION.memory;
    const reach = EXPECTATION.outlierDeviations * Math.sqrt(this.#variance() * (1 + 1 / Math.max(1, this.#weight)));
    const away = this.#weight === 0 ? value : Math.max(-reach, Math.min(reach, value - this.#mean));
    const weight = this.#weight * keep + 1;
    const step = away / weight;
    this.#squares = this.#squares * keep + (this.#weight === 0 ? 0 : away * (away - step));
    this.#mean += step;
    this.#weight = weight;
  }

  snapshot(): ExpectationState {
    const short = (value: number) => Number(value.toPrecision(EXPECTATION.digitsKept));
    const waiting = this.#waiting.values().slice(Math.max(0, this.#waiting.size - (this.#seen - this.#taken)));
    return {
      seen: this.#seen,
      weight: this.#weight,
      mean: short(this.#mean),
      squares: short(this.#squares),
      waiting: waiting.map(short),
    };
  }

  restore({ seen, weight, mean, squares, waiting }: ExpectationState): void {
    this.#seen = seen;
    this.#taken = seen - waiting.length;
    this.#weight = weight;
    this.#mean = mean;
    this.#squares = squares;
    for (const value of waiting) this.#waiting.push(value);
  }
}

/** Onto the scale on which expectations are held. Monotone, and finite for what is finite. */
export function warp(value: number, unit: number): number {
  return Math.asinh(value / unit);
}

/** Back; finite for what came of `warp`. */
export function unwarp(warped: number, unit: number): number {
  return Math.sinh(warped) * unit;
}

/** Surprise of a distance in deviations under Student's t with four degrees of freedom: tails are heavy, and nobody has seen them yet. */
function surpriseOf(deviations: number): number {
  const away = Math.abs(deviations);
  const root = Math.sqrt(4 + away * away);
  // 1 - |t| / sqrt(4 + t²), written so that it does not cancel.
  const rest = 4 / (root * (root + away));
  const probability = (rest * rest * (3 - rest)) / 2;
  return Number.isFinite(root) && probability > 0
    ? Math.min(EXPECTATION.surpriseMax, -Math.log10(probability))
    : EXPECTATION.surpriseMax;
}
