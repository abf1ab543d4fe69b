/**
 * A swarm whose history is cut every 60 events goes on as if it were not: requests, runs under way, the last plan and the stop switch
 * are carried over.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { awaitWhole, BY, membersOf, onSwarm, type Stage, setStage } from "./stories.ts";
import { eventually, specFor, startServer } from "./support.ts";

const HISTORY_EVENTS = 60;
let stage: Stage;

before(async () => {
  stage = await setStage(await startServer({ "limit.historyCount.suggestContinueAsNew": HISTORY_EVENTS }));
});
after(async () => {
  await stage?.stop();
});

test("continues as new in the middle of drains and forgets nothing", { timeout: 120_000 }, async () => {
  const spec = specFor({ name: "long" });
  const { server, temporal } = stage;
  await onSwarm(stage, spec, async (world) => {
    const handle = server.client.workflow.getHandle("swarm/long");
    const first = (await handle.describe()).runId;
    for (let turn = 1; turn <= 3; turn += 1) {
      const [endpoint] = membersOf(world);
      world.connect(endpoint, 3);
      await temporal.replaceEndpoint({ swarm: "long", endpoint, by: BY });
      await eventually(`${endpoint} is gone`, () => world.score().terminated.includes(endpoint));
      await awaitWhole(stage, world, spec);
    }
    const { runId } = await handle.describe();
    assert.notEqual(runId, first, "the workflow has continued as new");
    const { events } = await handle.fetchHistory();
    assert.ok((events?.length ?? 0) < 4 * HISTORY_EVENTS, `${events?.length} events`);
    assert.deepEqual(world.score().dropped, []);
    await temporal.stopAutomation({ swarm: "long", scope: "swarm", by: BY, reason: "to see it carried" });
    assert.equal((await temporal.status("long")).stopped?.reason, "to see it carried");
    const operations = world.auditRows.map((row) => `${row.operation} ${row.action}`);
    assert.equal(new Set(operations).size, operations.length);
  });
});
