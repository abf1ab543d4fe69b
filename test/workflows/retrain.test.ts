/**
 * Retraining on a real Temporal server, a real PostgreSQL with a day of telemetry in it, and the trainer in a process of its own, which is
 * killed while it trains.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { RetrainResult } from "../../activities/retrain.ts";
import { type ModelStore, openModelStore } from "../../drivers/store/models.ts";
import { openStore, type PostgresStore } from "../../drivers/store/store.ts";
import { openTrainingStore, type TrainingStore } from "../../drivers/store/training.ts";
import { openTemporal, type Temporal } from "../../drivers/temporal-client.ts";
import { LIMITS } from "../../models/limits.ts";
import type { SwarmSpec } from "../../models/swarm-spec.ts";
import { seedFleet } from "../support/fleet-days.ts";
import { startWorker, type WorkerProcess } from "../support/process.ts";
import { type TestHome, type TestPostgres, testHome, testPostgres } from "../support/services.ts";
import { eventually, specFor, startServer, type TestServer } from "./support.ts";

const HOUR_MS = 3_600_000;
const HOURS = 24;
const EVERY_MS = 7_200_000;
/** Of the past, counted from when the test began. */
const NOW_MS = Math.floor(Date.now() / HOUR_MS) * HOUR_MS;

let server: TestServer;
let where: TestHome;
let postgres: TestPostgres;
let temporal: Temporal;
let store: PostgresStore;
let models: ModelStore;
let training: TrainingStore;
let trainer: WorkerProcess;

before(async () => {
  where = await testHome();
  [server, postgres] = await Promise.all([startServer(), testPostgres(where, { migrated: true })]);
  temporal = await openTemporal({ temporalAddress: server.address, temporalNamespace: "default" });
  const options = { databaseUrl: postgres.url };
  [store, models, training] = [openStore(options), openModelStore(options), openTrainingStore(options)];
  const fleet = { fromMs: NOW_MS - HOURS * HOUR_MS, hours: HOURS, isTold: true };
  await seedFleet(postgres.url, { ...fleet, swarm: "fleet", endpoints: 8, seed: 3, lifeMinutes: 150 });
  await seedFleet(postgres.url, { ...fleet, swarm: "few", endpoints: 2, seed: 4, lifeMinutes: 600 });
  await state("fleet");
  await state("few");
  trainer = await startTrainer();
});

after(async () => {
  await trainer?.kill();
  await Promise.all([temporal?.close(), store?.close(), models?.close(), training?.close()]);
  await server?.stop();
  await postgres?.stop();
  await where?.remove();
});

function startTrainer(): Promise<WorkerProcess> {
  const config = {
    temporal: { address: server.address },
    databaseUrl: postgres.url,
    socketPath: join(where.home, "trainer.sock"),
  };
  return startWorker({ worker: "trainer.ts", config, configPath: join(where.home, "trainer.json") });
}

/** The swarm file in force, as applying it stores it. */
function state(name: string, retrain: Partial<SwarmSpec["foresight"]["retrain"]> = {}): Promise<void> {
  const policy = { mode: "on", everyMs: EVERY_MS, historyMs: 2 * HOURS * HOUR_MS, failuresMin: 10, ...retrain } as const;
  return store.saveSpec(specFor({ name, foresight: { retrain: policy } }));
}

const scheduleOf = (swarm: string) => server.client.schedule.getHandle(`retrain/${swarm}`).describe();

async function retrained(swarm: string): Promise<RetrainResult> {
  const { workflowId, runId } = await temporal.retrain(swarm);
  return (await temporal.result(workflowId, runId)) as RetrainResult;
}

test("each swarm has a Schedule with the stated policies", { timeout: 120_000 }, async () => {
  const { spec, policies, action } = await eventually("the Schedule is there", () =>
    scheduleOf("fleet").catch(() => undefined),
  );
  assert.equal(spec.intervals?.[0]?.every, EVERY_MS);
  assert.equal(spec.jitter, LIMITS.training.jitterMs);
  assert.deepEqual([policies.overlap, policies.catchupWindow], ["SKIP", LIMITS.training.catchUpMs]);
  assert.deepEqual([action.taskQueue, action.workflowId, action.args], ["training", "retrain/fleet", [{ swarm: "fleet" }]]);
});

