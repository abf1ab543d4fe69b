/**
 * The worker is killed at every step of a drain, once before the step takes effect and once after: the end is the same, and nothing is
 * done twice.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openTemporal, type Temporal } from "../../drivers/temporal-client.ts";
import type { DrainFinished } from "../../models/swarm-messages.ts";
import { drainAndReplace } from "../../workflows/drain-and-replace.ts";
import { specFor, startServer, type TestServer } from "./support.ts";
import { World } from "./world.ts";
import { type RemoteWorker, serveWorld, type WorldServer } from "./world-server.ts";

const SESSIONS = 6;
const spec = specFor({ name: "kill" });
let server: TestServer;
let temporal: Temporal;

before(async () => {
  server = await startServer();
  temporal = await openTemporal({ temporalAddress: server.address, temporalNamespace: "default" });
});
after(async () => {
  await temporal?.close();
  await server?.stop();
});

for (const moment of ["before", "after"] as const) {
  test(`killed ${moment} each step, it ends as if it had not been`, { timeout: 600_000 }, async (t) => {
    const world = new World();
    for (const name of ["ep-1", "ep-2", "ep-3"]) world.addMember(name, spec);
    world.addMachine("ep-4", "suspended");
    world.connect("ep-1", SESSIONS);
    const killedAt = new Set<string>();
    let worker: RemoteWorker | undefined;
    let served: WorldServer | undefined;
    world.intercept = async (call, operation, phase) => {
      const step = `${call} ${operation?.split(":").at(-1)}`;
      if (operation === undefined || phase !== moment || killedAt.has(step)) return;
      killedAt.add(step);
      await worker?.kill();
      worker = await served?.startWorker(server.address);
      // Its caller is dead: nobody hears of the answer, and before the effect there must be none.
      throw new Error("the worker was killed");
    };
    try {
      served = await serveWorld(world);
      worker = await served.startWorker(server.address);
      const result: DrainFinished = await server.client.workflow.execute(drainAndReplace, {
        taskQueue: "control",
        workflowId: `drain/kill/ep-1/${moment}`,
        args: [{ endpoint: "ep-1", cause: "test", reason: "The test asks for it", weight: 100, ghost: "ep-4", spec }],
      });
      assert.equal(result.outcome, "replaced", result.text);
      t.diagnostic(`killed at ${killedAt.size} steps: ${[...killedAt].join(", ")}`);
      assert.ok(killedAt.size >= 14, `only ${killedAt.size} steps were met`);
      const score = world.score();
      assert.deepEqual(score.dropped, []);
      assert.deepEqual(score.terminated, ["ep-1"]);
      assert.deepEqual([...score.runningMachines].sort(), ["ep-2", "ep-3", "ep-4"]);
      assert.equal(score.launches, 0, "the ghost was enough");
      assert.equal(Object.keys(score.adopted).length, SESSIONS);
      assert.ok(
        Object.values(score.adopted).every((times) => times === 1),
        "no client is called twice",
      );
      assert.deepEqual(world.steering?.pins, []);
      const keys = world.auditRows.map((row) => `${row.operation} ${row.action}`);
      assert.equal(new Set(keys).size, keys.length);
    } finally {
      await worker?.kill();
      await served?.close();
    }
  });
}
