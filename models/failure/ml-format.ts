/**
 * Trees in the JSON of ml-random-forest's regression forest: `RandomForestRegression.load` takes it and its mean over the trees is what
 * the ensemble says. Reading is strict, since a model file comes from outside.
 */
import { z } from "zod";
import { ForeshiftError } from "../errors.ts";
import type { Tree } from "./tree.ts";

/** What a tree's JSON may hold at most; a file with more is no model of ours. */
const NODES_MAX = 200_000;
const DEPTH_MAX = 64;

const TREE_OPTIONS = {
  gainFunction: "regression",
  splitFunction: "mean",
  minNumSamples: 3,
  maxDepth: DEPTH_MAX,
  kind: "regression",
} as const;

const EstimatorJson = z.object({ name: z.literal("DTRegression"), options: z.looseObject({}), root: z.unknown() });

export const ForestJson = z.object({
  name: z.literal("RFRegression"),
  selectionMethod: z.literal("mean"),
  baseModel: z.object({
    indexes: z.array(z.array(z.number().int().min(0))),
    n: z.number().int().min(1),
    replacement: z.boolean(),
    maxFeatures: z.number().int().min(1),
    nEstimators: z.number().int().min(1),
    treeOptions: z.looseObject({}),
    isClassifier: z.literal(false),
    seed: z.number().int(),
    estimators: z.array(EstimatorJson).min(1),
    useSampleBagging: z.boolean(),
  }),
});
export type ForestJson = z.infer<typeof ForestJson>;

type NodeJson =
  | { readonly distribution: number }
  | {
      readonly splitColumn: number;
      readonly splitValue: number;
      readonly gain: number;
      readonly left: NodeJson;
      readonly right: NodeJson;
    };

/** `columns` is the number of features that the trees were grown on. */
export function toForestJson(trees: readonly Tree[], columns: number, seed: number): ForestJson {
  const every = Array.from({ length: columns }, (_, column) => column);
  return {
    name: "RFRegression",
    selectionMethod: "mean",
    baseModel: {
      indexes: trees.map(() => every),
      n: columns,
      replacement: false,
      maxFeatures: columns,
      nEstimators: trees.length,
      treeOptions: TREE_OPTIONS,
      isClassifier: false,
      seed,
      estimators: trees.map((tree) => ({ name: "DTRegression", options: TREE_OPTIONS, root: nodeJson(tree, 0) })),
      useSampleBagging: true,
    },
  };
}

function nodeJson(tree: Tree, node: number): NodeJson {
  const splitColumn = tree.feature[node] as number;
  if (splitColumn < 0) return { distribution: tree.value[node] as number };
  return {
    splitColumn,
    splitValue: tree.threshold[node] as number,
    gain: tree.gain[node] as number,
    left: nodeJson(tree, tree.left[node] as number),
    right: nodeJson(tree, tree.right[node] as number),
  };
}

/** Throws MODEL_REFUSED unless every tree is whole, finite, and asks for nothing beyond the features there are. */
export function fromForestJson({ baseModel }: ForestJson, columns: number): Tree[] {
  if (baseModel.nEstimators !== baseModel.estimators.length || baseModel.indexes.length !== baseModel.estimators.length) {
    throw refused(`it says ${baseModel.nEstimators} trees and has ${baseModel.estimators.length}`);
  }
  return baseModel.estimators.map(({ root }, at) => {
    const index = baseModel.indexes[at] as readonly number[];
    const beyond = index.find((column) => column >= columns);
    if (beyond !== undefined) throw refused(`a tree sees feature ${beyond} of ${columns}`);
    return treeOf(root, index);
  });
}

/** A split names a place in the tree's own selection of features. */
function treeOf(root: unknown, index: readonly number[]): Tree {
  const nodes: { feature: number; threshold: number; left: number; right: number; value: number; gain: number }[] = [];
  const add = (json: unknown, depth: number): number => {
    if (depth > DEPTH_MAX || nodes.length >= NODES_MAX) throw refused("a tree is larger than any that is trained here");
    if (typeof json !== "object" || json === null) throw refused("a tree ends in the middle");
    const { distribution, splitColumn, splitValue, gain, left, right } = json as Record<string, unknown>;
    const node = { feature: -1, threshold: 0, left: -1, right: -1, value: 0, gain: 0 };
    const at = nodes.push(node) - 1;
    if (distribution !== undefined) {
      node.value = finite(distribution, "distribution");
      return at;
    }
    const feature = index[finite(splitColumn, "splitColumn")];
    if (feature === undefined) throw refused(`a split asks for feature ${JSON.stringify(splitColumn)} of ${index.length}`);
    node.feature = feature;
    node.threshold = finite(splitValue, "splitValue");
    node.gain = finite(gain, "gain");
    node.left = add(left, depth + 1);
    node.right = add(right, depth + 1);
    return at;
  };
  add(root, 0);
  return {
    feature: Int32Array.from(nodes, ({ feature }) => feature),
    threshold: Float64Array.from(nodes, ({ threshold }) => threshold),
    left: Int32Array.from(nodes, ({ left }) => left),
    right: Int32Array.from(nodes, ({ right }) => right),
    value: Float64Array.from(nodes, ({ value }) => value),
    gain: Float64Array.from(nodes, ({ gain }) => gain),
  };
}

function finite(value: unknown, name: string): number {
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw refused(`a node's ${name} is ${JSON.stringify(value) ?? "missing"}, expected a number`);
}

export function refused(detail: string): ForeshiftError {
  return new ForeshiftError("MODEL_REFUSED", { detail });
}
