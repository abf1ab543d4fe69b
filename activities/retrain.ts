/**
 * Steps of a retraining: rows are gathered and stored, a challenger is trained on them, compared with the model in use on what neither has
 * seen, and put in use or not. Rows and models stay in the store; only their names, and figures, travel through Temporal.
 */
import { Context } from "@temporalio/activity";
import type { Store } from "../drivers/ports.ts";
import type { ModelStore } from "../drivers/store/models.ts";
import type { SnapshotFacts, SnapshotRef, TrainingStore } from "../drivers/store/training.ts";
import { ForeshiftError } from "../models/errors.ts";
import type { FailureModelFile, ModelOrigin } from "../models/failure/model-file.ts";
import { LIMITS } from "../models/limits.ts";
import { type Comparison, readsColumns } from "../models/retraining/compare.ts";
import { failureTimes, type TrainingSet, unseenSince } from "../models/retraining/training-set.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { asActivity, asStep, type StepInput } from "./deps.ts";
import type { StopGuard } from "./stop-guard.ts";
import { gatherRows } from "./training-rows.ts";

/** Computes away from the thread that answers Temporal; ends what it does when the signal says so. */
export interface Trainer {
  train(set: TrainingSet, request: TrainRequest, signal: AbortSignal): Promise<FailureModelFile>;
  compare(set: TrainingSet, request: CompareRequest, signal: AbortSignal): Promise<Comparison>;
}

/** Learns from what is known a window before `unseenFrom`. */
export interface TrainRequest {
  readonly window: number;
  readonly unseenFrom: number;
  readonly seed: number;
  readonly codeVersion: string;
}

export interface CompareRequest {
  readonly unseenFrom: number;
  readonly challenger: FailureModelFile;
  readonly champion: FailureModelFile | undefined;
}

export interface RetrainDeps {
  readonly store: Pick<Store, "audit" | "specs" | "telemetry">;
  readonly models: ModelStore;
  readonly training: TrainingStore;
  readonly stopGuard: StopGuard;
  readonly trainer: Trainer;
  /** Of this program, stored with each model. */
  readonly codeVersion: string;
}

export interface OnSnapshot extends StepInput {
  readonly snapshot: SnapshotRef;
}

export interface ChallengerRef {
  readonly id: string;
  readonly origin: ModelOrigin;
}

export interface RetrainEnd extends StepInput {
  readonly outcome: "promoted" | "kept";
  readonly why: string;
  readonly challenger: string | undefined;
  readonly champion: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;
}

export interface RetrainResult {
  /** `promoted`: the challenger is in use. `kept`: what was in use before still is. */
  readonly outcome: "promoted" | "kept";
  readonly text: string;
  readonly challenger: string | undefined;
  /** The model in use afterwards. */
  readonly champion: string | undefined;
}

/** Every training of the same rows gives the same model. */
const SEED = 1;

export function retrainActivities(deps: RetrainDeps) {
  return {
    takeSnapshot: (input: StepInput): Promise<SnapshotRef> =>
      asStep(deps, input, "take a snapshot", () => takeSnapshot(deps, input)),

    trainChallenger: (input: OnSnapshot): Promise<ChallengerRef> =>
      asStep(deps, input, "train a challenger", () => trainChallenger(deps, input)),

    compareModels: (input: OnSnapshot & { challenger: string }): Promise<Comparison> =>
      asActivity(() => compareModels(deps, input)),

    endRetraining: (input: RetrainEnd): Promise<RetrainResult> =>
      asStep(deps, input, "retrain the failure model", () => endRetraining(deps, input)),
  };
}

export type RetrainActivities = ReturnType<typeof retrainActivities>;

async function takeSnapshot(deps: RetrainDeps, { swarm, operation }: StepInput) {
  const done = await deps.training.snapshotOf(operation);
  if (done !== undefined) return { result: done, text: factsAsText(done), outcome: "already-done" as const };
  const spec = await specOf(deps, swarm);
  const { set, window } = await gatherRows(deps, spec, Date.now(), Context.current().cancellationSignal);
  const inUse = await deps.models.inUse(swarm);
  // One that reads other columns has seen nothing of these rows, whatever unit its times are in.
  const isComparable = inUse !== undefined && readsColumns(inUse.model, set);
  const origin = isComparable ? (await deps.models.load(swarm, inUse.id)).origin : undefined;
  const snapshot = await deps.training.saveSnapshot({
    scope: swarm,
    operation,
    set,
    facts: { ...factsOf(set, window, spec, origin), ...(inUse === undefined ? {} : { champion: inUse.id }) },
  });
  return { result: snapshot, text: factsAsText(snapshot), details: { ...snapshot.facts, snapshot: snapshot.id } };
}

