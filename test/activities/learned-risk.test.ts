// A trained model on its way to the fleet's decisions, against a real PostgreSQL: telemetry in the store and in the live window, a model that
// is promoted, refused, rolled back from, and the risk of an endpoint that follows.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import pg from "pg";
import { scoreAll } from "../../activities/risk.ts";
import { SwarmHealth } from "../../activities/swarm-health.ts";
import { SwarmModel } from "../../activities/swarm-model.ts";
import type { Telemetry } from "../../drivers/ports.ts";
import { type ModelStore, openModelStore } from "../../drivers/store/models.ts";
import { openStore, type PostgresStore } from "../../drivers/store/store.ts";
import type { StoredRollup } from "../../drivers/store/telemetry.ts";
import type { FailureModelFile } from "../../models/failure/model-file.ts";
import { toModelFile } from "../../models/failure/model-file.ts";
import { Random } from "../../models/failure/random.ts";
import { trainFailureModel } from "../../models/failure/train.ts";
import type { RiskScore } from "../../models/risk.ts";
import type { MemberHealth } from "../../models/steering.ts";
import { rollup } from "../../models/telemetry-rollup.ts";
import { LiveWindow } from "../../workers/collector/live-window.ts";
import { FLEET_WINDOW_MINUTES, fleetModel, secondOf } from "../support/fleet.ts";
import { type TestHome, type TestPostgres, testHome, testPostgres } from "../support/services.ts";
import { WEAR_WINDOW, wearTable } from "../support/wear.ts";
import { specOf } from "../unit/fixtures.ts";

const MINUTE_MS = 60_000;
const ENDPOINTS = ["ep-1", "ep-2", "ep-3", "ep-4"];
/** Minutes until ep-1 fails, at the moment of scoring. */
const LEFT = 3;
const STORED_MINUTES = 60;
const LIVE_MINUTES = 15;
const nowMs = Date.now();
const spec = specOf({ foresight: { mode: "act", windowMs: FLEET_WINDOW_MINUTES * MINUTE_MS } });

let where: TestHome;
let postgres: TestPostgres;
let store: PostgresStore;
let models: ModelStore;
let file: FailureModelFile;
let scorer: ReturnType<typeof newScorer>;
const live = new LiveWindow();
const telemetry: Telemetry = { window: (swarm, query) => Promise.resolve(live.read(swarm, query, nowMs)) };

before(async () => {
  where = await testHome();
  postgres = await testPostgres(where, { migrated: true });
  store = openStore({ databaseUrl: postgres.url });
  models = openModelStore({ databaseUrl: postgres.url });
  await store.saveSpec(spec);
  await seedTelemetry();
  ({ file } = await fleetModel(3));
  scorer = newScorer();
});

after(async () => {
  await Promise.all([store?.close(), models?.close()]);
  await postgres?.stop();
  await where?.remove();
});

const leftAt = (endpoint: string, atMs: number) =>
  endpoint === "ep-1" ? LEFT + (nowMs - atMs) / MINUTE_MS : Number.POSITIVE_INFINITY;

/** An hour of minutes in the store, the newest quarter of an hour in the live window. */
async function seedTelemetry(): Promise<void> {
  const random = new Random(5);
  const first = Math.floor(nowMs / MINUTE_MS) * MINUTE_MS - STORED_MINUTES * MINUTE_MS;
  const rows: StoredRollup[] = [];
  for (let atMs = first; atMs < nowMs - MINUTE_MS; atMs += MINUTE_MS) {
    for (const endpoint of ENDPOINTS) {
      const seconds = Array.from({ length: 12 }, () => secondOf(leftAt(endpoint, atMs), random));
      for (const metric of Object.keys(seconds[0] ?? {})) {
        const found = rollup(seconds.map((second) => second[metric] ?? 0));
        if (found !== undefined) rows.push({ atMs, swarm: "lab", endpoint, metric, ...found });
      }
    }
  }
  await store.insertRollups("minute", rows);
  for (let atMs = nowMs - LIVE_MINUTES * MINUTE_MS; atMs <= nowMs; atMs += 1_000)
    for (const endpoint of ENDPOINTS) live.put("lab", endpoint, atMs, Object.entries(secondOf(leftAt(endpoint, atMs), random)));
}

