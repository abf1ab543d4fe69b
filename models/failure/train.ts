/**
 * Trains a failure model: features, folds of units, an ensemble of either kind a fold, and from what each says of the units it has not
 * seen: the mix of the two, the calibration, the thresholds and the figures that are stored with the model.
 */
import { calibrated, fitCalibration } from "./calibrate.ts";
import { type Ensemble, type EnsembleTask, scoreOf, type TrainingSet, trainEnsemble } from "./ensemble.ts";
import { FeatureExtractor } from "./features.ts";
import { binned, type Matrix } from "./matrix.ts";
import { averagePrecision, bestF1, brierScore, calibrationError, positivesIn, reliability } from "./metrics.ts";
import { type FailureModel, mixedScore } from "./model.ts";
import { featuresOf, planFeatures } from "./plan-features.ts";
import { Random } from "./random.ts";
import { labelsWithin, type UnitTable } from "./table.ts";

export interface TrainOptions {
  /** In the table's unit of time. */
  readonly window: number;
  readonly seed: number;
  /** One for each row; 1 where left out. A row of weight 0 (a mitigated one) is not learned from. */
  readonly weights?: Float64Array;
}

/** Runs the tasks on the set, in any order and perhaps at once, and answers in the order of the tasks. */
export type Executor = (set: TrainingSet, tasks: readonly EnsembleTask[]) => Promise<readonly Ensemble[]>;

const BINS_MAX = 128;
const FOLDS = 5;
/** Trees of all folds together, by kind; fewer where rows times columns are more than this. */
const FOREST_TREES = 100;
const BOOSTING_TREES = 1_250;
const FULL_SIZE = 12_000_000;
/** Shares of boosting in the mix that are weighed against each other. */
const MIXES = [0, 0.25, 0.5, 0.75, 1] as const;
const CALIBRATION_BINS = 10;
/**
 * The model carries signal when on unseen units its average precision beats the base rate by this factor, in every fold by the second,
 * and when its squared error is below that of always saying the base rate by this share. On noise the first alone holds by chance.
 */
const SIGNAL_FACTOR_MIN = 1.5;
const FOLD_SIGNAL_FACTOR_MIN = 1.1;
const BRIER_GAIN_SHARE_MIN = 0.03;
/** Fewer rows of either class than this are too few to judge by. */
const CLASS_ROWS_MIN = 10;

/** Trains here and now, on the caller's own thread. */
export const trainInPlace: Executor = (set, tasks) => Promise.resolve(tasks.map((task) => trainEnsemble(set, task)));

export async function trainFailureModel(
  table: UnitTable,
  options: TrainOptions,
  execute = trainInPlace,
): Promise<FailureModel> {
  const { window, seed } = options;
  const plan = planFeatures(table, window);
  const extractor = new FeatureExtractor(plan);
  const matrix = featuresOf(table, extractor);
  const labels = labelsWithin(table, window);
  const weights = options.weights ?? new Float64Array(table.rows).fill(1);
  const folds = foldsOf(table, seed);
  const shared = new SharedArrayBuffer(matrix.rows * matrix.columns);
  const set = { bins: binned(matrix, BINS_MAX, new Uint8Array(shared)), labels, weights, unit: table.unit };
  const ensembles = await execute(set, tasksOf(matrix, folds, seed));
  const forests = ensembles.filter(({ kind }) => kind === "forest");
  const boostings = ensembles.filter(({ kind }) => kind === "boosting");
  const scores = unseenScores(matrix, folds, forests, boostings);
  const mix = chooseMix(scores, labels, weights);
  const raw = Float64Array.from(labels, (_, row) =>
    mixedScore(mix, scores.forest[row] as number, scores.boosting[row] as number),
  );
  const calibration = fitCalibration(raw, labels, weights);
  const probabilities = raw.map((score) => calibrated(calibration, score));
  const metrics = metricsOf(probabilities, labels, weights, folds);
  return { window, plan, forests: mix < 1 ? forests : [], boostings: mix > 0 ? boostings : [], mix, calibration, metrics };
}

function foldsOf(table: UnitTable, seed: number): Int32Array {
  const random = new Random(seed);
  if (table.units >= FOLDS) {
    const order = Int32Array.from({ length: table.units }, (_, unit) => unit);
    random.shuffleFront(order, order.length);
    const foldOfUnit = new Int32Array(table.units);
    order.forEach((unit, at) => {
      foldOfUnit[unit] = at % FOLDS;
    });
    return table.unit.map((unit) => foldOfUnit[unit] as number);
  }
  // With so few units each is cut into stretches of time.
  return table.unit.map((_, row) => Math.min(FOLDS - 1, Math.floor((row * FOLDS) / table.rows)));
}

