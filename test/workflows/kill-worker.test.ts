/**
 * The worker is killed at every step of a move, by turns before the step takes effect and after: the end is the same, and nothing is done
 * twice. Whether the first kill comes before or after is drawn; FORESHIFT_SEED (even: before) says it.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { DrainFinished } from "../../models/swarm-messages.ts";
import type { SwarmSpec } from "../../models/swarm-spec.ts";
import { drainAndReplace } from "../../workflows/drain-and-replace.ts";
import { drainEndpoint } from "../../workflows/drain-endpoint.ts";
import { assertServing } from "./assertions.ts";
import { specFor, startServer, type TestServer } from "./support.ts";
import { World } from "./world.ts";
import { type RemoteWorker, serveWorld, type WorldServer } from "./world-server.ts";

interface Scene {
  readonly spec: SwarmSpec;
  readonly sessions: number;
  readonly start: (server: TestServer, workflowId: string) => Promise<DrainFinished>;
}

const given = Number(process.env["FORESHIFT_SEED"] ?? Number.NaN);
const seed = Number.isSafeInteger(given) ? given : Math.floor(Math.random() * 1_000);

/** Plays it on a server of its own with a kill at each step; answers the steps, each with the moment of its kill. */
async function playWithKills(world: World, { spec, sessions, start }: Scene): Promise<readonly string[]> {
  for (const name of ["ep-1", "ep-2", "ep-3"]) world.addMember(name, spec);
  world.addMachine("ep-4", "suspended");
  world.connect("ep-1", sessions);
  const moments = new Map<string, "before" | "after">();
  const killedAt = new Set<string>();
  let worker: RemoteWorker | undefined;
  let killing = Promise.resolve();
  let served: WorldServer | undefined;
  world.intercept = async (call, operation, phase) => {
    const step = `${call} ${operation?.split(":").at(-1)}`;
    if (operation === undefined || killedAt.has(step)) return;
    const moment = moments.get(step) ?? ((moments.size + seed) % 2 === 0 ? "before" : "after");
    moments.set(step, moment);
    if (phase !== moment) return;
    killedAt.add(step);
    // Steps that are made at the same time are killed one after the other, so that no worker is forgotten.
    killing = killing.then(async () => {
      await worker?.kill();
      worker = await served?.startWorker(server.address);
    });
    await killing;
    // Its caller is dead: nobody hears of the answer, and before the effect there must be none.
    throw new Error("the worker was killed");
  };
  const server = await startServer();
  try {
    served = await serveWorld(world);
    worker = await served.startWorker(server.address);
    const result = await start(server, `drain/${spec.name}/ep-1`);
    assert.ok(result.outcome === "replaced" || result.outcome === "drained", result.text);
  } finally {
    await worker?.kill();
    await served?.close();
    await server.stop();
  }
  assert.deepEqual(world.score().terminated, ["ep-1"]);
  assert.equal(world.score().launches, 0);
  const called = Object.values(world.score().adopted);
  assert.deepEqual([called.length, new Set(called)], [sessions, new Set([1])], "each client is called once");
  const keys = world.auditRows.map((row) => `${row.operation} ${row.action}`);
  assert.equal(new Set(keys).size, keys.length);
  return [...killedAt].map((step) => `${moments.get(step)} ${step}`);
}

const asked = { endpoint: "ep-1", cause: "test", reason: "The test asks for it", weight: 100 };

/** All wait most of the time, until the server misses the heartbeats of who was killed. */
describe("a worker that is killed again and again", { concurrency: true }, () => {
  test("killed at each step of a replacement, it ends as if it had not been", { timeout: 600_000 }, async (t) => {
    const world = new World();
    const spec = specFor({ name: "kill" });
    const start = ({ client }: TestServer, workflowId: string): Promise<DrainFinished> =>
      client.workflow.execute(drainAndReplace, {
        taskQueue: "control",
        workflowId,
        args: [{ ...asked, ghost: "ep-4", spec }],
      });
    const killedAt = await playWithKills(world, { spec, sessions: 6, start });
    t.diagnostic(`seed ${seed}, killed at ${killedAt.length} steps: ${killedAt.join(", ")}`);
    assert.ok(killedAt.length >= 14, `only ${killedAt.length} steps were met`);
    assertServing(world, ["ep-2", "ep-3", "ep-4"]);
  });

  test("killed at each step of a drain, it ends as if it had not been", { timeout: 600_000 }, async (t) => {
    const world = new World();
    const spec = specFor({ name: "kill-drain", move: { batchSessions: 64 } });
    const start = ({ client }: TestServer, workflowId: string): Promise<DrainFinished> =>
      client.workflow.execute(drainEndpoint, { taskQueue: "control", workflowId, args: [{ ...asked, spec }] });
    const killedAt = await playWithKills(world, { spec, sessions: 9, start });
    t.diagnostic(`seed ${seed}, killed at ${killedAt.length} steps: ${killedAt.join(", ")}`);
    assert.ok(killedAt.length >= 12, `only ${killedAt.length} steps were met`);
    assertServing(world, ["ep-2", "ep-3"]);
  });

  test("killed at each step of a spread over the others, it ends as if it had not been", { timeout: 600_000 }, async (t) => {
    const world = new World();
    const spec = specFor({ name: "kill-spread", move: { batchSessions: 64 } });
    const start = ({ client }: TestServer, workflowId: string): Promise<DrainFinished> =>
      client.workflow.execute(drainAndReplace, {
        taskQueue: "control",
        workflowId,
        args: [{ ...asked, ghost: "ep-4", spec, spread: true }],
      });
    const killedAt = await playWithKills(world, { spec, sessions: 9, start });
    t.diagnostic(`seed ${seed}, killed at ${killedAt.length} steps: ${killedAt.join(", ")}`);
    assert.ok(killedAt.length >= 12, `only ${killedAt.length} steps were met`);
    assertServing(world, ["ep-2", "ep-3", "ep-4"]);
  });
});
