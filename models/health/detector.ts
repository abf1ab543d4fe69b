/**
 * Online anomaly detector of one series: the mean surprise of several views of it, and an alarm where that passes a threshold,
 * at most one in a rest. One configuration for every series; nothing is learned from later values.
 */
import { MedianView, SeasonView, ShapeView, ShiftView, type View, type ViewState } from "./views.ts";

export const DETECTOR = {
  /** Residuals each view judges by: two weeks at five minutes. */
  historyLength: 4_000,
  /** Larger magnitudes are taken as this, so that sums of squares stay finite. */
  magnitudeMax: 1e150,
} as const;

/** Fixed once for all series; chosen by cross-validation over files (docs/models.md). */
export const ALARMS = {
  /** Mean surprise from which an alarm is raised, by what a false alarm costs against a miss. */
  thresholds: { standard: 1.8, lowFp: 2, lowFn: 1.6 },
  /** Values after an alarm in which none is raised. */
  restLength: 120,
} as const;

export interface DetectorState {
  readonly views: readonly ViewState[];
}

export class SeriesDetector {
  readonly #views: readonly View[];

  constructor(historyLength: number = DETECTOR.historyLength) {
    this.#views = [
      new ShiftView(historyLength),
      new MedianView(historyLength),
      new ShapeView(historyLength),
      new SeasonView(historyLength),
    ];
  }

  /**
   * Surprise of the value (any unit) at Unix time `atMs`: mean over the views, 0..8, in powers of ten of improbability. A value
   * that is missing or not finite scores 0 and is not learned.
   */
  observe(value: number, atMs: number): number {
    if (!Number.isFinite(value) || !Number.isFinite(atMs)) return 0;
    const bounded = Math.max(-DETECTOR.magnitudeMax, Math.min(DETECTOR.magnitudeMax, value));
    let sum = 0;
    for (const view of this.#views) sum += view.observe(bounded, atMs) ?? 0;
    return sum / this.#views.length;
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
  readonly #threshold: number;
  #sinceAlarm = Number.POSITIVE_INFINITY;

  constructor(threshold: number) {
    this.#threshold = threshold;
  }

  /** Whether the value with this score raises an alarm. */
  observe(score: number): boolean {
    this.#sinceAlarm++;
    if (score < this.#threshold || this.#sinceAlarm <= ALARMS.restLength) return false;
    this.#sinceAlarm = 0;
    return true;
  }
}
