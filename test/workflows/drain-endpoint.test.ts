/**
 * drainEndpoint on a real Temporal server: sessions go to the members that remain, each of its steps is refused in turn, and a swarm
 * that could not bear it refuses.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { shadowOf } from "../../models/shadow.ts";
import type { DrainFinished } from "../../models/swarm-messages.ts";
import { drainEndpoint } from "../../workflows/drain-endpoint.ts";
import { assertServing } from "./assertions.ts";
import { openStand, REFUSAL, type Stand } from "./refusals.ts";
import { specFor, startServer, type TestServer } from "./support.ts";
import { World } from "./world.ts";

const SESSIONS = 9;
const spec = specFor({ move: { verifyTimeoutMs: 600 } });
const ALL = ["ep-1", "ep-2", "ep-3"];
let server: TestServer;
let stand: Stand;

before(async () => {
  server = await startServer();
  stand = await openStand(server);
});
after(async () => {
  await stand?.stop();
  await server?.stop();
});

function newWorld(): World {
  const world = new World();
  for (const name of ALL) world.addMember(name, spec);
  world.connect("ep-1", SESSIONS);
  world.connect("ep-2", 2);
  return world;
}

function drain(world: World, options: { refuse?: readonly string[]; capacitySessions?: number } = {}) {
  const endpoints = { ...spec.endpoints, capacitySessions: options.capacitySessions ?? spec.endpoints.capacitySessions };
  return stand.run<DrainFinished>({
    world,
    refuse: options.refuse ?? [],
    start: (workflowId) =>
      server.client.workflow.execute(drainEndpoint, {
        taskQueue: "control",
        workflowId,
        args: [{ endpoint: "ep-1", cause: "test", reason: "The test asks for it", weight: 100, spec: { ...spec, endpoints } }],
      }),
  });
}

function assertPutBack(world: World, result: DrainFinished, why: RegExp): void {
  assert.equal(result.outcome, "put-back", result.text);
  assertServing(world, ALL);
  const end = world.auditRows.findLast(({ workflowId }) => workflowId?.startsWith("drain/") === true);
  assert.deepEqual([end?.action, end?.outcome], ["drain", "failed"]);
  assert.match(end?.text ?? "", why);
}

test("each session goes to its shadow, and the machine ends", { timeout: 60_000 }, async () => {
  const world = newWorld();
  const shadows = world.clients.slice(0, SESSIONS).map(({ publicKey }) => shadowOf(publicKey, "ep-1", ALL));
  assert.deepEqual(
    [...new Set(shadows)].toSorted((a = "", b = "") => a.localeCompare(b)),
    ["ep-2", "ep-3"],
  );
  const { result } = await drain(world);
  assert.equal(result.outcome, "drained", result.text);
  assert.equal(result.sessionsMoved, SESSIONS);
  assertServing(world, ["ep-2", "ep-3"]);
  assert.deepEqual(
    world.clients.slice(0, SESSIONS).map((client) => client.endpoint),
    shadows,
  );
  const { terminated, adopted, launches } = world.score();
  assert.deepEqual(terminated, ["ep-1"]);
  assert.equal(launches, 0);
  assert.deepEqual(
    Object.values(adopted),
    Array.from({ length: SESSIONS }, () => 1),
    "each client is called once",
  );
});

test("a shadow without room passes its sessions on to members that have some", { timeout: 60_000 }, async () => {
  const world = newWorld();
  const { result } = await drain(world, { capacitySessions: 6 });
  assert.equal(result.outcome, "drained", result.text);
  const held = (name: string) => world.clients.filter((client) => client.endpoint === name).length;
  assert.deepEqual(
    [held("ep-2"), held("ep-3")].toSorted((a, b) => a - b),
    [5, 6],
  );
});

test("nothing moves when the others cannot carry it", { timeout: 60_000 }, async () => {
  const world = newWorld();
  const { result } = await drain(world, { capacitySessions: 5 });
  assertPutBack(world, result, /cannot do without ep-1: 9 sessions to move/);
  assert.deepEqual(world.score().adopted, {});
});

describe("each step refused in turn", () => {
  test("puts weight, flag and pins back", { timeout: 300_000 }, async (t) => {
    const { steps } = await drain(newWorld());
    const refusable = steps.filter((step) => !step.startsWith("writeAudit"));
    assert.ok(refusable.length >= 18, refusable.join(", "));
    for (const step of refusable) {
      await t.test(step, async () => {
        const world = newWorld();
        const { result } = await drain(world, { refuse: [step] });
        if (step === "terminateMachine old-terminate") {
          assert.equal(result.outcome, "drained", "it has left the balancer: there is no way back, and none is needed");
          assertServing(world, ["ep-2", "ep-3"]);
        } else assertPutBack(world, result, new RegExp(REFUSAL));
        assert.equal(world.pages.length, 0);
      });
    }
  });
});

test("sessions that came over before a later batch failed stay there, and the rest stays where it was", {
  timeout: 60_000,
}, async () => {
  const world = newWorld();
  const deaf = world.clients.slice(0, SESSIONS).findLast(({ publicKey }) => shadowOf(publicKey, "ep-1", ALL) === "ep-3");
  assert.ok(deaf !== undefined);
  deaf.answersHandshakes = false;
  const { result } = await drain(world);
  assertPutBack(world, result, /could not be verified for ep-3/);
  assert.ok(result.sessionsMoved > 0);
  assert.equal(deaf.endpoint, "ep-1");
  assert.equal(world.machine("ep-1").keys.size, SESSIONS - result.sessionsMoved);
});

test("an endpoint that dies on the way is finished with, and its sessions are confirmed elsewhere", {
  timeout: 60_000,
}, async () => {
  const world = newWorld();
  let crashed = false;
  world.intercept = (call, operation, phase) => {
    if (call !== "agent.adopt" || operation === undefined || phase !== "before" || crashed) return;
    crashed = true;
    world.crash("ep-1");
  };
  const { result } = await drain(world);
  assert.equal(result.outcome, "drained", result.text);
  assertServing(world, ["ep-2", "ep-3"]);
  assert.equal(world.pages.length, 0);
});

test("a member that dies while it takes sessions over ends the drain: weight back, nobody dropped", {
  timeout: 60_000,
}, async () => {
  const world = newWorld();
  let crashed = false;
  world.intercept = (call, operation, phase) => {
    if (call !== "agent.adopt" || operation === undefined || phase !== "before" || crashed) return;
    crashed = true;
    world.crash("ep-2");
  };
  const { result } = await drain(world);
  assert.equal(result.outcome, "put-back", result.text);
  assert.match(result.text, /Endpoint ep-2 died while sessions moved/);
  const first = world.steering?.members.find(({ endpoint }) => endpoint === "ep-1");
  assert.deepEqual([first?.weight, first?.draining], [100, false]);
  assert.deepEqual(world.steering?.pins, []);
  assert.deepEqual(world.score().dropped, []);
  assert.ok(world.clients.every(({ endpoint }) => endpoint === "ep-1" || endpoint === "ep-3"));
});

test("pages a person when it can neither go on nor back", { timeout: 60_000 }, async () => {
  const world = newWorld();
  const { result } = await drain(world, { refuse: ["adoptSessions move-1-1-adopt", "setWeight undrain"] });
  assert.equal(result.outcome, "failed", result.text);
  assert.deepEqual(
    world.pages.map(({ subject }) => subject),
    ["drain of ep-1 stuck"],
  );
  assert.deepEqual(world.score().dropped, []);
});