function factsOf(set: TrainingSet, window: number, spec: SwarmSpec, champion: ModelOrigin | undefined): SnapshotFacts {
  const { table, weights } = set;
  const failures = failureTimes(set, window);
  const unseen = unseenSince(failures, window, champion?.dataUntil, spec.foresight.retrain.failuresMin);
  return {
    window,
    rows: table.rows,
    rowsHidden: weights.reduce((sum, weight) => sum + (weight === 0 ? 1 : 0), 0),
    units: table.units,
    failures: failures.length,
    dataFrom: table.rows === 0 ? 0 : table.time.reduce((least, at) => Math.min(least, at), Number.POSITIVE_INFINITY),
    dataUntil: table.time.reduce((most, at) => Math.max(most, at), 0),
    ...("tooFew" in unseen ? { tooFew: unseen.tooFew } : { unseenFrom: unseen.from }),
  };
}

function factsAsText({ id, facts }: SnapshotRef): string {
  const days = Number(((facts.dataUntil - facts.dataFrom) / (24 * 60)).toFixed(1));
  return `Snapshot ${id}: ${facts.rows} minutes of telemetry over ${days} days with ${counted(facts.failures, "failure")}; what came of ${facts.rowsHidden} of them is not known`;
}

async function trainChallenger(deps: RetrainDeps, { swarm, snapshot }: OnSnapshot) {
  const { window, unseenFrom } = trainable(snapshot);
  const set = await deps.training.loadSnapshot(swarm, snapshot.id);
  const request = { window, unseenFrom, seed: SEED, codeVersion: deps.codeVersion };
  const file = await deps.trainer.train(set, request, Context.current().cancellationSignal);
  const { id } = await deps.models.save(swarm, file);
  const { ap, rows, positives } = file.metrics;
  return {
    result: { id, origin: file.origin },
    text: `Model ${id} was trained on ${rows} rows, ${positives} of them before a failure; average precision ${ap.toFixed(3)} on units it had not seen`,
    details: { model: id, snapshot: snapshot.id, ...file.origin },
  };
}

async function compareModels(deps: RetrainDeps, { swarm, snapshot, challenger }: OnSnapshot & { challenger: string }) {
  const { unseenFrom } = trainable(snapshot);
  const { champion } = snapshot.facts;
  const set = await deps.training.loadSnapshot(swarm, snapshot.id);
  const request = {
    unseenFrom,
    challenger: (await deps.models.load(swarm, challenger)).file,
    champion: champion === undefined ? undefined : (await deps.models.load(swarm, champion)).file,
  };
  return await deps.trainer.compare(set, request, Context.current().cancellationSignal);
}

/** Whoever was put in use by hand meanwhile stays. */
async function endRetraining(deps: RetrainDeps, input: RetrainEnd) {
  const { swarm, operation, challenger, champion, details } = input;
  const inUse = (await deps.models.inUse(swarm))?.id;
  let { outcome, why } = input;
  if (outcome === "promoted" && inUse !== champion && inUse !== challenger) {
    outcome = "kept";
    why = `${inUse ?? "no model"} was put in use meanwhile`;
  }
  if (outcome === "promoted" && challenger !== undefined) {
    await deps.models.promote({ operation, scope: swarm, by: "retrainModels", reason: why, id: challenger });
  }
  await deps.training.recordRetraining({ operation, scope: swarm, outcome, reason: why, challenger, champion, details });
  await deps.models.prune(swarm, LIMITS.training.unusedModelsKeptMax);
  const kept = inUse === undefined ? "No model is in use" : `Model ${inUse} stays in use`;
  const text = outcome === "promoted" ? `Model ${challenger} is in use: ${why}` : `${kept}: ${why}`;
  const result: RetrainResult = {
    outcome,
    text: `${text}.`,
    challenger,
    champion: outcome === "promoted" ? challenger : inUse,
  };
  return { result, text, details: { ...details, outcome, challenger: challenger ?? "", champion: champion ?? "" } };
}

async function specOf(deps: RetrainDeps, swarm: string): Promise<SwarmSpec> {
  const spec = (await deps.store.specs()).find(({ name }) => name === swarm);
  if (spec === undefined) throw new ForeshiftError("UNKNOWN_SWARM", { value: swarm });
  return spec;
}

function trainable({ id, facts }: SnapshotRef): { window: number; unseenFrom: number } {
  const { window, unseenFrom } = facts;
  if (unseenFrom === undefined) throw new ForeshiftError("INTERNAL", { detail: `snapshot ${id} has nothing to train on` });
  return { window, unseenFrom };
}
