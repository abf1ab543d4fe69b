/** Champion and challenger on rows that neither has seen. */
import { type Trial, weighChallenger } from "../failure/champion.ts";
import { FeatureExtractor } from "../failure/features.ts";
import { averagePrecision, brierScore, calibrationError, positivesIn, reliability } from "../failure/metrics.ts";
import { type FailureModel, predict } from "../failure/model.ts";
import { featuresOf } from "../failure/plan-features.ts";
import { labelsWithin } from "../failure/table.ts";
import type { TrainingSet } from "./training-set.ts";

const CALIBRATION_BINS = 10;

export interface UnseenTrial extends Trial {
  /** Rows that count, and those of them before a failure. */
  readonly rows: number;
  readonly positives: number;
}

export interface Comparison {
  readonly promote: boolean;
  readonly reason: string;
  readonly challenger: UnseenTrial;
  readonly champion: UnseenTrial | undefined;
}

/** On the rows from `from` on; a champion that reads other columns cannot be compared, and gives way. */
export function compareOnUnseen(
  set: TrainingSet,
  from: number,
  challenger: FailureModel,
  champion: FailureModel | undefined,
): Comparison {
  const isForeign = champion !== undefined && !readsColumns(champion, set);
  const challengers = trialOf(set, from, challenger);
  const champions = champion === undefined || isForeign ? undefined : trialOf(set, from, champion, challenger.window);
  const { promote, reason } = weighChallenger(champions, challengers);
  const told = isForeign && promote ? "the model in use reads other columns than there are" : reason;
  return { promote, reason: told, challenger: challengers, champion: champions };
}

export function readsColumns(model: FailureModel, { table }: TrainingSet): boolean {
  const { columns } = model.plan;
  return columns.length === table.columns.length && columns.every((name, at) => name === table.columns[at]);
}

/** A model looks at all of a unit's rows, and is judged by those from `from` on. */
function trialOf({ table, weights }: TrainingSet, from: number, model: FailureModel, window = model.window): UnseenTrial {
  const features = featuresOf(table, new FeatureExtractor(model.plan));
  const all = labelsWithin(table, window);
  const rows = [...table.time.keys()].filter((row) => (table.time[row] as number) > from && (weights[row] as number) > 0);
  const said = Float64Array.from(rows, (row) => predict(model, features.values, row * features.columns).probability);
  const labels = Uint8Array.from(rows, (row) => all[row] as number);
  const counts = Float64Array.from(rows, (row) => weights[row] as number);
  return {
    ap: averagePrecision(said, labels, counts),
    brier: brierScore(said, labels, counts),
    calibrationError: calibrationError(reliability(said, labels, CALIBRATION_BINS, counts)),
    carriesSignal: model.metrics.carriesSignal,
    rows: rows.length,
    positives: positivesIn(labels),
  };
}
