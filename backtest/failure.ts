/** How well the failure engine does: trained on one table of units, judged on another that it never saw. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { ForeshiftError, messageOf } from "../models/errors.ts";
import { ACTS_FROM, UnitWatch } from "../models/failure/acting.ts";
import { FeatureExtractor } from "../models/failure/features.ts";
import {
  averagePrecision,
  brierScore,
  calibrationError,
  recallAtPrecision,
  reliability,
  rocAuc,
} from "../models/failure/metrics.ts";
import { type FailureModel, type Probability, predict } from "../models/failure/model.ts";
import { toModelFile } from "../models/failure/model-file.ts";
import { featuresOf } from "../models/failure/plan-features.ts";
import { labelsWithin, type UnitTable } from "../models/failure/table.ts";
import { trainFailureModel } from "../models/failure/train.ts";
import { threadedExecutor } from "../workers/trainer/pool.ts";
import { readUnitTable } from "./unit-table.ts";

export interface FailureBacktest {
  readonly train: string;
  readonly test: string;
  /** In the tables' unit of time. */
  readonly window: number;
  readonly seed: number;
  /** Where the trained model is written, for `foreshift models import`. */
  readonly modelOut?: string;
}

const CALIBRATION_BINS = 10;
const PRECISION_WANTED = 0.9;

export async function backtestFailure({ train, test, window, seed, modelOut }: FailureBacktest) {
  if (!(window > 0)) throw invalid("--window", window, "expected a time above zero");
  if (!Number.isSafeInteger(seed)) throw invalid("--seed", seed, "expected a whole number");
  const training = await readUnitTable(train);
  if (!training.timeToFailure.some((left) => left <= window)) {
    throw invalid("--window", window, `no row of ${train} fails within it, so there is nothing to learn`);
  }
  const startedMs = performance.now();
  const model = await trainFailureModel(training, { window, seed }, threadedExecutor());
  const trainSeconds = (performance.now() - startedMs) / 1_000;
  if (modelOut !== undefined) await writeModel(modelOut, model, training, seed);
  const testing = await readUnitTable(test, training.columns);
  return {
    ...judge(model, testing),
    trainSeconds: rounded(trainSeconds, 2),
    rssMb: Math.round(process.resourceUsage().maxRSS / 1_024),
  };
}

async function writeModel(file: string, model: FailureModel, { rows, units, time }: UnitTable, seed: number): Promise<void> {
  const manifest: { version: string } = JSON.parse(await readFile(join(import.meta.dirname, "..", "package.json"), "utf8"));
  const dataFrom = time.reduce((least, at) => Math.min(least, at), Number.POSITIVE_INFINITY);
  const dataUntil = time.reduce((most, at) => Math.max(most, at), Number.NEGATIVE_INFINITY);
  const origin = { codeVersion: manifest.version, dataFrom, dataUntil, rows, units, seed };
  try {
    await writeFile(file, JSON.stringify(toModelFile(model, origin)));
  } catch (thrown) {
    throw new ForeshiftError("DISK", { value: file, detail: messageOf(thrown) });
  }
}

function judge(model: FailureModel, table: UnitTable) {
  const startedMs = performance.now();
  const extractor = new FeatureExtractor(model.plan);
  const features = featuresOf(table, extractor);
  const said = Array.from({ length: table.rows }, (_, row) => predict(model, features.values, row * features.columns));
  const predictMicros = ((performance.now() - startedMs) * 1_000) / table.rows;
  const labels = labelsWithin(table, model.window);
  const probabilities = Float64Array.from(said, ({ probability }) => probability);
  const positives = labels.reduce((sum, label) => sum + label, 0);
  const baseRate = positives / table.rows;
  const bins = reliability(probabilities, labels, CALIBRATION_BINS);
  const acts = actingRows(model, table, said);
  return {
    ap: rounded(averagePrecision(probabilities, labels)),
    rocAuc: rounded(rocAuc(probabilities, labels)),
    brier: rounded(brierScore(probabilities, labels)),
    brierOfBaseRate: rounded(baseRate * (1 - baseRate)),
    recallAtPrecision90: rounded(recallAtPrecision(probabilities, labels, PRECISION_WANTED)),
    calibration: {
      error: rounded(calibrationError(bins)),
      bins: bins.map(({ said, observed, rows }) => ({ said: rounded(said), observed: rounded(observed), rows })),
    },
    operatingPoint: operatingPoint(acts, labels),
    bestF1: bestThreshold(model, probabilities, labels),
    leadTime: leadTime(model, table, acts),
    carriesSignal: model.metrics.carriesSignal,
    rows: table.rows,
    positives,
    units: table.units,
    features: extractor.names.length,
    predictMicros: rounded(predictMicros, 1),
  };
}

