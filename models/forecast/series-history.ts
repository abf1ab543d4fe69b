/**
 * The past of one load series as every forecast reads it: evenly spaced, bounded, without holes. Missing values and outage dips are filled
 * and never taught: demand that nobody could measure, or that an outage kept away, is not low demand.
 */
import { at } from "./numeric.ts";

export const HISTORY = {
  /** A forecast learns from this much: enough for two weeks' seasons, few enough to fit in a fraction of a second. */
  windowDays: 14,
  /** A value under this share of everything seen for a day, after more than a day, looks like an outage … */
  dipShare: 0.2,
  /** … for so long; a fall that lasts longer is believed. */
  dipHoursMax: 6,
  /** A value that is bridged changes by no more than this factor a step. */
  changeMax: 1.25,
  /** Of the smallest usual demand: added before taking logarithms, so that zero has one. */
  offsetShare: 0.1,
} as const;

const SECONDS_PER_DAY = 86_400;

export interface HistoryState {
  readonly stepS: number;
  /** Observations ever made. */
  readonly count: number;
  readonly dipSteps: number;
  /** Newest last; as filled. */
  readonly filled: readonly number[];
  /** Which of them were measured and believed. */
  readonly known: readonly boolean[];
}

export class SeriesHistory {
  readonly stepS: number;
  readonly stepsPerDay: number;
  readonly windowSteps: number;
  /** Observations ever made; the newest has the number `count - 1`. */
  count = 0;
  private dipSteps = 0;
  private readonly kept: number;
  private first = 0;
  private filled: Float64Array;
  private known: Uint8Array;

  /** `stepS`: seconds between observations. */
  constructor(stepS: number) {
    this.stepS = stepS;
    this.stepsPerDay = Math.max(1, Math.round(SECONDS_PER_DAY / stepS));
    this.windowSteps = HISTORY.windowDays * this.stepsPerDay;
    this.kept = this.windowSteps + 3 * this.stepsPerDay;
    this.filled = new Float64Array(2 * this.kept);
    this.known = new Uint8Array(2 * this.kept);
  }

  /** The oldest number that is still kept. */
  get oldest(): number {
    return Math.max(this.first, this.count - this.kept);
  }

  /** The value with a number, filled where it was missing. */
  value(number: number): number {
    return at(this.filled, number - this.first);
  }

  isKnown(number: number): boolean {
    return at(this.known, number - this.first) === 1;
  }

  /** Whether anything that is still kept was ever measured. */
  hasKnown(): boolean {
    for (let number = this.count - 1; number >= this.oldest; number--) if (this.isKnown(number)) return true;
    return false;
  }

  /** Mean of the last days, as filled. 0 before anything was observed. */
  meanKnown(): number {
    const from = Math.max(this.oldest, this.count - this.windowSteps);
    let sum = 0;
    for (let number = from; number < this.count; number++) sum += this.value(number);
    return this.count === from ? 0 : sum / (this.count - from);
  }

  /** Adds the next observation: not finite or negative where it is missing. */
  push(observed: number): void {
    if (this.count - this.first === this.filled.length) this.compact();
    const isMissing = !Number.isFinite(observed) || observed < 0;
    const isDip = !isMissing && this.looksLikeOutage(observed);
    this.dipSteps = isDip ? this.dipSteps + 1 : isMissing ? this.dipSteps : 0;
    const place = this.count - this.first;
    this.known[place] = isMissing || isDip ? 0 : 1;
    this.filled[place] = isMissing || isDip ? this.substitute() : observed;
    this.count += 1;
  }

  /** What stands in for a missing value: for an hour the last one, going as the day before went; then that day itself. */
  private substitute(): number {
    if (this.count === this.first) return 0;
    const hourSteps = Math.max(1, Math.round(this.stepsPerDay / 24));
    const yesterday = this.count - this.stepsPerDay;
    const last = this.value(this.count - 1);
    if (yesterday - hourSteps < this.oldest) return last;
    if (this.stepsSilent(hourSteps) >= hourSteps) return this.value(yesterday);
    const [before, then] = [this.meanAround(yesterday - 1, hourSteps), this.meanAround(yesterday, hourSteps)];
    return before > 0 ? last * Math.min(HISTORY.changeMax, Math.max(1 / HISTORY.changeMax, then / before)) : last;
  }

  private meanAround(number: number, steps: number): number {
    const from = number - Math.floor(steps / 2);
    let sum = 0;
    for (let one = from; one < from + steps; one++) sum += this.value(one);
    return sum / steps;
  }

  private stepsSilent(most: number): number {
    let steps = 0;
    while (steps < most && this.count - 1 - steps >= this.oldest && !this.isKnown(this.count - 1 - steps)) steps += 1;
    return steps;
  }

  private looksLikeOutage(observed: number): boolean {
    if (this.count - this.oldest < this.stepsPerDay) return false;
    if (this.dipSteps * this.stepS >= HISTORY.dipHoursMax * 3_600) return false;
    let lowest = Number.POSITIVE_INFINITY;
    for (let number = this.count - this.stepsPerDay; number < this.count; number++) {
      lowest = Math.min(lowest, this.value(number));
    }
    return observed < HISTORY.dipShare * lowest;
  }

  private compact(): void {
    const dropped = this.count - this.first - this.kept;
    this.filled.copyWithin(0, dropped);
    this.known.copyWithin(0, dropped);
    this.first += dropped;
  }

  toState(): HistoryState {
    const from = this.oldest;
    const { stepS, count, dipSteps } = this;
    const filled = Array.from(this.filled.subarray(from - this.first, count - this.first));
    const known = Array.from(this.known.subarray(from - this.first, count - this.first), (one) => one === 1);
    return { stepS, count, dipSteps, filled, known };
  }

  static fromState(state: HistoryState): SeriesHistory {
    const history = new SeriesHistory(state.stepS);
    history.count = state.count;
    history.dipSteps = state.dipSteps;
    history.first = state.count - state.filled.length;
    history.filled.set(state.filled);
    history.known.set(state.known.map((one) => (one ? 1 : 0)));
    return history;
  }
}
