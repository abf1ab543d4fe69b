/**
 * Every history of the corpus replays on today's workflow code. A change that breaks this breaks runs that are under way somewhere.
 */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Worker } from "@temporalio/worker";
import { pino } from "pino";
import { PLAIN_PAYLOADS } from "../../drivers/temporal-codec/codec.ts";
import { bundleFor, installRuntime } from "../../workers/control/worker-set.ts";

const FOLDER = join(import.meta.dirname, "histories");
/** What the corpus covers at least: one history of each workflow, in more than one outcome where it has them. */
const EXPECTED = {
  swarm: 6,
  drainAndReplace: 3,
  drainEndpoint: 3,
  endpointLost: 5,
  replenishGhosts: 6,
  addEndpoints: 9,
  relieveEndpoint: 1,
  predict: 6,
  rollImage: 3,
  rotateKeys: 4,
  rotateAll: 1,
  revokeClients: 1,
  revokeEndpoint: 2,
  retireIdentity: 2,
  retrainModels: 3,
};

interface RecordedEvent {
  readonly workflowExecutionStartedEventAttributes?: { readonly workflowType?: { readonly name?: string } };
}

test("replays every recorded history", { timeout: 300_000 }, async () => {
  const files = (await readdir(FOLDER)).filter((file) => file.endsWith(".json")).sort();
  assert.ok(files.length > 0, "the corpus is empty; record it with `node test/replay/record.ts`");
  const log = pino({ level: "silent" });
  installRuntime(log);
  const workflowBundle = await bundleFor(log, PLAIN_PAYLOADS);
  const counts = new Map<string, number>();
  const histories: { workflowId: string; history: object }[] = [];
  for (const file of files) {
    const history = JSON.parse(await readFile(join(FOLDER, file), "utf8")) as { events: RecordedEvent[] };
    const type = history.events[0]?.workflowExecutionStartedEventAttributes?.workflowType?.name ?? "unknown";
    counts.set(type, (counts.get(type) ?? 0) + 1);
    histories.push({ workflowId: file, history });
  }
  const failed: string[] = [];
  for await (const { workflowId, error } of Worker.runReplayHistories({ workflowBundle }, histories)) {
    if (error !== undefined) failed.push(`${workflowId}: ${error.message}`);
  }
  assert.deepEqual(failed, []);
  for (const [type, least] of Object.entries(EXPECTED)) {
    assert.ok((counts.get(type) ?? 0) >= least, `${counts.get(type) ?? 0} histories of ${type}, at least ${least} wanted`);
  }
});
