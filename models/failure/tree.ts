/**
 * One decision tree grown on histograms: the split search that forest and boosting share. Both fit a value that minimises
 * sum(hessian * value^2 / 2 - gradient * value): with gradient = weight * label and hessian = weight that is the weighted mean
 * (a forest's regression tree), with those of the logistic loss it is a Newton step (boosting).
 */
import type { Bins } from "./matrix.ts";
import type { Random } from "./random.ts";

/** Nodes in the order they were made; node 0 is the root. A row goes left when its value is below the threshold. */
export interface Tree {
  /** Column of the split; -1 at a leaf. */
  readonly feature: Int32Array;
  readonly threshold: Float64Array;
  readonly left: Int32Array;
  readonly right: Int32Array;
  /** What a leaf answers; 0 at a split. */
  readonly value: Float64Array;
  /** By how much the split lowered the loss; 0 at a leaf. */
  readonly gain: Float64Array;
}

export interface GrowOptions {
  readonly depthMax: number;
  readonly leafRowsMin: number;
  /** Columns drawn anew at each split; all of `columns` when not fewer. */
  readonly columnsPerSplit: number;
  /** Shrinks a leaf's value towards zero, as so many units of hessian would that hold no gradient. */
  readonly ridge: number;
  /** A split must lower the loss by more than this. */
  readonly gainMin: number;
}

interface Split {
  readonly feature: number;
  readonly bin: number;
  readonly gain: number;
}

interface Nodes {
  readonly feature: number[];
  readonly threshold: number[];
  readonly left: number[];
  readonly right: number[];
  readonly value: number[];
  readonly gain: number[];
}

/** Bins a column can have; a code is one byte. */
const BINS_MAX = 256;

/** Grows a tree on `rows` (drawn rows; one that is drawn twice is there twice); reorders `rows`. */
export function growTree(
  bins: Bins,
  columns: Int32Array,
  rows: Int32Array,
  gradient: Float64Array,
  hessian: Float64Array,
  options: GrowOptions,
  random: Random,
): Tree {
  const grower = new Grower(bins, columns, rows, gradient, hessian, options, random);
  grower.grow(0, rows.length, 0);
  return grower.tree();
}

class Grower {
  readonly #bins: Bins;
  readonly #columns: Int32Array;
  readonly #rows: Int32Array;
  readonly #gradient: Float64Array;
  readonly #hessian: Float64Array;
  readonly #options: GrowOptions;
  readonly #random: Random;
  readonly #nodes: Nodes = { feature: [], threshold: [], left: [], right: [], value: [], gain: [] };
  readonly #gradientSums = new Float64Array(BINS_MAX);
  readonly #hessianSums = new Float64Array(BINS_MAX);
  readonly #counts = new Int32Array(BINS_MAX);
  readonly #gradientOf: Float64Array;
  readonly #hessianOf: Float64Array;
  readonly #right: Int32Array;

  constructor(
    bins: Bins,
    columns: Int32Array,
    rows: Int32Array,
    gradient: Float64Array,
    hessian: Float64Array,
    options: GrowOptions,
    random: Random,
  ) {
    this.#bins = bins;
    this.#columns = columns;
    this.#rows = rows;
    this.#gradient = gradient;
    this.#hessian = hessian;
    this.#options = options;
    this.#random = random;
    this.#gradientOf = new Float64Array(rows.length);
    this.#hessianOf = new Float64Array(rows.length);
    this.#right = new Int32Array(rows.length);
  }

  tree(): Tree {
    const { feature, threshold, left, right, value, gain } = this.#nodes;
    return {
      feature: Int32Array.from(feature),
      threshold: Float64Array.from(threshold),
      left: Int32Array.from(left),
      right: Int32Array.from(right),
      value: Float64Array.from(value),
      gain: Float64Array.from(gain),
    };
  }

  /** Makes the node of the rows from `start` to `end`, and those below it; returns its number. */
  grow(start: number, end: number, depth: number): number {
    const { depthMax, leafRowsMin, ridge } = this.#options;
    let gradient = 0;
    let hessian = 0;
    for (let i = start; i < end; i++) {
      const row = this.#rows[i] as number;
      gradient += this.#gradient[row] as number;
      hessian += this.#hessian[row] as number;
    }
    const node = this.#nodes.feature.length;
    this.#nodes.feature.push(-1);
    this.#nodes.threshold.push(0);
    this.#nodes.left.push(-1);
    this.#nodes.right.push(-1);
    this.#nodes.gain.push(0);
    this.#nodes.value.push(hessian + ridge > 0 ? gradient / (hessian + ridge) : 0);
    if (depth >= depthMax || end - start < 2 * leafRowsMin) return node;
    const split = this.#bestSplit(start, end, gradient, hessian);
    if (split === undefined) return node;
    const middle = this.#partition(start, end, split);
    this.#nodes.feature[node] = split.feature;
    this.#nodes.value[node] = 0;
    this.#nodes.gain[node] = split.gain;
    this.#nodes.threshold[node] = this.#bins.cuts[split.feature]?.[split.bin] as number;
    this.#nodes.left[node] = this.grow(start, middle, depth + 1);
    this.#nodes.right[node] = this.grow(middle, end, depth + 1);
    return node;
  }