function tasksOf(matrix: Matrix, folds: Int32Array, seed: number): EnsembleTask[] {
  const columns = Int32Array.from({ length: matrix.columns }, (_, column) => column);
  const share = Math.min(1, FULL_SIZE / (matrix.rows * matrix.columns));
  const trees = (all: number) => Math.max(4, Math.round((all * share) / FOLDS));
  return Array.from({ length: FOLDS }, (_, fold) => {
    const rows = Int32Array.from(folds.keys()).filter((row) => folds[row] !== fold);
    const common = { rows, columns };
    return [
      { ...common, kind: "boosting" as const, trees: trees(BOOSTING_TREES), seed: seed * 1_000 + fold },
      { ...common, kind: "forest" as const, trees: trees(FOREST_TREES), seed: seed * 1_000 + 500 + fold },
    ];
  }).flat();
}

interface Scores {
  /** Log-odds. */
  readonly forest: Float64Array;
  readonly boosting: Float64Array;
}

/** What each fold's ensembles say of that fold's rows, which they were not trained on. */
function unseenScores(
  { rows, columns, values }: Matrix,
  folds: Int32Array,
  forests: readonly Ensemble[],
  boostings: readonly Ensemble[],
): Scores {
  const scores = { forest: new Float64Array(rows), boosting: new Float64Array(rows) };
  for (let row = 0; row < rows; row++) {
    const fold = folds[row] as number;
    scores.forest[row] = scoreOf(forests[fold] as Ensemble, values, row * columns);
    scores.boosting[row] = scoreOf(boostings[fold] as Ensemble, values, row * columns);
  }
  return scores;
}

/** The share of boosting with the best average precision on unseen units. */
function chooseMix(scores: Scores, labels: Uint8Array, weights: Float64Array): number {
  let best = { mix: 0.5, precision: Number.NEGATIVE_INFINITY };
  for (const mix of MIXES) {
    const mixed = Float64Array.from(labels, (_, row) =>
      mixedScore(mix, scores.forest[row] as number, scores.boosting[row] as number),
    );
    const precision = averagePrecision(mixed, labels, weights);
    if (precision > best.precision) best = { mix, precision };
  }
  return best.mix;
}

export type TrainMetrics = ReturnType<typeof metricsOf>;

function metricsOf(said: Float64Array, labels: Uint8Array, weights: Float64Array, folds: Int32Array) {
  const used = weights.reduce((sum, weight) => sum + (weight > 0 ? 1 : 0), 0);
  const positives = labels.reduce((sum, label, row) => sum + ((weights[row] as number) > 0 ? label : 0), 0);
  const baseRate = baseRateOf(labels, weights);
  const ap = averagePrecision(said, labels, weights);
  const byFold = Array.from({ length: FOLDS }, (_, fold) => {
    const own = weights.map((weight, row) => (folds[row] === fold ? weight : 0));
    return averagePrecision(said, labels, own) / baseRateOf(labels, own);
  }).filter((factor) => Number.isFinite(factor));
  const brier = brierScore(said, labels, weights);
  const brierOfBaseRate = baseRate * (1 - baseRate);
  const enough = positives >= CLASS_ROWS_MIN && used - positives >= CLASS_ROWS_MIN;
  return {
    rows: used,
    positives,
    ap: finite(ap),
    brier: finite(brier),
    brierOfBaseRate: finite(brierOfBaseRate),
    calibrationError: finite(calibrationError(reliability(said, labels, CALIBRATION_BINS, weights))),
    bestF1: bestF1(said, labels, weights),
    /** Whether the telemetry tells failures from the rest at all. Where it does not, nothing may be done on the model's word. */
    carriesSignal:
      enough &&
      ap >= Math.min(0.9, SIGNAL_FACTOR_MIN * baseRate) &&
      brier <= (1 - BRIER_GAIN_SHARE_MIN) * brierOfBaseRate &&
      byFold.every((factor) => factor >= FOLD_SIGNAL_FACTOR_MIN),
  };
}

function baseRateOf(labels: Uint8Array, weights: Float64Array): number {
  return positivesIn(labels, weights) / weights.reduce((sum, weight) => sum + weight, 0);
}

function finite(value: number): number {
  return Number.isFinite(value) ? value : 0;
}
