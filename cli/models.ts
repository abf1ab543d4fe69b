/** `foreshift models list|show|import|promote|rollback|retrain`: the trained models, which one is in use, and the next one. */
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import type { RetrainResult } from "../activities/retrain.ts";
import { type ModelChangeRow, type ModelRow, type ModelStore, openModelStore } from "../drivers/store/models.ts";
import { openTrainingStore, type RetrainingRow } from "../drivers/store/training.ts";
import { ForeshiftError, fileTrouble } from "../models/errors.ts";
import { whyForeign } from "../models/failure/fleet-model.ts";
import { importance } from "../models/failure/importance.ts";
import type { FailureModel } from "../models/failure/model.ts";
import type { ModelOrigin } from "../models/failure/model-file.ts";
import { wantedSchedules } from "../models/retraining/schedule.ts";
import { databaseAddress } from "../setup/connection.ts";
import { me, table, withStore, withTemporal } from "./control.ts";
import { tellOfRun } from "./follow-run.ts";
import { print, wantsJson } from "./output.ts";

const FEATURES_SHOWN = 10;
const RETRAININGS_SHOWN = 20;

export function register(program: Command): void {
  const models = program.command("models").description("trained models: list, show, import, promote, roll back, retrain");
  models
    .command("list")
    .description("newest first; the one in use is marked, and why the last challenger was promoted or kept is said")
    .option("-s, --scope <name>", "of this swarm alone")
    .option("--json", "print JSON")
    .action(list);
  models
    .command("retrain")
    .description("train the failure model anew now, as its Schedule does")
    .option("-s, --swarm <name>", "where there is more than one")
    .option("-w, --wait", "show its lines, and return once it has ended")
    .option("--json", "print JSON")
    .action(retrain);
  models
    .command("show")
    .description("what one model was trained on, what it is good for, what it looks at")
    .argument("<id>")
    .option("-s, --scope <name>", "where two scopes hold it")
    .option("--json", "print JSON")
    .action(show);
  models
    .command("import")
    .description("check a model file and store it; it is not put in use")
    .requiredOption("-f, --file <file>", "as `backtest failure --model-out` writes it")
    .requiredOption("-s, --scope <name>", "the swarm it is for")
    .option("--json", "print JSON")
    .action(importFile);
  models
    .command("promote")
    .description("put a model in use; the one before stays to go back to")
    .argument("<id>")
    .option("-s, --scope <name>", "where two scopes hold it")
    .option("--reason <text>", "for the history", "by hand")
    .option("--json", "print JSON")
    .action(promote);
  models
    .command("rollback")
    .description("put the model before the current one in use again")
    .argument("<scope>")
    .option("--reason <text>", "for the history", "by hand")
    .option("--json", "print JSON")
    .action(rollback);
}

async function show(id: string, { scope }: { scope?: string }, command: Command): Promise<void> {
  const shown = await withModels(async (store) => {
    const row = await rowOf(store, id, scope);
    const { model, origin } = await store.load(row.scope, row.id);
    const history = (await store.history(row.scope)).filter((change) => change.model === row.id);
    return { ...row, history, ...described(model, origin) };
  });
  print(command, shown, (value) => showAsText(value, value.history));
}

async function list({ scope }: { scope?: string }, command: Command): Promise<void> {
  const databaseUrl = await databaseAddress();
  const training = openTrainingStore({ databaseUrl });
  try {
    const models = await withModels((store) => store.list(scope));
    const retrainings = await training.retrainings({ ...(scope === undefined ? {} : { scope }), limit: RETRAININGS_SHOWN });
    print(command, { models, retrainings }, listAsText);
  } finally {
    await training.close();
  }
}

async function retrain({ swarm, wait }: { swarm?: string; wait?: boolean }, command: Command): Promise<void> {
  const name = await swarmToTrain(swarm);
  await withTemporal(async (temporal) => {
    const begun = await temporal.retrain(name);
    const { workflowId, runId, isNew } = begun;
    const line = isNew ? `${name} is being trained` : `A training of ${name} was under way already`;
    if (wait !== true) {
      print(command, begun, () => `${line}: ${workflowId}. \`foreshift models list\` will say what came of it.`);
      return;
    }
    const tell = wantsJson(command) ? () => undefined : (text: string) => console.log(text);
    tell(`${line}: ${workflowId}`);
    const result = (await tellOfRun(temporal, workflowId, runId, tell)) as RetrainResult;
    print(command, { ...begun, ...result }, ({ outcome }) => outcome);
  });
}

/** AUTOMATION_STOPPED, UNKNOWN_SWARM or INVALID_FIELD, before anything is asked of Temporal. */
function swarmToTrain(swarm: string | undefined): Promise<string> {
  return withStore(async (store) => {
    const specs = await store.specs();
    const names = specs.map(({ name }) => name).join(", ");
    if (swarm === undefined && specs.length > 1) {
      throw new ForeshiftError("INVALID_FIELD", { field: "--swarm", value: "nothing", detail: `say which: ${names}` });
    }
    const spec = swarm === undefined ? specs[0] : specs.find(({ name }) => name === swarm);
    if (spec === undefined) throw new ForeshiftError("UNKNOWN_SWARM", { value: swarm ?? "any" });
    if (wantedSchedules([spec], []).length === 0) {
      const field = spec.foresight.mode === "off" ? "foresight.mode" : "foresight.retrain.mode";
      throw new ForeshiftError("INVALID_FIELD", { field, value: "off", detail: `${spec.name} trains no model while it is` });
    }
    const held = (await store.stopSwitches()).find(({ scope }) => scope === "*" || scope === spec.name);
    if (held !== undefined)
      throw new ForeshiftError("AUTOMATION_STOPPED", { value: `${spec.name} (by ${held.by}: ${held.reason})` });
    return spec.name;
  });
}