function memberOf(endpoint: string): MemberHealth {
  const probes = {
    sent: 30,
    answered: 30,
    missesInARow: 0,
    answersInARow: 30,
    rttMsP50: 2,
    rttMsP75: 2,
    rttMsMax: 3,
    lastAnswerAtMs: nowMs,
  };
  const calm = { ejected: false, ejectedAtMs: undefined, ejections: 0, draining: false };
  return { endpoint, weight: 100, effectiveWeight: 100, inner: probes, outer: probes, sessions: 20, ...calm };
}

const newScorer = () => ({ health: new SwarmHealth(), learned: new SwarmModel({ models, store, telemetry }) });

async function scores(using = scorer): Promise<readonly RiskScore[]> {
  const balancer = { health: () => Promise.resolve(ENDPOINTS.map(memberOf)) };
  return (await scoreAll({ store, telemetry, balancer }, using, spec, nowMs)).map(({ score }) => score);
}

const change = () => ({ operation: randomUUID(), scope: "lab", by: "test", reason: "test" });

async function putInUse(input: unknown): Promise<string> {
  const { id } = await models.save("lab", input);
  await models.promote({ ...change(), id });
  return id;
}

async function trail(): Promise<readonly string[]> {
  const rows = await store.auditTrail({ swarm: "lab", limit: 50 });
  return rows.filter(({ action }) => action === "take up model").map(({ outcome, text }) => `${outcome}: ${text}`);
}

test("a promoted model raises the risk of what it has learned to foresee, and a rollback takes that back", async () => {
  const [before] = await scores();
  assert.ok(before !== undefined && before.failure.value < 0.4, `nothing stated knows this sign: ${JSON.stringify(before)}`);
  assert.equal(before.model, undefined);

  const silent = await putInUse({ ...file, metrics: { ...file.metrics, carriesSignal: false } });
  const [unasked] = await scores();
  assert.deepEqual(unasked?.failure, before.failure, "a model without signal changes nothing");
  assert.match(unasked?.model ?? "", new RegExp(`model ${silent} is in use and not asked: .*does not tell failures`));

  const strong = await putInUse(file);
  const [failing, ...others] = await scores();
  assert.ok(failing !== undefined && failing.failure.value > 0.8, JSON.stringify(failing));
  assert.ok(failing.failure.low > 0.3 && failing.failure.low <= failing.failure.value);
  assert.equal(failing.terms[0]?.name, "model");
  assert.match(failing.terms[0]?.text ?? "", new RegExp(`model ${strong} says so by .*(retransmits|handshakes)`));
  for (const other of others) assert.ok(other.failure.value < 0.3, JSON.stringify(other));

  await models.rollback(change());
  const [after] = await scores();
  assert.deepEqual(after?.failure, before.failure);
  assert.match(after?.model ?? "", new RegExp(`model ${silent} is in use`));
  assert.ok((await trail()).some((text) => text.startsWith(`done: Model ${strong} scores from now on`)));
});

test("a model of other columns, or one that was tampered with, is refused in the trail, and the one before it stays", async () => {
  const strong = await putInUse(file);
  const [asked] = await scores();
  const table = wearTable({ units: 12, seed: 3 });
  const wear = await trainFailureModel(table, { window: WEAR_WINDOW, seed: 1 });
  const origin = { codeVersion: "test", dataFrom: 0, dataUntil: 1, rows: table.rows, units: table.units, seed: 1 };
  const foreign = await putInUse(toModelFile(wear, origin));
  assert.deepEqual((await scores())[0], asked);
  assert.ok(
    (await trail()).some((text) => text.startsWith(`refused: Model ${foreign} is refused`) && text.includes("other columns")),
  );

  const broken = await putInUse({ ...file, calibration: { ...file.calibration, offset: file.calibration.offset + 1 } });
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  await client.query("update models set body = '\\x00' where id = $1", [broken]);
  await client.end();
  const [restarted] = await scores(newScorer());
  assert.deepEqual(restarted?.failure, asked?.failure, "also after a restart");
  assert.equal(restarted?.model, `model ${strong} was asked`);
  assert.ok((await trail()).some((text) => text.startsWith(`refused: Model ${broken} is refused`)));
});

test("what was learned before a restart is read again: the scores are the same", async () => {
  assert.deepEqual(await scores(newScorer()), await scores(newScorer()));
});