test("the trainer is killed while it trains; the run ends with one model, in use", { timeout: 300_000 }, async (t) => {
  const { workflowId, runId } = await temporal.retrain("fleet");
  assert.deepEqual(await temporal.retrain("fleet"), { workflowId, runId, isNew: false });
  const handle = server.client.workflow.getHandle(workflowId, runId);
  const isTraining = async () => {
    const { pendingActivities } = (await handle.describe()).raw;
    return (pendingActivities ?? []).some(
      ({ activityType, lastStartedTime }) => activityType?.name === "trainChallenger" && lastStartedTime,
    );
  };
  await eventually("it trains", isTraining, 60_000);
  await trainer.kill();
  assert.deepEqual(await models.list("fleet"), []);
  trainer = await startTrainer();
  const result = (await temporal.result(workflowId, runId)) as RetrainResult;
  t.diagnostic(result.text);
  assert.equal(result.outcome, "promoted");
  const [model, ...others] = await models.list("fleet");
  assert.deepEqual([model?.id, model?.isInUse, others], [result.challenger, true, []]);
  assert.ok(model?.metrics.carriesSignal && model.origin.rows > 1_000, JSON.stringify(model?.metrics));
  const { events } = await handle.fetchHistory();
  const begun = (events ?? []).flatMap((event) => event.activityTaskScheduledEventAttributes?.activityType?.name ?? []);
  assert.deepEqual(begun, ["takeSnapshot", "trainChallenger", "compareModels", "endRetraining"]);
  assert.ok(JSON.stringify(events).length < 100_000, "rows and models do not travel through Temporal");
  const rows = await store.auditTrail({ swarm: "fleet", workflowId, limit: 100 });
  assert.deepEqual(
    rows.map(({ action }) => action),
    ["take a snapshot", "train a challenger", "retrain the failure model"],
  );
});

test("a challenger that is no better is kept out of use, and it is said why", { timeout: 120_000 }, async (t) => {
  const champion = (await models.inUse("fleet"))?.id;
  await state("fleet", { historyMs: 9 * HOUR_MS });
  const result = await retrained("fleet");
  t.diagnostic(result.text);
  assert.deepEqual([result.outcome, result.champion], ["kept", champion]);
  assert.equal((await models.inUse("fleet"))?.id, champion);
  const [last] = await training.retrainings({ scope: "fleet", limit: 1 });
  assert.deepEqual([last?.outcome, last?.champion, last?.challenger], ["kept", champion, result.challenger]);
  assert.notEqual(last?.challenger, champion);
  assert.match(last?.reason ?? "", /average precision/);
});

test("with too few failures nothing is trained", { timeout: 120_000 }, async () => {
  const result = await retrained("few");
  assert.deepEqual([result.outcome, result.challenger, result.champion], ["kept", undefined, undefined]);
  assert.match(result.text, /No model is in use: there are \d failures to learn from, 10 are wanted/);
  assert.deepEqual(await models.list("few"), []);
});

test("the stop switch pauses the Schedule, and a file without retraining removes it", { timeout: 120_000 }, async () => {
  const soon = 3 * LIMITS.training.scheduleCheckMs;
  await store.setStopSwitch({ scope: "*", on: true, by: "ada", reason: "looking" });
  await eventually("it is paused", async () => (await scheduleOf("fleet")).state.paused, soon);
  assert.equal((await scheduleOf("fleet")).state.note, "Stopped by ada: looking");
  await store.setStopSwitch({ scope: "*", on: false, by: "ada", reason: "seen" });
  await eventually("it goes on", async () => !(await scheduleOf("fleet")).state.paused, soon);
  await state("few", { mode: "off" });
  await eventually(
    "it is gone",
    () =>
      scheduleOf("few").then(
        () => false,
        () => true,
      ),
    soon,
  );
  await assert.rejects(temporal.retrain("few"), { code: "NOT_READY" });
});
