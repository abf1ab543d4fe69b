/**
 * A quantile regression forest (Meinshausen 2006): trees split on histograms of binned features, and a leaf keeps which bin of the
 * target its rows fell into, so that a forecast is a whole distribution and not a mean.
 */
import { seededRandom } from "../random.ts";

export interface ForestOptions {
  readonly trees: number;
  readonly rowsPerLeafMin: number;
  readonly depthMax: number;
  /** Features looked at for each split. */
  readonly featuresPerSplit: number;
  /** Share of the rows that a tree is grown on, without replacement. */
  readonly rowShare: number;
  readonly seed: number;
}

const FEATURE_BINS = 32;
const LEAF = -1;

interface Tree {
  /** For each node: the feature it splits on, or LEAF. */
  readonly feature: Int16Array;
  /** Rows whose bin is at most this go left. */
  readonly bin: Uint8Array;
  readonly left: Int32Array;
  readonly right: Int32Array;
  /** For each node: its stretch of `rows`. */
  readonly from: Int32Array;
  readonly to: Int32Array;
  /** Target bin of each row, in the order of the leaves. */
  readonly targetBins: Uint16Array;
}

export class QuantileForest {
  private readonly edges: readonly Float64Array[];
  private readonly trees: readonly Tree[];
  private readonly binned: Uint8Array;

  /**
   * `features`: one column each, NaN where unknown (sorted below every number); `target`: what the splits separate;
   * `targetBins`: the bin of each row that forecasts count.
   */
  constructor(features: readonly Float64Array[], target: Float64Array, targetBins: Uint16Array, options: ForestOptions) {
    this.edges = features.map(edgesOf);
    this.binned = new Uint8Array(features.length);
    const bins = features.map((column, index) => Uint8Array.from(column, (value) => binOf(this.edges[index], value)));
    const random = seededRandom(options.seed);
    this.trees = Array.from({ length: options.trees }, () => growTree(bins, target, targetBins, options, random));
  }

  /** Adds to `weights` (one a target bin) the share of each bin, over all trees; the sum added is 1. */
  addShares(features: Float64Array, weights: Float64Array): void {
    const { binned } = this;
    for (let index = 0; index < binned.length; index++) binned[index] = binOf(this.edges[index], features[index] as number);
    for (const tree of this.trees) {
      let node = 0;
      for (let feature = tree.feature[0] as number; feature !== LEAF; feature = tree.feature[node] as number) {
        node =
          (binned[feature] as number) <= (tree.bin[node] as number)
            ? (tree.left[node] as number)
            : (tree.right[node] as number);
      }
      const from = tree.from[node] as number;
      const to = tree.to[node] as number;
      const share = 1 / ((to - from) * this.trees.length);
      for (let row = from; row < to; row++) {
        const bin = tree.targetBins[row] as number;
        weights[bin] = (weights[bin] as number) + share;
      }
    }
  }
}

function edgesOf(column: Float64Array): Float64Array {
  const sorted = column.filter((value) => Number.isFinite(value)).sort();
  const edges: number[] = [];
  for (let bin = 1; bin < FEATURE_BINS; bin++) {
    const edge = sorted[Math.floor((sorted.length * bin) / FEATURE_BINS)];
    if (edge !== undefined && edge !== edges.at(-1)) edges.push(edge);
  }
  return Float64Array.from(edges);
}

function binOf(edges: Float64Array | undefined, value: number): number {
  if (edges === undefined) return 0;
  let low = 0;
  let high = edges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (value >= (edges[middle] as number)) low = middle + 1;
    else high = middle;
  }
  return low;
}

interface Split {
  readonly feature: number;
  readonly bin: number;
}

function growTree(
  bins: readonly Uint8Array[],
  target: Float64Array,
  targetBins: Uint16Array,
  options: ForestOptions,
  random: () => number,
): Tree {
  const rows = sampleRows(target.length, options.rowShare, random);
  const nodes: { feature: number; bin: number; left: number; right: number; from: number; to: number }[] = [];
  const grow = (from: number, to: number, depth: number): number => {
    const node = { feature: LEAF, bin: 0, left: 0, right: 0, from, to };
    const id = nodes.push(node) - 1;
    if (to - from < 2 * options.rowsPerLeafMin || depth >= options.depthMax) return id;
    const split = bestSplit(bins, target, rows, from, to, options, random);
    if (split === undefined) return id;
    const middle = partition(rows, from, to, bins[split.feature] as Uint8Array, split.bin);
    node.feature = split.feature;
    node.bin = split.bin;
    node.left = grow(from, middle, depth + 1);
    node.right = grow(middle, to, depth + 1);
    return id;
  };
  grow(0, rows.length, 0);
  return {
    feature: Int16Array.from(nodes, (node) => node.feature),
    bin: Uint8Array.from(nodes, (node) => node.bin),
    left: Int32Array.from(nodes, (node) => node.left),
    right: Int32Array.from(nodes, (node) => node.right),
    from: Int32Array.from(nodes, (node) => node.from),
    to: Int32Array.from(nodes, (node) => node.to),
    targetBins: Uint16Array.from(rows, (row) => targetBins[row] as number),
  };
}

function sampleRows(count: number, share: number, random: () => number): Int32Array {
  const rows = Int32Array.from({ length: count }, (_, row) => row);
  const taken = Math.max(1, Math.floor(count * share));
  for (let place = 0; place < taken; place++) {
    const other = place + Math.floor(random() * (count - place));
    const held = rows[place] as number;
    rows[place] = rows[other] as number;
    rows[other] = held;
  }
  return rows.slice(0, taken);
}

/** The split that leaves the least squared error, among features drawn at random; undefined when none helps. */
function bestSplit(
  bins: readonly Uint8Array[],
  target: Float64Array,
  rows: Int32Array,
  from: number,
  to: number,
  options: ForestOptions,
  random: () => number,
): Split | undefined {
  const sums = new Float64Array(FEATURE_BINS);
  const counts = new Int32Array(FEATURE_BINS);
  let total = 0;
  for (let place = from; place < to; place++) total += target[rows[place] as number] as number;
  const count = to - from;
  let bestScore = (total * total) / count + 1e-9;
  let best: Split | undefined;
  for (let draw = 0; draw < options.featuresPerSplit; draw++) {
    const feature = Math.floor(random() * bins.length);
    const column = bins[feature] as Uint8Array;
    sums.fill(0);
    counts.fill(0);
    for (let place = from; place < to; place++) {
      const row = rows[place] as number;
      const bin = column[row] as number;
      sums[bin] = (sums[bin] as number) + (target[row] as number);
      counts[bin] = (counts[bin] as number) + 1;
    }
    let leftSum = 0;
    let leftCount = 0;
    for (let bin = 0; bin < FEATURE_BINS - 1; bin++) {
      leftSum += sums[bin] as number;
      leftCount += counts[bin] as number;
      if (leftCount < options.rowsPerLeafMin) continue;
      if (count - leftCount < options.rowsPerLeafMin) break;
      const rightSum = total - leftSum;
      const score = (leftSum * leftSum) / leftCount + (rightSum * rightSum) / (count - leftCount);
      if (score <= bestScore) continue;
      bestScore = score;
      best = { feature, bin };
    }
  }
  return best;
}

function partition(rows: Int32Array, from: number, to: number, column: Uint8Array, bin: number): number {
  let left = from;
  let right = to - 1;
  while (left <= right) {
    const row = rows[left] as number;
    if ((column[row] as number) <= bin) left += 1;
    else {
      rows[left] = rows[right] as number;
      rows[right] = row;
      right -= 1;
    }
  }
  return left;
}
