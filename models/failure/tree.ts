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

/** Of one bin: sums of gradient and hessian, and the number of rows. */
const SUMS = 3;

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
  /** Histograms of all columns are made where all are tried: then a child's is what its parent's and its sibling's differ by. */
  readonly #triesAll: boolean;
  /** Length of one column's histogram. */
  readonly #stride: number;
  readonly #scratch: Float64Array;
  readonly #spare: Float64Array[] = [];
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
    this.#triesAll = options.columnsPerSplit >= columns.length;
    this.#stride = SUMS * (1 + columns.reduce((most, column) => Math.max(most, (bins.cuts[column] as Float64Array).length), 0));
    this.#scratch = new Float64Array(this.#stride);
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

  /** Makes the node of the rows from `start` to `end`, and those below it; returns its number. Takes `histogram`, that of the rows. */
  grow(start: number, end: number, depth: number, histogram?: Float64Array): number {
    let gradient = 0;
    let hessian = 0;
    for (let i = start; i < end; i++) {
      const row = this.#rows[i] as number;
      gradient += this.#gradient[row] as number;
      hessian += this.#hessian[row] as number;
    }
    const { ridge } = this.#options;
    const node = this.#nodes.feature.length;
    this.#nodes.feature.push(-1);
    this.#nodes.threshold.push(0);
    this.#nodes.left.push(-1);
    this.#nodes.right.push(-1);
    this.#nodes.gain.push(0);
    this.#nodes.value.push(hessian + ridge > 0 ? gradient / (hessian + ridge) : 0);
    if (!this.#maySplit(end - start, depth)) return node;
    const own = this.#triesAll ? (histogram ?? this.#histogramOf(start, end)) : undefined;
    const split =
      own === undefined
        ? this.#bestOfSome(start, end, gradient, hessian)
        : this.#bestOfAll(own, end - start, gradient, hessian);
    if (split === undefined) {
      if (own !== undefined) this.#spare.push(own);
      return node;
    }
    const middle = this.#partition(start, end, split);
    const [ofLeft, ofRight] = own === undefined ? [] : this.#divided(own, start, middle, end, depth + 1);
    this.#nodes.feature[node] = split.feature;
    this.#nodes.gain[node] = split.gain;
    this.#nodes.value[node] = 0;
    this.#nodes.threshold[node] = this.#bins.cuts[split.feature]?.[split.bin] as number;
    this.#nodes.left[node] = this.grow(start, middle, depth + 1, ofLeft);
    this.#nodes.right[node] = this.grow(middle, end, depth + 1, ofRight);
    return node;
  }

  #maySplit(rows: number, depth: number): boolean {
    return depth < this.#options.depthMax && rows >= 2 * this.#options.leafRowsMin;
  }

  /** The histograms of both children, of those that may split: the smaller one's is made, the other's is the rest of `own`. */
  #divided(own: Float64Array, start: number, middle: number, end: number, depth: number): (Float64Array | undefined)[] {
    const mayLeft = this.#maySplit(middle - start, depth);
    const mayRight = this.#maySplit(end - middle, depth);
    if (!mayLeft && !mayRight) {
      this.#spare.push(own);
      return [];
    }
    const isLeftSmaller = middle - start <= end - middle;
    const smaller = isLeftSmaller ? this.#histogramOf(start, middle) : this.#histogramOf(middle, end);
    for (let i = 0; i < own.length; i++) own[i] = (own[i] as number) - (smaller[i] as number);
    const [ofLeft, ofRight] = isLeftSmaller ? [smaller, own] : [own, smaller];
    if (!mayLeft) this.#spare.push(ofLeft);
    if (!mayRight) this.#spare.push(ofRight);
    return [mayLeft ? ofLeft : undefined, mayRight ? ofRight : undefined];
  }

  #histogramOf(start: number, end: number): Float64Array {
    const histogram = this.#spare.pop() ?? new Float64Array(this.#stride * this.#columns.length);
    this.#gather(start, end);
    for (let i = 0; i < this.#columns.length; i++) {
      const column = histogram.subarray(i * this.#stride, (i + 1) * this.#stride);
      this.#fill(column, this.#columns[i] as number, start, end);
    }
    return histogram;
  }

  #bestOfAll(histogram: Float64Array, rows: number, gradient: number, hessian: number): Split | undefined {
    let best: Split | undefined;
    for (let i = 0; i < this.#columns.length; i++) {
      const column = histogram.subarray(i * this.#stride, (i + 1) * this.#stride);
      best = this.#bestOfColumn(column, this.#columns[i] as number, rows, gradient, hessian, best) ?? best;
    }
    return best;
  }

  /** Of a few columns, drawn for this split. */
  #bestOfSome(start: number, end: number, gradient: number, hessian: number): Split | undefined {
    const tried = this.#options.columnsPerSplit;
    this.#random.shuffleFront(this.#columns, tried);
    this.#gather(start, end);
    let best: Split | undefined;
    for (let i = 0; i < tried; i++) {
      const feature = this.#columns[i] as number;
      this.#fill(this.#scratch, feature, start, end);
      best = this.#bestOfColumn(this.#scratch, feature, end - start, gradient, hessian, best) ?? best;
    }
    return best;
  }

  #bestOfColumn(
    sums: Float64Array,
    feature: number,
    rows: number,
    gradient: number,
    hessian: number,
    toBeat: Split | undefined,
  ): Split | undefined {
    const cuts = (this.#bins.cuts[feature] as Float64Array).length;
    const { leafRowsMin, ridge, gainMin } = this.#options;
    const whole = (gradient * gradient) / (hessian + ridge);
    let leftGradient = 0;
    let leftHessian = 0;
    let leftRows = 0;
    let bestGain = toBeat?.gain ?? gainMin;
    let bestBin = -1;
    for (let bin = 0; bin < cuts; bin++) {
      const count = sums[bin * SUMS + 2] as number;
      if (count === 0) continue;
      leftGradient += sums[bin * SUMS] as number;
      leftHessian += sums[bin * SUMS + 1] as number;
      leftRows += count;
      if (leftRows < leafRowsMin) continue;
      if (rows - leftRows < leafRowsMin) break;
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

  /** Brings what the rows' sums are made of together, once for all columns. */
  #gather(start: number, end: number): void {
    for (let i = start; i < end; i++) {
      const row = this.#rows[i] as number;
      this.#gradientOf[i] = this.#gradient[row] as number;
      this.#hessianOf[i] = this.#hessian[row] as number;
    }
  }

  #fill(sums: Float64Array, feature: number, start: number, end: number): void {
    const rows = this.#rows;
    const codes = this.#bins.codes;
    const gradientOf = this.#gradientOf;
    const hessianOf = this.#hessianOf;
    const offset = feature * this.#bins.rows;
    sums.fill(0);
    for (let i = start; i < end; i++) {
      const at = (codes[offset + (rows[i] as number)] as number) * SUMS;
      sums[at] = (sums[at] as number) + (gradientOf[i] as number);
      sums[at + 1] = (sums[at + 1] as number) + (hessianOf[i] as number);
      sums[at + 2] = (sums[at + 2] as number) + 1;
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
