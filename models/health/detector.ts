/**
 * Online anomaly detector of one series: the mean surprise of several views of it, and an alarm where that passes a threshold,
 * at most one in a rest. One configuration for every series; nothing is learned from later values.
 */
import {
  MedianView,
  type SeasonLengths,
  SeasonView,
  type ShapeLengths,
  ShapeView,
  type ShiftLengths,
  ShiftView,
  type View,
  type ViewState,
} from "./views.ts";

export interface DetectorLengths {
  /** Residuals that each view judges by. */
  readonly history: number;
  /** Values until a residual is learned from. */
  readonly learnAfter: number;
  readonly shift: ShiftLengths;
  readonly median: number;
  /** The shape view has its own history: what it compares with is short. */
  readonly shape?: ShapeLengths & { readonly history: number };
  readonly season?: SeasonLengths;
}

/** For series at about five minutes: two weeks of residuals, levels against a day. Chosen by cross-validation (docs/models.md). */
export const FULL: DetectorLengths = {
  history: 4_000,
  learnAfter: 24,
  shift: { length: 16, referenceMin: 96, referenceMax: 288 },
  median: 96,
  shape: { length: 32, kept: 400, history: 2_000 },
  season: { timesOfDay: 48, valuesMax: 40 },
};

/** Larger magnitudes are taken as this, so that sums of squares stay finite. */
const MAGNITUDE_MAX = 1e150;

/** Fixed once for all series; chosen by cross-validation over files (docs/models.md). */
export const ALARMS = {
  /** Mean surprise from which an alarm is raised: one in a hundred in the geometric mean of the views. */
  threshold: 2,
  /** Values after an alarm in which none is raised. */
  restLength: 120,
} as const;

export interface DetectorState {
  readonly views: readonly ViewState[];
}

export class SeriesDetector {
  readonly #median: MedianView;
  readonly #views: readonly View[];

  constructor({ history, learnAfter, shift, median, shape, season }: DetectorLengths = FULL) {
    this.#median = new MedianView(median, history, learnAfter);
    this.#views = [
      new ShiftView(shift, history, learnAfter),
      this.#median,
      ...(shape === undefined ? [] : [new ShapeView(shape, shape.history, learnAfter)]),
      ...(season === undefined ? [] : [new SeasonView(season, history, learnAfter)]),
    ];
  }

  /**
   * Surprise of the value (any unit) at Unix time `atMs`: mean over the views, 0..8, in powers of ten of improbability. A value
   * that is missing or not finite scores 0 and is not learned.
   */
  observe(value: number, atMs: number): number {
    if (!Number.isFinite(value) || !Number.isFinite(atMs)) return 0;
    const bounded = Math.max(-MAGNITUDE_MAX, Math.min(MAGNITUDE_MAX, value));
    let sum = 0;
    for (const view of this.#views) sum += view.observe(bounded, atMs) ?? 0;
    return sum / this.#views.length;
  }

  /** The recent median and how far from it `share` of the values were; undefined until there are enough. */
  usual(share: number): { readonly middle: number; readonly reach: number } | undefined {
    return this.#median.usual(share);
  }

  snapshot(): DetectorState {
    return { views: this.#views.map((view) => view.snapshot()) };
  }

  restore(state: DetectorState): void {
    this.#views.forEach((view, index) => {
      const remembered = state.views[index];
      if (remembered !== undefined) view.restore(remembered);
    });
  }
}

/** Lets one alarm through in a rest: what goes on is known already. */
export class AlarmGate {
  #sinceAlarm = Number.POSITIVE_INFINITY;

  /** Whether the value with this score raises an alarm. */
  observe(score: number): boolean {
    this.#sinceAlarm++;
    if (score < ALARMS.threshold || this.#sinceAlarm <= ALARMS.restLength) return false;
    this.#sinceAlarm = 0;
    return true;
  }
}
