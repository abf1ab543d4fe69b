/**
 * How unusual a residual is against its own past, whatever its unit and distribution: minus log10 of the probability of one as
 * large. Ranks say so for common residuals; beyond them a power-law tail is fitted (Hill 1975, as in peaks over threshold).
 */
import { Recent } from "./recent.ts";
import { SlidingOrder } from "./sliding-order.ts";

const SURPRISE = {
  /** Fewer residuals than this say nothing. */
  residualsMin: 30,
  /** Share of the largest residuals that the tail is fitted on, and the fewest. */
  tailShare: 0.02,
  tailSizeMin: 8,
  /** Least tail index: with bounded or repeated residuals Hill's estimate goes to 0 and anything new to infinity. */
  tailIndexMin: 0.1,
  /** One in a hundred million; more is not more reason to act. */
  surpriseMax: 8,
  digitsKept: 4,
} as const;

export class SurpriseScale {
  readonly #past: SlidingOrder;
  /** Residuals that are not past yet. */
  readonly #waiting: Recent | undefined;

  /** A residual joins the past `learnAfter` observations later: what builds up is not taken for usual on the way. */
  constructor(historyLength: number, learnAfter = 0) {
    this.#past = new SlidingOrder(historyLength);
    this.#waiting = learnAfter > 0 ? new Recent(learnAfter) : undefined;
  }

  /** Surprise of `residual` (>= 0, any unit) in 0..8 before it joins the past. */
  observe(residual: number): number {
    const surprise = this.surprise(residual);
    this.#learn(residual);
    return surprise;
  }

  #learn(residual: number): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return this.#past.push(residual);
    if (waiting.size === waiting.capacity) this.#past.push(waiting.back(waiting.capacity - 1));
    waiting.push(residual);
  }

  surprise(residual: number): number {
    const past = this.#past;
    const count = past.size;
    if (count < SURPRISE.residualsMin || residual <= 0) return 0;
    const asLarge = count - past.countBelow(residual);
    const wanted = Math.max(SURPRISE.tailSizeMin, Math.floor(SURPRISE.tailShare * count));
    if (asLarge > wanted) return Math.log10((count + 1) / (asLarge + 1));
    // Where most of the past is zero the tail is what is left of it.
    const positive = count - past.countBelow(Number.MIN_VALUE);
    if (positive === 0) return SURPRISE.surpriseMax;
    const tailSize = Math.min(wanted, positive);
    const start = tailSize < positive ? past.at(count - tailSize - 1) : past.at(count - tailSize);
    const beyond = (Math.log(residual) - Math.log(start)) * Math.LOG10E;
    const surprise = Math.log10((count + 1) / (tailSize + 1)) + Math.max(0, beyond) / this.#tailIndex(tailSize, start);
    return Math.min(SURPRISE.surpriseMax, surprise);
  }

  /** Mean log excess of the largest `tailSize` residuals over `start`. */
  #tailIndex(tailSize: number, start: number): number {
    let sum = 0;
    for (let rank = this.#past.size - tailSize; rank < this.#past.size; rank++) sum += Math.log(this.#past.at(rank));
    return Math.max(SURPRISE.tailIndexMin, sum / tailSize - Math.log(start));
  }

  /** The residual that `share` (0..1) of the past do not exceed; undefined while there are too few. */
  quantile(share: number): number | undefined {
    const count = this.#past.size;
    return count < SURPRISE.residualsMin ? undefined : this.#past.at(Math.min(count - 1, Math.floor(share * count)));
  }

  /** Rounded, which changes later surprises in their third digit and makes a small document. */
  snapshot(): number[] {
    return [...this.#past.arrivals(), ...(this.#waiting?.values() ?? [])].map((residual) =>
      Number(residual.toPrecision(SURPRISE.digitsKept)),
    );
  }

  restore(arrivals: readonly number[]): void {
    for (const residual of arrivals) this.#learn(residual);
  }
}
