/**
 * Rollouts of images on a real Temporal server, one after the other on one swarm: an image that does not boot, one that makes things
 * worse, one that a person gives up, and one that comes to every machine although its worker dies on the way.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Temporal } from "../../drivers/temporal-client.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { rollWorkflowId } from "../../models/swarm-messages.ts";
import { awaitWhole, BY, endRuns, imagesOf, refusedRuns, rolled, rollThatEndsLate, type Stage, setStage } from "./stories.ts";
import { eventually, specFor, startServer } from "./support.ts";
import { World } from "./world.ts";
import { type RemoteWorker, serveWorld, type WorldServer } from "./world-server.ts";

const IMAGE = "sha256:2222222222222222";
const swarm = "roll";
const spec = specFor({ name: swarm, budget: { windowMs: 1_000 }, thresholds: { coolDownMs: 200 } });
const codeIs = (code: string) => (thrown: unknown) =>
  thrown instanceof ForeshiftError && thrown.code === code && thrown.remedy !== "";

describe("an image is rolled out", () => {
  const world = new World();
  let stage: Stage;
  let temporal: Temporal;
  let served: WorldServer;
  let worker: RemoteWorker;

  before(async () => {
    stage = await setStage(await startServer());
    temporal = stage.temporal;
    served = await serveWorld(world);
    worker = await served.startWorker(stage.server.address);
    await temporal.applySwarm({ spec, by: BY });
    await awaitWhole(stage, world, spec);
    for (const { endpoint } of world.steering?.members ?? []) world.connect(endpoint, 4);
  });
  after(async () => {
    if (temporal !== undefined) await endRuns(stage, swarm);
    await served?.close();
    await stage?.stop();
  });

  const membersNow = () => world.steering?.members.map(({ endpoint }) => endpoint);
  const roll = (image: string, bakeMs: number) => temporal.rollSwarm({ swarm, image, by: BY, policy: { bakeMs } });
  const assertAllOf = async (image: string) => {
    await awaitWhole(stage, world, spec);
    assert.deepEqual([...new Set(imagesOf(world))], [image]);
    assert.deepEqual(world.score().dropped, []);
  };

  test("it does not boot: it is given up, and nobody was disrupted", { timeout: 90_000 }, async () => {
    const there = membersNow();
    world.refuseImage = "unbootable";
    await roll("unbootable", 300);
    const end = await rolled(stage, swarm);
    assert.match(end.text, /of image-1 again, because: 2 replacements failed one after the other/);
    assert.deepEqual([end.phase, membersNow()], ["rolled-back", there]);
    await assertAllOf("image-1");
  });

  test("it makes things worse: everything goes back by itself", { timeout: 90_000 }, async () => {
    world.intercept = () => {
      for (const machine of world.machines.values()) if (machine.image === "worse") machine.loss = 0.5;
    };
    await roll("worse", 60_000);
    const end = await rolled(stage, swarm);
    assert.match(end.text, /\d of \d endpoints of the new image went bad and 0 of 3 of the others \(ep-\d+: loss/);
    assert.equal(end.phase, "rolled-back");
    await assertAllOf("image-1");
  });

  test("paused it begins nothing, resumed it goes on, aborted it goes back", { timeout: 90_000 }, async () => {
    await roll("given-up", 600_000);
    await eventually("the first is watched", async () => (await temporal.status(swarm)).roll?.phase === "baking");
    await assert.rejects(roll("another", 0), codeIs("ROLL_UNDER_WAY"));
    assert.equal((await temporal.pauseRoll({ swarm, by: BY })).phase, "paused");
    await eventually("the swarm knows", async () => (await temporal.status(swarm)).roll?.phase === "paused");
    assert.equal((await temporal.resumeRoll({ swarm, by: BY })).phase, "baking");
    await temporal.abortRoll({ swarm, by: BY, keep: false });
    assert.equal((await rolled(stage, swarm)).phase, "rolled-back");
    await assertAllOf("image-1");
    const told = world.auditRows.filter(({ workflowId }) => workflowId === rollWorkflowId(swarm)).map(({ action }) => action);
    assert.deepEqual(told.slice(-4), ["pause the rollout", "resume the rollout", "abort the rollout", "roll the image"]);
  });

  test("asked for while the former one is still ending, it begins once that has ended", { timeout: 90_000 }, async () => {
    const { ending, release } = await rollThatEndsLate(stage, world, swarm);
    await assert.rejects(roll(IMAGE, 300), codeIs("ROLL_UNDER_WAY"));
    assert.equal((await temporal.status(swarm)).roll?.phase, "left", "nothing is said of what did not begin");
    const refusals = await refusedRuns(stage, swarm);
    const begun = roll("image-1", 300);
    await eventually("it was tried", async () => (await refusedRuns(stage, swarm)) > refusals);
    release();
    await Promise.all([ending, begun]);
    assert.equal((await rolled(stage, swarm)).phase, "rolled");
    await assertAllOf("image-1");
  });

  test("every machine gets it one after the other, though a worker dies on the way; what has it is left alone", {
    timeout: 90_000,
  }, async () => {
    const { launches } = world.score();
    let [died, most] = [false, 0];
    world.intercept = async (call, _, phase) => {
      most = Math.max(most, world.steering?.members.filter((member) => member.draining).length ?? 0);
      if (call !== "agent.adopt" || phase !== "before" || died) return;
      died = true;
      await worker.kill();
      worker = await served.startWorker(stage.server.address);
      throw new Error("the worker was killed");
    };
    const begun = await roll(IMAGE, 300);
    assert.deepEqual([begun.workflowId, begun.status.previous, begun.status.left.length], ["roll/roll", "image-1", 3]);
    assert.equal((await rolled(stage, swarm)).phase, "rolled");
    await assertAllOf(IMAGE);
    assert.deepEqual([died, most], [true, 1]);
    const made = world.score().launches;
    assert.ok(made - launches >= 4 && made - launches <= 7, `${made - launches}: three endpoints, and ghosts`);
    await roll(IMAGE, 300);
    assert.match((await rolled(stage, swarm)).text, /3 endpoints and every ghost are of sha256:222222222222/);
    assert.equal(world.score().launches, made, "nothing was left to do");
    await assert.rejects(temporal.pauseRoll({ swarm, by: BY }), codeIs("NO_ROLLOUT"));
  });
});
