/**
 * The rollout of an image on a real Temporal server: a whole swarm and its ghost, an image that makes things worse, a worker that dies on
 * the way, a person who pauses and aborts, and what is of the image already.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Temporal } from "../../drivers/temporal-client.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { rollWorkflowId } from "../../models/swarm-messages.ts";
import { awaitWhole, BY, endRuns, imagesOf, onSwarm, rolled, type Stage, setStage } from "./stories.ts";
import { eventually, specFor, startServer } from "./support.ts";
import { World } from "./world.ts";
import { serveWorld } from "./world-server.ts";

const IMAGE = "sha256:2222222222222222";
const POLICY = { bakeMs: 300 };
let stage: Stage;
let temporal: Temporal;

before(async () => {
  stage = await setStage(await startServer());
  temporal = stage.temporal;
});
after(async () => {
  await stage?.stop();
});

const codeIs = (code: string) => (thrown: unknown) =>
  thrown instanceof ForeshiftError && thrown.code === code && thrown.remedy !== "";
const specOf = (name: string) => specFor({ name, budget: { windowMs: 1_000 }, thresholds: { coolDownMs: 200 } });

test("every machine gets the image, sessions are moved, and what has it is left alone", { timeout: 90_000 }, async () => {
  const spec = specOf("roll");
  await onSwarm(stage, spec, async (world) => {
    for (const { endpoint } of world.steering?.members ?? []) world.connect(endpoint, 4);
    let most = 0;
    world.intercept = () => {
      most = Math.max(most, world.steering?.members.filter((member) => member.draining).length ?? 0);
    };
    const begun = await temporal.rollSwarm({ swarm: "roll", image: IMAGE, by: BY, policy: POLICY });
    assert.deepEqual([begun.workflowId, begun.status.previous, begun.status.left.length], ["roll/roll", "image-1", 3]);
    await assert.rejects(temporal.rollSwarm({ swarm: "roll", image: "image-3", by: BY, policy: {} }), codeIs("ROLL_UNDER_WAY"));
    const end = await rolled(stage, "roll");
    assert.equal(end.phase, "rolled", end.text);
    await awaitWhole(stage, world, spec);
    assert.deepEqual(imagesOf(world), [IMAGE, IMAGE, IMAGE, IMAGE]);
    assert.deepEqual([world.score().dropped, most, world.score().terminated.length], [[], 1, 4]);
    const launches = world.score().launches;
    await temporal.rollSwarm({ swarm: "roll", image: IMAGE, by: BY, policy: POLICY });
    assert.match((await rolled(stage, "roll")).text, /every ghost are of sha256:222222222222/);
    assert.equal(world.score().launches, launches, "nothing was left to do");
    await assert.rejects(temporal.pauseRoll({ swarm: "roll", by: BY }), codeIs("NO_ROLLOUT"));
  });
});

test("an image that makes things worse is rolled back by itself", { timeout: 90_000 }, async () => {
  const spec = specOf("worse");
  await onSwarm(stage, spec, async (world) => {
    for (const { endpoint } of world.steering?.members ?? []) world.connect(endpoint, 4);
    world.intercept = () => {
      for (const machine of world.machines.values()) if (machine.image === IMAGE) machine.loss = 0.5;
    };
    await temporal.rollSwarm({ swarm: "worse", image: IMAGE, by: BY, policy: { bakeMs: 20_000 } });
    const end = await rolled(stage, "worse");
    assert.equal(end.phase, "rolled-back", end.text);
    assert.match(end.text, /\d of \d endpoints of the new image went bad and 0 of 3 of the others \(ep-\d+: loss/);
    await awaitWhole(stage, world, spec);
    assert.deepEqual(imagesOf(world), ["image-1", "image-1", "image-1", "image-1"]);
    assert.deepEqual(world.score().dropped, []);
  });
});

test("an image that does not boot is given up, and nobody was disrupted", { timeout: 90_000 }, async () => {
  const spec = specOf("unbootable");
  await onSwarm(stage, spec, async (world) => {
    const before = world.steering?.members.map(({ endpoint }) => endpoint);
    world.refuseImage = IMAGE;
    await temporal.rollSwarm({ swarm: "unbootable", image: IMAGE, by: BY, policy: POLICY });
    const end = await rolled(stage, "unbootable");
    assert.equal(end.phase, "rolled-back", end.text);
    assert.match(end.text, /2 replacements failed one after the other/);
    assert.deepEqual(
      world.steering?.members.map(({ endpoint }) => endpoint),
      before,
    );
    await awaitWhole(stage, world, spec);
    assert.deepEqual(imagesOf(world), ["image-1", "image-1", "image-1", "image-1"]);
  });
});

test("paused it begins nothing, resumed it goes on, aborted it goes back", { timeout: 90_000 }, async () => {
  const spec = specOf("abort");
  await onSwarm(stage, spec, async (world) => {
    const swarm = "abort";
    await temporal.rollSwarm({ swarm, image: IMAGE, by: BY, policy: { bakeMs: 600_000 } });
    await eventually("the first is watched", async () => (await temporal.status(swarm)).roll?.phase === "baking");
    assert.equal((await temporal.pauseRoll({ swarm, by: BY })).phase, "paused");
    await eventually("the swarm knows", async () => (await temporal.status(swarm)).roll?.phase === "paused");
    assert.equal((await temporal.resumeRoll({ swarm, by: BY })).phase, "baking");
    await temporal.abortRoll({ swarm, by: BY, keep: false });
    const end = await rolled(stage, swarm);
    assert.equal(end.phase, "rolled-back", end.text);
    await awaitWhole(stage, world, spec);
    assert.deepEqual(imagesOf(world), ["image-1", "image-1", "image-1", "image-1"]);
    const told = world.auditRows.filter(({ workflowId }) => workflowId === rollWorkflowId(swarm)).map(({ action }) => action);
    assert.deepEqual(told, ["pause the rollout", "resume the rollout", "abort the rollout", "roll the image"]);
  });
});

test("a worker that dies on the way is made up for by the next", { timeout: 90_000 }, async () => {
  const spec = specOf("killed");
  const world = new World();
  const served = await serveWorld(world);
  try {
    let worker = await served.startWorker(stage.server.address);
    await temporal.applySwarm({ spec, by: BY });
    await awaitWhole(stage, world, spec);
    for (const { endpoint } of world.steering?.members ?? []) world.connect(endpoint, 4);
    const deaths = new Set(["agent.adopt before", "hypervisor.terminate after"]);
    world.intercept = async (call, operation, phase) => {
      if (operation === undefined || !deaths.delete(`${call} ${phase}`)) return;
      await worker.kill();
      worker = await served.startWorker(stage.server.address);
      throw new Error("the worker was killed");
    };
    await temporal.rollSwarm({ swarm: "killed", image: IMAGE, by: BY, policy: POLICY });
    assert.equal((await rolled(stage, "killed")).phase, "rolled");
    await awaitWhole(stage, world, spec);
    assert.deepEqual(imagesOf(world), [IMAGE, IMAGE, IMAGE, IMAGE]);
    assert.deepEqual([[...deaths], world.score().dropped, world.score().launches], [[], [], 8]);
  } finally {
    await endRuns(stage, "killed");
    await served.close();
  }
});
