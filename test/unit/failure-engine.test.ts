/** The failure engine's trees, calibration, training and stored form. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { RandomForestRegression } from "ml-random-forest";
import { calibrated, fitCalibration } from "../../models/failure/calibrate.ts";
import { trainEnsemble } from "../../models/failure/ensemble.ts";
import { FeatureExtractor } from "../../models/failure/features.ts";
import { binned, type Matrix } from "../../models/failure/matrix.ts";
import { averagePrecision, brierScore, recallAtPrecision, rocAuc } from "../../models/failure/metrics.ts";
import { ForestJson, fromForestJson, toForestJson } from "../../models/failure/ml-format.ts";
import { type FailureModel, predict } from "../../models/failure/model.ts";
import { fromModelFile, toModelFile } from "../../models/failure/model-file.ts";
import { featuresOf } from "../../models/failure/plan-features.ts";
import { Random } from "../../models/failure/random.ts";
import { labelsWithin, type UnitTable } from "../../models/failure/table.ts";
import { trainFailureModel } from "../../models/failure/train.ts";
import { valueOf } from "../../models/failure/tree.ts";
import { threadedExecutor } from "../../workers/trainer/pool.ts";
import { WEAR_WINDOW, wearTable } from "../support/wear.ts";

const ORIGIN = { codeVersion: "test", dataFrom: 1, dataUntil: 120, rows: 1, units: 1, seed: 1 };
/** As far as the test reaches into a stored model. */
interface Stored {
  plan: object;
  boostings: { trees: { baseModel: { estimators: { root: object }[]; indexes: number[][] } } }[];
}

const table = wearTable({ units: 40, seed: 11 });
let model: FailureModel;

before(async () => {
  model = await trainFailureModel(table, { window: WEAR_WINDOW, seed: 5 });
});

function ownForest(rows: number): { matrix: Matrix; trees: ReturnType<typeof trainEnsemble>["trees"] } {
  const random = new Random(3);
  const columns = 6;
  const values = Float32Array.from({ length: rows * columns }, () => random.normal());
  const labels = Uint8Array.from({ length: rows }, (_, row) =>
    (values[row * columns + 2] ?? 0) + random.normal() > 1 ? 1 : 0,
  );
  const matrix = { rows, columns, values };
  const set = {
    bins: binned(matrix, 64),
    labels,
    weights: new Float64Array(rows).fill(1),
    unit: Int32Array.from({ length: rows }, (_, i) => i),
  };
  const all = Int32Array.from({ length: rows }, (_, row) => row);
  const task = { kind: "forest" as const, rows: all, columns: Int32Array.from([0, 1, 2, 3, 4, 5]), trees: 12, seed: 9 };
  return { matrix, trees: trainEnsemble(set, task).trees };
}

function probabilities(trained: FailureModel, on: UnitTable): Float64Array {
  const features = featuresOf(on, new FeatureExtractor(trained.plan));
  return Float64Array.from(
    { length: on.rows },
    (_, row) => predict(trained, features.values, row * features.columns).probability,
  );
}

test("ml-random-forest loads the forest and says the same of every row, tree by tree", () => {
  const { matrix, trees } = ownForest(500);
  const json = JSON.parse(JSON.stringify(toForestJson(trees, matrix.columns, 9)));
  const theirs = RandomForestRegression.load(json);
  const rows = Array.from({ length: matrix.rows }, (_, row) => Array.from(matrix.values.subarray(row * 6, row * 6 + 6)));
  const said = theirs.predict(rows);
  const byTree = theirs.predictionValues(rows);
  for (let row = 0; row < matrix.rows; row++) {
    const own = trees.map((tree) => valueOf(tree, matrix.values, row * 6));
    assert.deepEqual(byTree.getRow(row), own);
    assert.ok(Math.abs((said[row] ?? Number.NaN) - own.reduce((sum, value) => sum + value, 0) / own.length) < 1e-12);
  }
  assert.deepEqual(fromForestJson(ForestJson.parse(json), 6), trees);
});

test("a forest that ml-random-forest trained on a small sample is read as our own", () => {
  const { matrix } = ownForest(60);
  const rows = Array.from({ length: matrix.rows }, (_, row) => Array.from(matrix.values.subarray(row * 6, row * 6 + 6)));
  const wanted = rows.map((row) => ((row[2] ?? 0) > 0 ? 1 : 0));
  const theirs = new RandomForestRegression({ nEstimators: 8, seed: 1, noOOB: true, replacement: false, maxFeatures: 5 });
  theirs.train(rows, wanted);
  const json = ForestJson.parse(JSON.parse(JSON.stringify(theirs)));
  const trees = fromForestJson(json, 6);
  const said = theirs.predict(rows);
  for (let row = 0; row < rows.length; row++) {
    const own = trees.reduce((sum, tree) => sum + valueOf(tree, matrix.values, row * 6), 0) / trees.length;
    assert.ok(Math.abs(own - (said[row] ?? Number.NaN)) < 1e-12);
  }
});