async function importFile({ file, scope }: { file: string; scope: string }, command: Command): Promise<void> {
  const input = await readModelFile(file);
  const saved = await withModels((store) => store.save(scope, input));
  print(command, { scope, ...saved }, ({ id, isNew }) =>
    isNew ? `Stored ${id}; \`foreshift models promote ${id}\` puts it in use.` : `${id} was stored already.`,
  );
}

async function promote(id: string, options: { scope?: string; reason: string }, command: Command): Promise<void> {
  const done = await withModels(async (store) => {
    const row = await rowOf(store, id, options.scope);
    const why = whyForeign((await store.load(row.scope, row.id)).model);
    if (why !== undefined) throw new ForeshiftError("MODEL_REFUSED", { detail: `${row.id} of ${row.scope}: ${why}` });
    const change = { operation: randomUUID(), by: me(), reason: options.reason };
    return { scope: row.scope, ...(await store.promote({ ...change, scope: row.scope, id: row.id })) };
  });
  print(
    command,
    done,
    ({ scope, from, to }) => `${scope} uses ${to}${from === undefined || from === to ? "" : `, not ${from}`}.`,
  );
}

async function rollback(scope: string, { reason }: { reason: string }, command: Command): Promise<void> {
  const done = await withModels((store) => store.rollback({ operation: randomUUID(), by: me(), scope, reason }));
  print(command, { scope, ...done }, ({ from, to }) => `${scope} uses ${to} again, not ${from}.`);
}

async function withModels<T>(use: (store: ModelStore) => Promise<T>): Promise<T> {
  const store = openModelStore({ databaseUrl: await databaseAddress() });
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}

/** The one model whose id begins so. */
async function rowOf(store: ModelStore, id: string, scope: string | undefined): Promise<ModelRow> {
  const [row, ...others] = (await store.list(scope)).filter((one) => one.id.startsWith(id));
  if (row === undefined) throw new ForeshiftError("UNKNOWN_MODEL", { value: id, detail: scope ?? "any scope" });
  if (others.length === 0) return row;
  const found = [row, ...others].map((one) => `${one.scope}/${one.id}`).join(", ");
  throw new ForeshiftError("INVALID_FIELD", {
    field: "id",
    value: id,
    detail: `it fits ${found}; give more of it, or --scope`,
  });
}

async function readModelFile(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch (thrown) {
    throw new ForeshiftError("MODEL_REFUSED", { detail: `${file}: ${fileTrouble(thrown)}` });
  }
}

function described(model: FailureModel, { codeVersion }: ModelOrigin) {
  return {
    codeVersion,
    columns: Object.fromEntries(model.plan.columns.map((name, at) => [name, model.plan.kinds[at]])),
    regimes: model.plan.regimes.means.length,
    timeScales: model.plan.timeScales,
    shareOfBoosting: model.mix,
    features: importance(model).slice(0, FEATURES_SHOWN),
  };
}

function listAsText({ models, retrainings }: { models: readonly ModelRow[]; retrainings: readonly RetrainingRow[] }): string {
  const trained = retrainings.map(({ scope, outcome, challenger, reason, atMs }) => {
    const who =
      challenger === undefined
        ? "nothing was trained"
        : `challenger ${challenger} was ${outcome === "promoted" ? "promoted" : "not promoted"}`;
    return `${scope}, ${new Date(atMs).toISOString().slice(0, 19)}: ${who}: ${reason}`;
  });
  return [modelsAsText(models), ...(trained.length === 0 ? [] : ["", ...trained])].join("\n");
}

function modelsAsText(rows: readonly ModelRow[]): string {
  if (rows.length === 0)
    return "No model is stored. `foreshift models retrain` trains one, once there are failures to learn from.";
  const head = ["", "SCOPE", "ID", "STORED", "WINDOW", "ROWS", "POSITIVE", "AP", "BRIER", "SIGNAL"];
  const body = rows.map(({ id, scope, window, createdAtMs, metrics, isInUse }) => [
    isInUse ? "*" : "",
    scope,
    id,
    new Date(createdAtMs).toISOString().slice(0, 19),
    String(window),
    String(metrics.rows),
    String(metrics.positives),
    metrics.ap.toFixed(3),
    metrics.brier.toFixed(4),
    metrics.carriesSignal ? "yes" : "no",
  ]);
  return table([head, ...body]);
}

function showAsText(value: ModelRow & ReturnType<typeof described>, history: readonly ModelChangeRow[]): string {
  const { origin, metrics } = value;
  const lines = [
    `${value.id} of ${value.scope}${value.isInUse ? ", in use" : ""}: failure within ${value.window}, code ${value.codeVersion}`,
    `trained on ${origin.rows} rows of ${origin.units} units, time ${origin.dataFrom} to ${origin.dataUntil}, ${metrics.positives} before a failure`,
    `average precision ${metrics.ap.toFixed(3)}, squared error ${metrics.brier.toFixed(4)} (base rate ${metrics.brierOfBaseRate.toFixed(4)})`,
    metrics.carriesSignal ? "the telemetry carries signal" : "the telemetry carries no signal: nothing is done on its word",
    `looks most at ${value.features.map(({ name, share }) => `${name} ${(share * 100).toFixed(0)} %`).join(", ")}`,
  ];
  for (const { kind, by, reason, atMs } of history) lines.push(`${new Date(atMs).toISOString()} ${kind} by ${by}: ${reason}`);
  return lines.join("\n");
}