  #bestSplit(start: number, end: number, gradient: number, hessian: number): Split | undefined {
    const { columnsPerSplit, gainMin } = this.#options;
    const tried = Math.min(columnsPerSplit, this.#columns.length);
    if (tried < this.#columns.length) this.#random.shuffleFront(this.#columns, tried);
    for (let i = start; i < end; i++) {
      const row = this.#rows[i] as number;
      this.#gradientOf[i] = this.#gradient[row] as number;
      this.#hessianOf[i] = this.#hessian[row] as number;
    }
    let best: Split | undefined;
    for (let i = 0; i < tried; i++) {
      const feature = this.#columns[i] as number;
      const found = this.#bestOfColumn(feature, start, end, gradient, hessian, best?.gain ?? gainMin);
      if (found !== undefined) best = found;
    }
    return best;
  }

  #bestOfColumn(
    feature: number,
    start: number,
    end: number,
    gradient: number,
    hessian: number,
    toBeat: number,
  ): Split | undefined {
    const cuts = (this.#bins.cuts[feature] as Float64Array).length;
    if (cuts === 0) return undefined;
    const { leafRowsMin, ridge } = this.#options;
    this.#fillHistogram(feature, start, end, cuts);
    const whole = (gradient * gradient) / (hessian + ridge);
    let leftGradient = 0;
    let leftHessian = 0;
    let leftCount = 0;
    let bestGain = toBeat;
    let bestBin = -1;
    for (let bin = 0; bin < cuts; bin++) {
      leftGradient += this.#gradientSums[bin] as number;
      leftHessian += this.#hessianSums[bin] as number;
      leftCount += this.#counts[bin] as number;
      if (leftCount < leafRowsMin || this.#counts[bin] === 0) continue;
      if (end - start - leftCount < leafRowsMin) break;
      const rightGradient = gradient - leftGradient;
      const rightHessian = hessian - leftHessian;
      if (leftHessian + ridge <= 0 || rightHessian + ridge <= 0) continue;
      const gain =
        (leftGradient * leftGradient) / (leftHessian + ridge) +
        (rightGradient * rightGradient) / (rightHessian + ridge) -
        whole;
      if (gain > bestGain) {
        bestGain = gain;
        bestBin = bin;
      }
    }
    return bestBin < 0 ? undefined : { feature, bin: bestBin, gain: bestGain };
  }

  #fillHistogram(feature: number, start: number, end: number, cuts: number): void {
    const gradientSums = this.#gradientSums;
    const hessianSums = this.#hessianSums;
    const counts = this.#counts;
    const rows = this.#rows;
    const codes = this.#bins.codes;
    const gradientOf = this.#gradientOf;
    const hessianOf = this.#hessianOf;
    const offset = feature * this.#bins.rows;
    gradientSums.fill(0, 0, cuts + 1);
    hessianSums.fill(0, 0, cuts + 1);
    counts.fill(0, 0, cuts + 1);
    for (let i = start; i < end; i++) {
      const code = codes[offset + (rows[i] as number)] as number;
      gradientSums[code] = (gradientSums[code] as number) + (gradientOf[i] as number);
      hessianSums[code] = (hessianSums[code] as number) + (hessianOf[i] as number);
      counts[code] = (counts[code] as number) + 1;
    }
  }

  /** Rows that go left come first, in their order; returns where the others begin. */
  #partition(start: number, end: number, { feature, bin }: Split): number {
    const offset = feature * this.#bins.rows;
    const codes = this.#bins.codes;
    let left = start;
    let right = 0;
    for (let i = start; i < end; i++) {
      const row = this.#rows[i] as number;
      if ((codes[offset + row] as number) <= bin) this.#rows[left++] = row;
      else this.#right[right++] = row;
    }
    this.#rows.set(this.#right.subarray(0, right), left);
    return left;
  }
}

/** The leaf's value for the row of features that begins at `offset`. */
export function valueOf(tree: Tree, values: Float32Array, offset: number): number {
  let node = 0;
  for (;;) {
    const feature = tree.feature[node] as number;
    if (feature < 0) return tree.value[node] as number;
    node = (
      (values[offset + feature] as number) < (tree.threshold[node] as number) ? tree.left[node] : tree.right[node]
    ) as number;
  }
}