test("average precision, area under the curve and recall at a precision, by hand", () => {
  const scores = Float64Array.from([0.9, 0.8, 0.7, 0.6, 0.5]);
  const labels = Uint8Array.from([1, 0, 1, 1, 0]);
  assert.ok(Math.abs(averagePrecision(scores, labels) - (1 + 2 / 3 + 3 / 4) / 3) < 1e-12);
  assert.ok(Math.abs(rocAuc(scores, labels) - 4 / 6) < 1e-12);
  assert.equal(recallAtPrecision(scores, labels, 0.9), 1 / 3);
  assert.equal(rocAuc(new Float64Array(5).fill(0.5), labels), 0.5);
  assert.ok(Math.abs(averagePrecision(new Float64Array(5).fill(0.5), labels) - 0.6) < 1e-12);
});

test("calibration finds the curve that the labels were drawn from", () => {
  const random = new Random(4);
  const scores = Float64Array.from({ length: 20_000 }, () => 3 * random.normal());
  const labels = Uint8Array.from(scores, (score) => (random.next() < 1 / (1 + Math.exp(-(0.5 * score - 1))) ? 1 : 0));
  const found = fitCalibration(scores, labels, new Float64Array(20_000).fill(1));
  assert.ok(Math.abs(found.slope - 0.5) < 0.03 && Math.abs(found.offset + 1) < 0.06, JSON.stringify(found));
  const parted = fitCalibration(Float64Array.of(-1, 1), Uint8Array.of(0, 1), Float64Array.of(1, 1));
  assert.ok(Number.isFinite(parted.slope) && Number.isFinite(parted.offset));
  assert.ok(calibrated(found, Number.NaN) < 1);
});

test("it foresees failures of units it never saw, also of units cut short and with cells missing", () => {
  const other = wearTable({ units: 40, seed: 12, missingShare: 0.1 });
  const labels = labelsWithin(other, WEAR_WINDOW);
  const said = probabilities(model, other);
  assert.ok(averagePrecision(said, labels) > 0.8, `average precision ${averagePrecision(said, labels)}`);
  const rate = labels.reduce((sum, label) => sum + label, 0) / labels.length;
  assert.ok(brierScore(said, labels) < 0.5 * rate * (1 - rate));
  assert.equal(model.metrics.carriesSignal, true);
});

test("the interval holds the probability", () => {
  const features = featuresOf(table, new FeatureExtractor(model.plan));
  for (let row = 0; row < table.rows; row++) {
    const { probability, low, high } = predict(model, features.values, row * features.columns);
    assert.ok(low >= 0 && low <= probability && probability <= high && high <= 1);
  }
});

test("telemetry that tells nothing is said to tell nothing", async () => {
  const mute = await trainFailureModel(wearTable({ units: 30, seed: 8, isTold: false }), { window: 3, seed: 1 });
  assert.equal(mute.metrics.carriesSignal, false, JSON.stringify(mute.metrics));
});

test("threads train the same model, tree by tree", async () => {
  const threaded = await trainFailureModel(table, { window: WEAR_WINDOW, seed: 5 }, threadedExecutor(2));
  assert.deepEqual(toModelFile(threaded, ORIGIN), toModelFile(model, ORIGIN));
});

test("a row of weight 0 is not learned from", async () => {
  const weights = Float64Array.from(table.unit, (unit) => (unit < 20 ? 0 : 1));
  const labelled = await trainFailureModel(table, { window: WEAR_WINDOW, seed: 5, weights });
  const timeToFailure = table.timeToFailure.map((left, row) => ((table.unit[row] ?? 0) < 20 ? 119 - left : left));
  const scrambled = await trainFailureModel({ ...table, timeToFailure }, { window: WEAR_WINDOW, seed: 5, weights });
  assert.deepEqual(scrambled.boostings, labelled.boostings);
  assert.deepEqual(scrambled.calibration, labelled.calibration);
});

test("a stored model says the same once it is read again", () => {
  const read = fromModelFile(JSON.parse(JSON.stringify(toModelFile(model, ORIGIN))));
  assert.deepEqual(read.origin, ORIGIN);
  assert.deepEqual(probabilities(read.model, table), probabilities(model, table));
});

test("a corrupt or foreign model is refused, and says why", () => {
  const whole = JSON.stringify(toModelFile(model, ORIGIN));
  const refuses = (change: (file: Stored) => void, why: RegExp) => {
    const file: Stored = JSON.parse(whole);
    change(file);
    assert.throws(() => fromModelFile(file), { code: "MODEL_REFUSED", message: why });
  };
  assert.throws(() => fromModelFile({ name: "RFClassifier" }), { code: "MODEL_REFUSED", message: /kind/ });
  refuses((file) => Object.assign(file, { formatVersion: 2 }), /formatVersion/);
  refuses((file) => Object.assign(file, { features: ["age"] }), /features/);
  refuses((file) => Object.assign(file, { calibration: { slope: -1, offset: 0 } }), /calibration.slope/);
  refuses((file) => Object.assign(file.plan, { kinds: ["sensor"] }), /tables/);
  const trees = (file: Stored) => file.boostings[0]?.trees.baseModel ?? assert.fail();
  const root = (file: Stored) => trees(file).estimators[0]?.root ?? assert.fail();
  refuses((file) => Object.assign(root(file), { splitColumn: 9_999 }), /9999/);
  refuses((file) => Object.assign(root(file), { left: undefined }), /middle/);
  refuses((file) => trees(file).indexes.pop(), /trees/);
});