/** Rows at which the fleet's own rule would ask for the sessions to leave; of each failure's approach anew. */
function actingRows(model: FailureModel, table: UnitTable, said: readonly Probability[]): Uint8Array {
  const acts = new Uint8Array(table.rows);
  for (const { rows } of approaches(table, model.window)) {
    const watch = new UnitWatch(model.window, model.metrics.carriesSignal);
    for (const row of rows) acts[row] = watch.look(said[row] as Probability, table.time[row] as number) ? 1 : 0;
  }
  return acts;
}

/** How right the rule that acts is, row by row. From the threshold on and above the lower bound, twice in three rows, it begins to act. */
function operatingPoint(acts: Uint8Array, labels: Uint8Array) {
  const { probability, lowerBound } = ACTS_FROM;
  return { threshold: probability, lowerBound: rounded(lowerBound), ...countsOf(acts, labels) };
}

/** At the threshold that had the best F1 on units unseen in training; nothing of the test was used to choose it. */
function bestThreshold(model: FailureModel, probabilities: Float64Array, labels: Uint8Array) {
  const { threshold } = model.metrics.bestF1;
  const alarms = Uint8Array.from(probabilities, (probability) => (probability < threshold ? 0 : 1));
  return { threshold: rounded(threshold), ...countsOf(alarms, labels) };
}

function countsOf(alarms: Uint8Array, labels: Uint8Array) {
  const raised = alarms.reduce((sum, alarm) => sum + alarm, 0);
  const found = alarms.reduce((sum, alarm, row) => sum + alarm * (labels[row] as number), 0);
  const positives = labels.reduce((sum, label) => sum + label, 0);
  return {
    precision: rounded(found / raised),
    recall: rounded(found / positives),
    f1: rounded((2 * found) / (raised + positives)),
  };
}

interface Approach {
  /** Rows of one unit that lead up to one failure, and how far the failure was at the first and last of them. */
  readonly rows: readonly number[];
  readonly isFailure: boolean;
}

/**
 * How long before each failure the rule would have begun to act. A failure counts when the table reaches into its window; an alarm that
 * begins more than two windows before the failure, or with none to come, is false.
 */
function leadTime(model: FailureModel, table: UnitTable, acts: Uint8Array) {
  const leads: number[] = [];
  let failures = 0;
  let falseAlarms = 0;
  for (const { rows, isFailure } of approaches(table, model.window)) {
    if (isFailure) failures++;
    let before = 0;
    let lead: number | undefined;
    for (const row of rows) {
      const isActing = acts[row] as number;
      const left = table.timeToFailure[row] as number;
      if (isActing > before && left > 2 * model.window) falseAlarms++;
      if (isActing > 0 && left <= 2 * model.window) lead ??= left;
      before = isActing;
    }
    if (isFailure && lead !== undefined) leads.push(lead);
  }
  leads.sort((a, b) => a - b);
  return {
    failures,
    foreseen: leads.length,
    median: leads[leads.length >> 1] ?? null,
    p10: leads[Math.floor(leads.length / 10)] ?? null,
    falseAlarms,
    falseAlarmsPerThousandRows: rounded((falseAlarms * 1_000) / table.rows),
  };
}

/** A unit's rows, cut after each failure: there the time to failure rises again. */
function approaches(table: UnitTable, window: number): Approach[] {
  const found: Approach[] = [];
  let rows: number[] = [];
  for (let row = 0; row < table.rows; row++) {
    rows.push(row);
    const left = table.timeToFailure[row] as number;
    const isLast = row + 1 === table.rows || table.unit[row + 1] !== table.unit[row];
    if (!isLast && (table.timeToFailure[row + 1] as number) <= left) continue;
    found.push({ rows, isFailure: left <= window });
    rows = [];
  }
  return found;
}

function rounded(value: number, digits = 4): number | null {
  return Number.isFinite(value) ? Number(value.toFixed(digits)) : null;
}

function invalid(field: string, value: number, detail: string): ForeshiftError {
  return new ForeshiftError("INVALID_FIELD", { field, value, detail });
}
