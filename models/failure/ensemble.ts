/** The two ensembles of trees: a random forest, and gradient boosting with the logistic loss. Both run on one table of bins. */
import { logit } from "./calibrate.ts";
import type { Bins } from "./matrix.ts";
import { Random } from "./random.ts";
import { growTree, type Tree, valueOf } from "./tree.ts";

/** What all trees of a training share; the arrays may lie in memory that threads share. */
export interface TrainingSet {
  readonly bins: Bins;
  readonly labels: Uint8Array;
  /** A row of weight 0 is not learned from. */
  readonly weights: Float64Array;
  /** Number of the row's unit: rows of one unit are drawn together, since they are near copies of each other. */
  readonly unit: Int32Array;
}

/** One ensemble to train: on these rows, with these columns. */
export interface EnsembleTask {
  readonly kind: "forest" | "boosting";
  readonly rows: Int32Array;
  readonly columns: Int32Array;
  readonly trees: number;
  readonly seed: number;
}

/** Says `base` plus the mean over the trees: of a forest a probability, of boosting log-odds. */
export interface Ensemble {
  readonly kind: "forest" | "boosting";
  readonly trees: readonly Tree[];
  readonly base: number;
}

/** Log-odds, by the row of features that begins at `offset`. */
export function scoreOf({ kind, trees, base }: Ensemble, values: Float32Array, offset: number): number {
  let sum = 0;
  for (const tree of trees) sum += valueOf(tree, values, offset);
  const mean = base + sum / trees.length;
  return kind === "forest" ? logit(mean) : mean;
}

const FOREST = {
  depthMax: 14,
  /** Leaves hold at least this many rows, and this share of all: rows of one unit resemble each other, so a small leaf is one unit. */
  leafRowsMin: 5,
  leafShareMin: 1 / 4_000,
  /** Columns tried at each split: this power of their number, as usual for classification. */
  columnsPower: 0.5,
};

const BOOSTING = {
  learningRate: 0.05,
  depthMax: 5,
  leafRowsMin: 20,
  leafShareMin: 1 / 4_000,
  ridge: 5,
  gainMin: 0.1,
  /** Of the units and of the columns, drawn anew for each tree. */
  rowShare: 0.5,
  columnShare: 0.3,
};

export function trainEnsemble(set: TrainingSet, task: EnsembleTask): Ensemble {
  return task.kind === "forest" ? trainForest(set, task) : trainBoosting(set, task);
}

function trainForest(set: TrainingSet, task: EnsembleTask): Ensemble {
  const random = new Random(task.seed);
  const gradient = Float64Array.from(set.weights, (weight, row) => weight * (set.labels[row] as number));
  const options = {
    depthMax: FOREST.depthMax,
    leafRowsMin: Math.max(FOREST.leafRowsMin, Math.round(task.rows.length * FOREST.leafShareMin)),
    columnsPerSplit: Math.max(1, Math.round(task.columns.length ** FOREST.columnsPower)),
    ridge: 0,
    gainMin: 1e-9,
  };
  const groups = groupsOf(set, task.rows);
  const trees: Tree[] = [];
  while (trees.length < task.trees) {
    const rows = drawWithReplacement(groups, random);
    trees.push(growTree(set.bins, task.columns.slice(), rows, gradient, set.weights, options, random));
  }
  return { kind: "forest", trees, base: 0 };
}

function trainBoosting(set: TrainingSet, task: EnsembleTask): Ensemble {
  const random = new Random(task.seed);
  const { labels, weights, bins } = set;
  const options = {
    depthMax: BOOSTING.depthMax,
    leafRowsMin: Math.max(BOOSTING.leafRowsMin, Math.round(task.rows.length * BOOSTING.leafShareMin)),
    columnsPerSplit: task.columns.length,
    ridge: BOOSTING.ridge,
    gainMin: BOOSTING.gainMin,
  };
  const base = logOdds(task.rows, labels, weights);
  const score = new Float64Array(bins.rows).fill(base);
  const gradient = new Float64Array(bins.rows);
  const hessian = new Float64Array(bins.rows);
  const columns = task.columns.slice();
  const perTree = Math.max(1, Math.round(columns.length * BOOSTING.columnShare));
  const groups = groupsOf(set, task.rows);
  const trees: Tree[] = [];
  while (trees.length < task.trees) {
    for (const row of task.rows) {
      const said = 1 / (1 + Math.exp(-(score[row] as number)));
      gradient[row] = (weights[row] as number) * ((labels[row] as number) - said);
      hessian[row] = (weights[row] as number) * said * (1 - said);
    }
    random.shuffleFront(columns, perTree);
    const drawn = drawShare(groups, BOOSTING.rowShare, random);
    const tree = growTree(bins, columns.slice(0, perTree), drawn, gradient, hessian, options, random);
    addBinned(tree, bins, task.rows, score, BOOSTING.learningRate);
    trees.push(tree);
  }
  // The boosted sum as a mean: the form that both ensembles are stored in.
  const scale = BOOSTING.learningRate * trees.length;
  return { kind: "boosting", trees: trees.map((tree) => ({ ...tree, value: tree.value.map((value) => value * scale) })), base };
}

function logOdds(rows: Int32Array, labels: Uint8Array, weights: Float64Array): number {
  let positive = 0.5;
  let all = 1;
  for (const row of rows) {
    positive += (weights[row] as number) * (labels[row] as number);
    all += weights[row] as number;
  }
  return Math.log(positive / (all - positive));
}

/** Adds what the tree says of each of the rows, times the rate, to their scores. */
function addBinned(tree: Tree, bins: Bins, rows: Int32Array, score: Float64Array, rate: number): void {
  const bin = Int32Array.from(tree.feature, (feature, node) =>
    feature < 0 ? 0 : (bins.cuts[feature] as Float64Array).indexOf(tree.threshold[node] as number),
  );
  for (const row of rows) {
    let node = 0;
    let feature = tree.feature[0] as number;
    while (feature >= 0) {
      const isLeft = (bins.codes[feature * bins.rows + row] as number) <= (bin[node] as number);
      node = (isLeft ? tree.left[node] : tree.right[node]) as number;
      feature = tree.feature[node] as number;
    }
    score[row] = (score[row] as number) + rate * (tree.value[node] as number);
  }
}

/** Rows of one unit each; where the rows come from few units, single rows. */
const GROUPS_MIN = 10;

function groupsOf({ unit, weights }: TrainingSet, rows: Int32Array): Int32Array[] {
  const byUnit = new Map<number, number[]>();
  for (const row of rows) {
    if (weights[row] === 0) continue;
    const own = byUnit.get(unit[row] as number);
    if (own === undefined) byUnit.set(unit[row] as number, [row]);
    else own.push(row);
  }
  if (byUnit.size < GROUPS_MIN) return [...byUnit.values()].flat().map((row) => Int32Array.of(row));
  return [...byUnit.values()].map((own) => Int32Array.from(own));
}

function drawWithReplacement(groups: readonly Int32Array[], random: Random): Int32Array {
  return concatenated(groups.map(() => groups[random.below(groups.length)] as Int32Array));
}

function drawShare(groups: readonly Int32Array[], share: number, random: Random): Int32Array {
  const order = Int32Array.from(groups.keys());
  const count = Math.max(1, Math.round(groups.length * share));
  random.shuffleFront(order, count);
  return concatenated(Array.from(order.subarray(0, count), (at) => groups[at] as Int32Array));
}

function concatenated(parts: readonly Int32Array[]): Int32Array {
  const whole = new Int32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
