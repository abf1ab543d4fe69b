/** A failure model as a file or a row of a table: data and no code, checked whole before any of it is used. */
import { z } from "zod";
import type { Ensemble } from "./ensemble.ts";
import { FeatureExtractor } from "./features.ts";
import { ForestJson, fromForestJson, refused, toForestJson } from "./ml-format.ts";
import type { FailureModel } from "./model.ts";

/** Grows when the meaning of a field, or of a feature, changes: an older model would then be misread. */
const FORMAT_VERSION = 1;

const count = z.number().int().min(0);
const share = z.number().min(0).max(1);

const Plan = z.object({
  columns: z.array(z.string()).min(1),
  kinds: z.array(z.enum(["sensor", "event", "level", "condition", "ignored"])),
  regimes: z.object({
    conditions: z.array(count),
    means: z.array(z.array(z.number())).min(1),
    deviations: z.array(z.array(z.number().min(0))).min(1),
    scales: z.array(z.number().min(0)),
  }),
  timeScales: z.tuple([z.number().positive(), z.number().positive(), z.number().positive()]),
  timeIsAge: z.boolean(),
  withoutAge: z.boolean().optional(),
});

const Metrics = z.object({
  rows: count,
  positives: count,
  ap: share,
  brier: share,
  brierOfBaseRate: share,
  calibrationError: share,
  bestF1: z.object({ threshold: z.number(), f1: share }),
  carriesSignal: z.boolean(),
});

/** Where the model comes from: shown by `foreshift models`, and compared when a challenger wants its place. */
export const ModelOrigin = z.object({
  codeVersion: z.string().min(1),
  /** Of the training rows, in their own unit of time. */
  dataFrom: z.number(),
  dataUntil: z.number(),
  rows: count,
  units: count,
  seed: z.number().int(),
});
export type ModelOrigin = z.infer<typeof ModelOrigin>;

const FailureModelFile = z.object({
  kind: z.literal("foreshift-failure-model"),
  formatVersion: z.literal(FORMAT_VERSION),
  origin: ModelOrigin,
  window: z.number().positive(),
  plan: Plan,
  features: z.array(z.string()),
  forests: z.array(ForestJson),
  boostings: z.array(z.object({ base: z.number(), trees: ForestJson })),
  mix: share,
  calibration: z.object({ slope: z.number().positive(), offset: z.number() }),
  metrics: Metrics,
});
export type FailureModelFile = z.infer<typeof FailureModelFile>;

export function toModelFile(model: FailureModel, origin: ModelOrigin): FailureModelFile {
  const features = new FeatureExtractor(model.plan).names;
  const { window, mix, calibration, metrics } = model;
  return {
    kind: "foreshift-failure-model",
    formatVersion: FORMAT_VERSION,
    origin,
    window,
    plan: mutable(model.plan),
    features: [...features],
    forests: model.forests.map(({ trees }) => toForestJson(trees, features.length, origin.seed)),
    boostings: model.boostings.map(({ trees, base }) => ({ base, trees: toForestJson(trees, features.length, origin.seed) })),
    mix,
    calibration: { ...calibration },
    metrics,
  };
}

/** Throws MODEL_REFUSED, saying what is wrong, for anything but a whole model of this version. */
export function fromModelFile(input: unknown): { model: FailureModel; origin: ModelOrigin } {
  const parsed = FailureModelFile.safeParse(input);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw refused(`${issue?.path.map(String).join(".") || "the whole"}: ${issue?.message ?? "not of the expected form"}`);
  }
  const file = parsed.data;
  checkPlan(file.plan);
  const { names } = new FeatureExtractor(file.plan);
  if (names.length !== file.features.length || names.some((name, at) => name !== file.features[at])) {
    throw refused("its features are not those that its columns give with this version's code");
  }
  const forests = file.forests.map(
    (json): Ensemble => ({ kind: "forest", base: 0, trees: fromForestJson(json, names.length) }),
  );
  const boostings = file.boostings.map(
    ({ base, trees }): Ensemble => ({ kind: "boosting", base, trees: fromForestJson(trees, names.length) }),
  );
  const isComplete = (file.mix === 1 || forests.length > 0) && (file.mix === 0 || boostings.length > 0);
  if (!isComplete || (forests.length > 0 && boostings.length > 0 && forests.length !== boostings.length)) {
    throw refused(`it has ${forests.length} forests and ${boostings.length} boosted ensembles for a mix of ${file.mix}`);
  }
  const { window, plan, mix, calibration, metrics } = file;
  return { model: { window, plan, forests, boostings, mix, calibration, metrics }, origin: file.origin };
}

/** Every table of the plan is as wide as there are columns. */
function checkPlan({ columns, kinds, regimes }: z.infer<typeof Plan>): void {
  const widths = [kinds, regimes.scales, ...regimes.means, ...regimes.deviations].map((row) => row.length);
  const isConsistent =
    widths.every((width) => width === columns.length) &&
    regimes.means.length === regimes.deviations.length &&
    regimes.conditions.every((column) => column < columns.length);
  if (!isConsistent) throw refused("its tables of columns and regimes do not fit each other");
}

function mutable(plan: FailureModel["plan"]): z.infer<typeof Plan> {
  return {
    columns: [...plan.columns],
    kinds: [...plan.kinds],
    regimes: {
      conditions: [...plan.regimes.conditions],
      means: plan.regimes.means.map((row) => [...row]),
      deviations: plan.regimes.deviations.map((row) => [...row]),
      scales: [...plan.regimes.scales],
    },
    timeScales: [...plan.timeScales],
    timeIsAge: plan.timeIsAge,
    ...(plan.withoutAge === undefined ? {} : { withoutAge: plan.withoutAge }),
  };
}
