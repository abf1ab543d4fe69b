/**
 * Retraining on a real Temporal server, a real PostgreSQL with a day of telemetry in it, and the trainer in a process of its own, which is
 * killed while it trains.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { createActivities } from "../../activities/index.ts";
import type { RetrainResult } from "../../activities/retrain.ts";
import { createStopGuard } from "../../activities/stop-guard.ts";
import type { ModelChangeRow, ModelRow } from "../../drivers/store/models.ts";
import { PLAIN_PAYLOADS } from "../../drivers/temporal-codec/codec.ts";
import { swarmSchedules } from "../../drivers/temporal-schedules.ts";
import { LIMITS } from "../../models/limits.ts";
import { STOPPED_NOTE } from "../../models/retraining/schedule.ts";
import { eventually, startServer, startWorkersWith, type TestServer } from "./support.ts";
import { EVERY_MS, TrainingStage } from "./training-stage.ts";
import { World } from "./world.ts";

const HOUR_MS = 3_600_000;
const CLI = join(import.meta.dirname, "..", "..", "cli", "main.ts");

let server: TestServer;
let stage: TrainingStage;

before(async () => {
  server = await startServer();
  stage = await TrainingStage.set(server);
  await stage.startTrainer();
});

after(async () => {
  await stage?.stop();
  await server?.stop();
});

/** What the command prints on standard output, or on standard error where it fails. */
async function foreshift(...args: string[]): Promise<{ code: number; text: string }> {
  const env = {
    ...process.env,
    TEMPORAL_ADDRESS: server.address,
    DATABASE_URL: stage.databaseUrl,
    FORESHIFT_PAYLOADS: "plain",
  };
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [CLI, ...args], { env });
    return { code: 0, text: stdout };
  } catch (thrown) {
    const { code, stderr } = thrown as { code: number; stderr: string };
    return { code, text: stderr };
  }
}

/** What `models` says as JSON. */
async function told<T>(...args: string[]): Promise<T> {
  const { code, text } = await foreshift("models", ...args, "--json");
  assert.equal(code, 0, text);
  return JSON.parse(text) as T;
}

test("each swarm has a Schedule with the stated policies", { timeout: 120_000 }, async () => {
  const found = await eventually("the Schedule is there", () => stage.schedule("fleet").catch(() => undefined), 90_000);
  const { spec, policies, action, info } = found;
  assert.equal(spec.intervals?.[0]?.every, EVERY_MS);
  assert.equal(spec.jitter, LIMITS.training.jitterMs);
  assert.deepEqual([policies.overlap, policies.catchupWindow], ["SKIP", LIMITS.training.catchUpMs]);
  assert.deepEqual([action.taskQueue, action.workflowId, action.args], ["training", "retrain/fleet", [{ swarm: "fleet" }]]);
  assert.equal(info.lastUpdatedAt, undefined, "the Schedule is left alone while it is as it should be");
});

test("the trainer is killed while it trains; the run ends with one model, in use", { timeout: 300_000 }, async (t) => {
  const { temporal, models, store } = stage;
  const { workflowId, runId } = await temporal.retrain("fleet");
  assert.deepEqual(await temporal.retrain("fleet"), { workflowId, runId, isNew: false });
  const handle = server.client.workflow.getHandle(workflowId, runId);
  const isTraining = async () => {
    const pending = (await handle.describe()).raw.pendingActivities ?? [];
    return pending.some(({ activityType, lastStartedTime }) => activityType?.name === "trainChallenger" && lastStartedTime);
  };
  await eventually("it trains", isTraining, 120_000);
  await stage.killTrainer();
  assert.deepEqual(await models.list("fleet"), []);
  await stage.startTrainer();
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
  const { models, training } = stage;
  const champion = (await models.inUse("fleet"))?.id;
  await stage.state("fleet", { historyMs: 9 * HOUR_MS });
  const result = await told<RetrainResult>("retrain", "--swarm", "fleet", "--wait");
  t.diagnostic(result.text);
  assert.deepEqual([result.outcome, result.champion], ["kept", champion]);
  assert.equal((await models.inUse("fleet"))?.id, champion);
  const [last] = await training.retrainings({ scope: "fleet", limit: 1 });
  assert.deepEqual([last?.outcome, last?.champion, last?.challenger], ["kept", champion, result.challenger]);
  assert.notEqual(last?.challenger, champion);
  assert.match(last?.reason ?? "", /average precision/);
});

