/**
 * drain-and-replace with machines of EC2, on moto: with a ghost, with one that finds no room to wake in, and with the old machine vanishing on
 * the way.
 */
import assert from "node:assert/strict";
import { after, afterEach, describe, test } from "node:test";
import { ec2Hypervisor } from "../../drivers/hypervisor/ec2/ec2.ts";
import type { DrainFinished } from "../../models/swarm-messages.ts";
import { drainAndReplace } from "../../workflows/drain-and-replace.ts";
import type { Cloud } from "../support/aws/cloud.ts";
import { failing } from "../support/aws/relay.ts";
import { assertServing } from "./assertions.ts";
import type { Stand } from "./refusals.ts";
import { specFor, type TestServer } from "./support.ts";
import { WorldOnEc2 } from "./world/on-ec2.ts";

/** One batch. */
const SESSIONS = 4;

/** The Temporal server and the stand that a test file has anyway; they cost more than all the scenes. */
export interface Played {
  readonly server: TestServer;
  readonly stand: Stand;
}

/** Skipped, with this sentence, where there is no moto. */
export function describeOnEc2(cloud: Cloud | string, played: () => Played): void {
  if (typeof cloud === "string") test("on EC2", { skip: cloud }, () => undefined);
  else describe("on EC2", () => suite(cloud, played));
}

function suite(cloud: Cloud, played: () => Played): void {
  const { relay, config } = cloud;
  const opened: ReturnType<typeof ec2Hypervisor>[] = [];
  let swarms = 0;

  afterEach(() => relay.reset());
  after(async () => {
    for (const ec2 of opened) await ec2.close();
    await cloud.stop();
  });

  /** A swarm of three and a ghost, of its own; `old` is to be replaced. */
  async function newScene() {
    swarms += 1;
    const spec = specFor({ name: `swarm-${swarms}`, move: { verifyTimeoutMs: 600 } });
    // A client of its own: one that was throttled is slow for a while.
    const ec2 = ec2Hypervisor(config, { lookIntervalMs: 10 });
    opened.push(ec2);
    const world = new WorldOnEc2(ec2);
    const [old = "", second = "", third = "", ghost = ""] = await world.populate(spec, 3);
    world.connect(old, SESSIONS);
    const { server, stand } = played();
    const start = (workflowId: string) =>
      server.client.workflow.execute(drainAndReplace, {
        taskQueue: "control",
        workflowId,
        args: [{ endpoint: old, cause: "test", reason: "The test asks for it", weight: 100, ghost, spec }],
      });
    const run = async () => (await stand.run<DrainFinished>({ world, refuse: [], start })).result;
    const inCloud = async () => (await ec2.list(spec.name)).map(({ name, state }) => `${name} ${state}`).toSorted();
    return { world, old, others: [second, third], ghost, run, inCloud };
  }

  function assertReplaced(
    scene: Awaited<ReturnType<typeof newScene>>,
    result: DrainFinished,
    machines: readonly string[],
  ): void {
    const { world, old, others } = scene;
    assert.equal(result.outcome, "replaced", result.text);
    assertServing(world, [...others, result.replacement ?? ""].toSorted());
    assert.equal(world.machines.get(old)?.state, "gone");
    assert.deepEqual(
      machines.filter((machine) => machine.startsWith(old)),
      [],
    );
    assert.equal(world.pages.length, 0);
  }

  test("the ghost wakes, every session moves to it, and the old instance is terminated", { timeout: 60_000 }, async () => {
    const scene = await newScene();
    const result = await scene.run();
    assert.equal(result.replacement, scene.ghost);
    assert.equal(result.sessionsMoved, SESSIONS);
    const machines = await scene.inCloud();
    assertReplaced(scene, result, machines);
    assert.ok(scene.world.clients.every(({ endpoint }) => endpoint === scene.ghost));
    assert.deepEqual(machines, [...scene.others, scene.ghost].map((name) => `${name} running`).toSorted());
  });

  test("the old machine vanishes on the way: the run ends as it should", { timeout: 60_000 }, async () => {
    const scene = await newScene();
    let vanished = false;
    scene.world.intercept = async (call, operation, phase) => {
      if (call !== "agent.adopt" || operation === undefined || phase !== "before" || vanished) return;
      vanished = true;
      await scene.world.vanish(scene.old);
    };
    const result = await scene.run();
    assert.ok(vanished);
    assertReplaced(scene, result, await scene.inCloud());
  });

  test("no room for the ghost to wake in: another machine is launched in its place, through throttling and once", {
    timeout: 60_000,
  }, async () => {
    const scene = await newScene();
    failing(relay, "ec2:StartInstances", "InsufficientInstanceCapacity", { times: 99 });
    for (const action of ["ec2:RunInstances", "ec2:TerminateInstances"])
      failing(relay, action, "RequestLimitExceeded", { status: 503 });
    const result = await scene.run();
    assert.notEqual(result.replacement, scene.ghost);
    const machines = await scene.inCloud();
    assertReplaced(scene, result, machines);
    const expected = [...scene.others, result.replacement ?? ""].map((name) => `${name} running`);
    assert.deepEqual(machines, [...expected, `${scene.ghost} suspended`].toSorted(), "the ghost is left to the swarm");
  });
}
