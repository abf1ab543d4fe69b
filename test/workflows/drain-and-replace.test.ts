/**
 * drain-and-replace on a real Temporal server: the whole way, and put back from a failure at each of its steps.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ForeshiftError } from "../../models/errors.ts";
import { type DrainFinished } from "../../models/swarm-messages.ts";
import type { WorkerSet } from "../../workers/control/worker-set.ts";
import { drainAndReplace } from "../../workflows/drain-and-replace.ts";
import { specFor, startServer, startWorkers, type TestServer } from "./support.ts";
import { World } from "./world.ts";

const SESSIONS = 10;
const spec = specFor();
let server: TestServer;

before(async () => {
  server = await startServer();
});
after(async () => {
  await server.stop();
});

function newWorld(): World {
  const world = new World();
  for (const name of ["ep-1", "ep-2", "ep-3"]) world.addMember(name, spec);
  world.addMachine("ep-4", "suspended");
  world.connect("ep-1", SESSIONS);
  return world;
}

async function drain(world: World, ghost: string | undefined = "ep-4"): Promise<DrainFinished> {
  let workers: WorkerSet | undefined;
  try {
    workers = await startWorkers(server, world);
    return await server.client.workflow.execute(drainAndReplace, {
      taskQueue: "control",
      workflowId: `drain/lab/ep-1/${world.auditRows.length}-${Math.random()}`,
      args: [{ endpoint: "ep-1", cause: "test", reason: "The test asks for it", weight: 100, ghost, spec }],
    });
  } finally {
    await workers?.stop();
  }
}

function assertServing(world: World, members: readonly string[]): void {
  const held = world.steering?.members.filter((member) => member.weight === 100 && !member.draining);
  assert.deepEqual(held?.map((member) => member.endpoint).sort(), [...members]);
  assert.equal(world.steering?.members.length, members.length);
  assert.deepEqual(world.steering?.pins, []);
  assert.deepEqual(world.steering?.returnRoutes, []);
}

test("moves every session to the ghost and ends the old machine", { timeout: 60_000 }, async () => {
  const world = newWorld();
  const result = await drain(world);
  assert.equal(result.outcome, "replaced", result.text);
  assert.equal(result.replacement, "ep-4");
  assert.equal(result.sessionsMoved, SESSIONS);
  assertServing(world, ["ep-2", "ep-3", "ep-4"]);
  const score = world.score();
  assert.deepEqual(score.dropped, []);
  assert.deepEqual(score.terminated, ["ep-1"]);
  assert.deepEqual(new Set(Object.values(score.adopted)), new Set([1]), "each client is called once");
  assert.ok(world.clients.every((client) => client.endpoint === "ep-4"));
});

for (const failing of ["hypervisor.resume", "agent.prepare", "agent.adopt"]) {
  test(`puts everything back when ${failing} is refused`, { timeout: 90_000 }, async () => {
    const world = newWorld();
    let refused = 0;
    world.intercept = (call) => {
      if (call !== failing || refused > 0) return;
      refused += 1;
      throw new ForeshiftError("NOT_PERMITTED", { detail: "do this in this test" });
    };
    const result = await drain(world);
    assert.equal(refused, 1);
    const score = world.score();
    assert.deepEqual(score.dropped, []);
    if (failing === "hypervisor.resume") {
      assert.equal(result.replacement, "ep-5", "a ghost that cannot be woken is replaced by a launched machine");
      return;
    }
    assert.equal(result.outcome, "put-back", result.text);
    assertServing(world, ["ep-1", "ep-2", "ep-3"]);
    assert.deepEqual(score.terminated, ["ep-4"]);
    assert.ok(world.clients.every((client) => client.endpoint === "ep-1"));
    assert.match(world.auditRows.at(-1)?.text ?? "", /do this in this test/);
  });
}
