/** A trained failure model, and what it says of one row of features. */
import { type Calibration, calibrated } from "./calibrate.ts";
import { type Ensemble, scoreOf } from "./ensemble.ts";
import type { FeaturePlan } from "./features.ts";
import type { TrainMetrics } from "./train.ts";

export interface FailureModel {
  /** In the unit of time of its training table. */
  readonly window: number;
  readonly plan: FeaturePlan;
  /** One ensemble a fold, each trained without that fold's units; none of a kind that has no share in the mix. */
  readonly forests: readonly Ensemble[];
  readonly boostings: readonly Ensemble[];
  /** Share of boosting in the score, 0..1. */
  readonly mix: number;
  readonly calibration: Calibration;
  /** Measured on units that the scoring ensemble was not trained on. */
  readonly metrics: TrainMetrics;
}

/** Probability of failure within the model's window, with an interval that holds 90 % of what the ensemble's parts say. */
export interface Probability {
  readonly probability: number;
  readonly low: number;
  readonly high: number;
}

/** Standard normal quantile of 95 %. */
const NORMAL_Q95 = 1.645;

export function mixedScore(mix: number, forest: number, boosting: number): number {
  return mix * boosting + (1 - mix) * forest;
}

/**
 * The folds' scores are averaged as log-odds. Each fold knows other units, so their spread is what knowing other units would change; the
 * interval is that spread, taken for normal, through the calibration.
 */
export function predict(model: FailureModel, values: Float32Array, offset: number): Probability {
  const parts = model.mix > 0 ? model.boostings : model.forests;
  const scores = parts.map((_, fold) => {
    const forest = model.mix < 1 ? scoreOf(model.forests[fold] as Ensemble, values, offset) : 0;
    const boosting = model.mix > 0 ? scoreOf(model.boostings[fold] as Ensemble, values, offset) : 0;
    return mixedScore(model.mix, forest, boosting);
  });
  const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length;
  const variance = scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / Math.max(1, scores.length - 1);
  const away = NORMAL_Q95 * Math.sqrt(variance);
  return {
    probability: calibrated(model.calibration, mean),
    low: calibrated(model.calibration, mean - away),
    high: calibrated(model.calibration, mean + away),
  };
}
