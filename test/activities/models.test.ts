// The models' store against a real PostgreSQL: what is stored is checked, what is in use can be gone back from, also by hand.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import pg from "pg";
import { type ModelStore, openModelStore } from "../../drivers/store/models.ts";
import { type FailureModelFile, toModelFile } from "../../models/failure/model-file.ts";
import { trainFailureModel } from "../../models/failure/train.ts";
import { fleetModel } from "../support/fleet.ts";
import { type TestHome, type TestPostgres, testHome, testPostgres } from "../support/services.ts";
import { WEAR_WINDOW, wearTable } from "../support/wear.ts";

const CLI = join(import.meta.dirname, "..", "..", "cli", "main.ts");

let where: TestHome;
let postgres: TestPostgres;
let store: ModelStore;
let files: FailureModelFile[];

before(async () => {
  where = await testHome();
  postgres = await testPostgres(where, { migrated: true });
  store = openModelStore({ databaseUrl: postgres.url });
  const table = wearTable({ units: 12, seed: 3 });
  const origin = { codeVersion: "test", dataFrom: 1, dataUntil: 120, rows: table.rows, units: table.units };
  files = await Promise.all(
    [1, 2, 3].map(async (seed) =>
      toModelFile(await trainFailureModel(table, { window: WEAR_WINDOW, seed }), { ...origin, seed }),
    ),
  );
});

after(async () => {
  await store?.close();
  await postgres?.stop();
  await where?.remove();
});

const change = (scope: string) => ({ operation: randomUUID(), scope, by: "test", reason: "test" });

async function saved(scope: string): Promise<string[]> {
  const ids: string[] = [];
  for (const file of files) ids.push((await store.save(scope, file)).id);
  return ids;
}

test("a model is stored once, is listed, and says the same when read", async () => {
  const [first] = await saved("once");
  assert.deepEqual(await store.save("once", files[0]), { id: first, isNew: false });
  const rows = await store.list("once");
  assert.equal(rows.length, 3);
  assert.deepEqual(rows.at(-1)?.origin, files[0]?.origin);
  assert.deepEqual(rows.at(-1)?.metrics, files[0]?.metrics);
  assert.ok(rows.every(({ isInUse }) => !isInUse));
  const read = await store.load("once", first ?? "");
  assert.deepEqual(read.file, JSON.parse(JSON.stringify(files[0])));
  assert.equal(await store.inUse("once"), undefined);
});

test("promotions stand on each other, and each rollback goes one further back", async () => {
  const [a = "", b = "", c = ""] = await saved("stack");
  for (const id of [a, b, c]) await store.promote({ ...change("stack"), id });
  assert.equal((await store.inUse("stack"))?.id, c);
  assert.deepEqual(await store.rollback(change("stack")), { from: c, to: b });
  assert.deepEqual(await store.rollback(change("stack")), { from: b, to: a });
  await assert.rejects(store.rollback(change("stack")), { code: "NO_EARLIER_MODEL" });
  assert.equal((await store.inUse("stack"))?.id, a);
  assert.deepEqual(
    (await store.list("stack")).filter(({ isInUse }) => isInUse).map(({ id }) => id),
    [a],
  );
  assert.equal((await store.history("stack")).length, 5);
});

test("the same change twice is one change, also at the same moment", async () => {
  const [a = "", b = ""] = await saved("twice");
  await store.promote({ ...change("twice"), id: a });
  const one = { ...change("twice"), id: b };
  await Promise.all([store.promote(one), store.promote(one), store.promote(one)]);
  assert.equal((await store.history("twice")).length, 2);
  const back = change("twice");
  assert.deepEqual(await store.rollback(back), { from: b, to: a });
  assert.deepEqual(await store.rollback(back), { from: b, to: a });
  assert.equal((await store.history("twice")).length, 3);
});

test("a corrupt or foreign model is refused, and the previous one stays in use", async () => {
  await assert.rejects(store.save("corrupt", { name: "RFClassifier" }), { code: "MODEL_REFUSED" });
  await assert.rejects(store.save("corrupt", { ...files[0], calibration: undefined }), { code: "MODEL_REFUSED" });
  const [a = "", b = "", c = ""] = await saved("corrupt");
  await store.promote({ ...change("corrupt"), id: a });
  await store.promote({ ...change("corrupt"), id: b });
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  await client.query(
    "update models set body = (select body from models where scope = 'corrupt' and id = $1) where scope = 'corrupt' and id = $2",
    [a, b],
  );
  await client.query("update models set body = '\\x00' where scope = 'corrupt' and id = $1", [c]);
  await client.end();
  const found = await store.inUse("corrupt");
  assert.equal(found?.id, a);
  assert.deepEqual(found?.refused, [b]);
  await assert.rejects(store.promote({ ...change("corrupt"), id: c }), { code: "MODEL_REFUSED" });
  assert.equal((await store.inUse("corrupt"))?.id, a);
  await assert.rejects(store.promote({ ...change("corrupt"), id: "0000" }), { code: "UNKNOWN_MODEL" });
});

/** The exit status, and what the command prints on either output. */
async function foreshift(...args: string[]): Promise<{ code: number; text: string }> {
  // Nothing listens there: these commands ask the database alone.
  const env = {
    ...process.env,
    FORESHIFT_HOME: where.home,
    DATABASE_URL: postgres.url,
    TEMPORAL_ADDRESS: "127.0.0.1:9",
    FORESHIFT_PAYLOADS: "plain",
  };
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [CLI, ...args], { env });
    return { code: 0, text: stdout + stderr };
  } catch (thrown) {
    const { code, stdout, stderr } = thrown as { code: number; stdout: string; stderr: string };
    return { code, text: stdout + stderr };
  }
}

test("by hand only a model of the fleet's columns is put in use", async () => {
  const foreign = (await store.save("by-hand", files[0])).id;
  const refused = await foreshift("models", "promote", foreign, "--scope", "by-hand");
  assert.equal(refused.code, 65, refused.text);
  assert.match(
    refused.text,
    new RegExp(`The model is refused: ${foreign} of by-hand: it was trained on other columns than the fleet has`),
  );
  assert.match(refused.text, /unknown: op1, heat, noise; missing: cpu, cpuPeak/);
  assert.equal(await store.inUse("by-hand"), undefined);
  const { file } = await fleetModel(3);
  const own = (await store.save("by-hand", file)).id;
  const promoted = await foreshift("models", "promote", own.slice(0, 6), "--scope", "by-hand", "--reason", "it is ours");
  assert.equal(promoted.code, 0, promoted.text);
  assert.equal((await store.inUse("by-hand"))?.id, own);
  assert.equal((await store.history("by-hand")).at(-1)?.reason, "it is ours");
});