test("a person looks at the challenger, puts it in use all the same, and goes back", { timeout: 120_000 }, async () => {
  const inUse = async () => {
    const { models } = await told<{ models: readonly ModelRow[] }>("list", "--scope", "fleet");
    assert.equal(models.length, 2);
    return models.filter((model) => model.isInUse).map(({ id }) => id);
  };
  const [champion = ""] = await inUse();
  const challenger = (await stage.models.list("fleet")).find(({ id }) => id !== champion)?.id ?? "";
  const back = await foreshift("models", "rollback", "fleet");
  assert.notEqual(back.code, 0);
  assert.match(back.text, /fleet.*\n {2}\S/, "there is none to go back to, and what to do is said");

  const shown = await foreshift("models", "show", challenger.slice(0, 8));
  assert.match(shown.text, new RegExp(`^${challenger} of fleet: failure within`));
  for (const words of [/^trained on \d+ rows of \d+ units, /m, /^average precision \d\.\d+, /m, /^looks most at [\w.]+ \d+ %/m])
    assert.match(shown.text, words);

  const reason = "to see it at work";
  const promoted = await foreshift("models", "promote", challenger, "--reason", reason);
  assert.equal(promoted.text, `fleet uses ${challenger}, not ${champion}.\n`);
  assert.deepEqual(await inUse(), [challenger]);
  const { history } = await told<{ history: readonly ModelChangeRow[] }>("show", challenger);
  assert.deepEqual(
    history.map((change) => [change.kind, change.reason]),
    [["promote", reason]],
  );
  const undone = await foreshift("models", "rollback", "fleet", "--reason", "seen");
  assert.equal(undone.text, `fleet uses ${champion} again, not ${challenger}.\n`);
  assert.deepEqual(await inUse(), [champion]);
});

test("with too few failures nothing is trained, and the command line shows each step", { timeout: 120_000 }, async () => {
  const { code, text } = await foreshift("models", "retrain", "--swarm", "few", "--wait");
  assert.equal(code, 0, text);
  assert.match(text, /Snapshot [0-9a-f]{16}: \d+ rows/);
  assert.match(text, /No model is in use: telemetry was there before \d failures?, 10 are wanted/);
  assert.deepEqual(await stage.models.list("few"), []);
  const listed = await foreshift("models", "list");
  assert.match(listed.text, /fleet, .*: challenger [0-9a-f]{16} was not promoted: average precision/);
  assert.match(listed.text, /few, .*: nothing was trained: telemetry was there before \d failures?/);
});

test("a mistake is told with its remedy", { timeout: 120_000 }, async () => {
  const { code, text } = await foreshift("models", "retrain");
  assert.deepEqual([code, /--swarm is not valid: got nothing; say which: few, fleet/.test(text)], [65, true], text);
  assert.match((await foreshift("models", "retrain", "-s", "fleat")).text, /no swarm named fleat/);
});

test("applying a file makes the Schedule, the stop switch pauses it and the run, resuming goes on", {
  timeout: 180_000,
}, async () => {
  const { temporal, store } = stage;
  await stage.killTrainer();
  await server.client.schedule.getHandle("retrain/fleet").delete();
  const world = new World();
  const connection = { address: server.address };
  const activities = createActivities({
    store,
    models: stage.models,
    hypervisor: world.hypervisor,
    balancer: world.balancer,
    telemetry: world.telemetry,
    keyVault: world.keyVault,
    provisioner: world.provisioner,
    certificates: world.certificates,
    agentLogins: world.agentLogins,
    holders: world.holders,
    payloadKeys: world.payloadKeys,
    agentOf: (link) => world.agentOf(link.agent),
    stopGuard: createStopGuard(store),
    keepSchedules: swarmSchedules({ connection, namespace: "default", sealing: PLAIN_PAYLOADS }, store).keep,
  });
  const workers = await startWorkersWith(server, activities);
  try {
    await temporal.applySwarm({ spec: await stage.state("fleet"), by: "ada" });
    assert.equal((await stage.schedule("fleet")).state.paused, false);
    const begun = await temporal.retrain("fleet");
    const request = { swarm: "fleet", scope: "swarm", by: "ada", reason: "looking" } as const;
    await temporal.stopAutomation(request);
    const { paused, note } = (await stage.schedule("fleet")).state;
    assert.deepEqual([paused, note], [true, STOPPED_NOTE]);
    assert.equal((await foreshift("models", "retrain", "-s", "fleet")).code, 65);
    await stage.startTrainer();
    const lines = () => temporal.runLines(begun.workflowId, begun.runId);
    await eventually(
      "the run halts",
      async () => (await lines()).some((line) => line.includes("Halted by the stop switch")),
      90_000,
    );
    await temporal.resumeAutomation(request);
    assert.equal((await stage.schedule("fleet")).state.paused, false);
    assert.equal(((await temporal.result(begun.workflowId, begun.runId)) as RetrainResult).outcome, "kept");
  } finally {
    await eventually("every run has ended", async () => {
      const open = await temporal.openRuns("fleet");
      await Promise.allSettled(open.map((id) => server.client.workflow.getHandle(id).terminate("the test is over")));
      return open.length === 0;
    });
    await workers.stop();
  }
});

test("what was changed past the workflows is put right by the trainer", { timeout: 120_000 }, async () => {
  const { store, temporal } = stage;
  await store.setStopSwitch({ scope: "*", on: true, by: "ada", reason: "looking" });
  await eventually("it is paused", async () => (await stage.schedule("fleet")).state.paused);
  await store.setStopSwitch({ scope: "*", on: false, by: "ada", reason: "seen" });
  await eventually("it goes on", async () => !(await stage.schedule("fleet")).state.paused);
  await stage.state("few", { mode: "off" });
  const isGone = () =>
    stage.schedule("few").then(
      () => false,
      () => true,
    );
  await eventually("it is gone", isGone);
  await assert.rejects(temporal.retrain("few"), { code: "NOT_READY" });
});
