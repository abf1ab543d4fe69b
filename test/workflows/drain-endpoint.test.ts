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
import type { SimulatedIpsecClient } from "./world/ipsec.ts";
import { World } from "./world.ts";

const SESSIONS = 9;
/** Most of a scene is waiting: for probes, for two looks at counters, for the overlap. */
const SCENES_AT_ONCE = 3;
const ALL = ["ep-1", "ep-2", "ep-3"];
let server: TestServer;
let stand: Stand;
let swarms = 0;

before(async () => {
  server = await startServer();
  stand = await openStand(server);
});
after(async () => {
  await stand?.stop();
  await server?.stop();
});

/** Of a swarm that no other has: scenes are played at the same time. */
const specOf = (swarm: string) => specFor({ name: swarm, move: { verifyTimeoutMs: 600 } });

function newWorld(sessions = SESSIONS): World {
  const world = new World();
  swarms += 1;
  const spec = specOf(`drain-${swarms}`);
  for (const name of ALL) world.addMember(name, spec);
  world.connect("ep-1", sessions);
  world.connect("ep-2", 2);
  return world;
}

function drain(world: World, options: { refuse?: readonly string[]; capacitySessions?: number } = {}) {
  const spec = specOf(world.steering?.swarm ?? "");
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
  test("puts weight, flag and pins back", { timeout: 300_000, concurrency: SCENES_AT_ONCE }, async (t) => {
    const { steps } = await drain(newWorld());
    const refusable = steps.filter((step) => !step.startsWith("writeAudit"));
    assert.ok(refusable.length >= 18, refusable.join(", "));
    const refused = refusable.map((step) =>
      t.test(step, async () => {
        const world = newWorld();
        const { result } = await drain(world, { refuse: [step] });
        if (step === "terminateMachine old-terminate") {
          assert.equal(result.outcome, "drained", "it has left the balancer: there is no way back, and none is needed");
          assertServing(world, ["ep-2", "ep-3"]);
        } else assertPutBack(world, result, new RegExp(REFUSAL));
        assert.equal(world.pages.length, 0);
      }),
    );
    await Promise.all(refused);
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

describe("IPsec sessions", { concurrency: SCENES_AT_ONCE }, () => {
  const scene = (count = 3) => {
    const world = newWorld(0);
    return { world, clients: world.connectIpsec("ep-1", count) };
  };
  const placesOf = (clients: readonly SimulatedIpsecClient[]) =>
    clients.map(({ sessions }) => sessions.map(({ endpoint }) => endpoint).join());

  test("each has SAs elsewhere before its endpoint says goodbye, and that leaves when it holds none", {
    timeout: 60_000,
  }, async () => {
    const { world, clients } = scene();
    const { result, steps } = await drain(world);
    assert.equal(result.outcome, "drained", result.text);
    assert.equal(result.sessionsMoved, 3);
    assert.match(result.text, /3 sessions moved to ep-2, ep-3/);
    assertServing(world, ["ep-2", "ep-3"]);
    assert.deepEqual(world.ipsec.handedOver, []);
    assert.ok(clients.every(({ sessions }) => sessions.length === 1));
    const at = (step: string) => steps.findIndex((one) => one.startsWith(step));
    const order = ["setWeight", "shareIpsec", "pinIpsec", "adoptIpsec", "retireIpsec", "unpinIpsec", "removeMember"].map(at);
    assert.deepEqual(
      order,
      order.toSorted((one, other) => one - other),
    );
    const rows = world.auditRows.map(({ action, text }) => `${action}: ${text}`).join("\n");
    for (const action of ["pin", "adopt", "retire", "unpin"]) assert.match(rows, new RegExp(`^${action} IPsec .*: .+`, "m"));
  });

  test("a client whose packets do not come by its new SAs keeps the old ones, and the endpoint stays", {
    timeout: 60_000,
  }, async () => {
    const { world, clients } = scene();
    const [deaf] = clients;
    assert.ok(deaf !== undefined);
    deaf.isCutOff = true;
    const { result } = await drain(world);
    assertPutBack(world, result, /1 of \d IPsec sessions? with traffic did not come over/);
    assert.deepEqual([deaf.sessions.map(({ endpoint }) => endpoint), deaf.sendsBy.endpoint], [["ep-1"], "ep-1"]);
  });

  test("a client that nobody can call goes on by the SAs that it has, from their last numbers", {
    timeout: 60_000,
  }, async () => {
    const { world, clients } = scene();
    const [unanswering] = clients;
    assert.ok(unanswering !== undefined);
    unanswering.answers = false;
    const { result } = await drain(world);
    assert.equal(result.outcome, "drained", result.text);
    assert.equal(result.sessionsMoved, 2);
    assertServing(world, ["ep-2", "ep-3"]);
    assert.deepEqual(world.ipsec.handedOver, [unanswering.client]);
  });

  test("each of their steps refused in turn leaves every client with SAs that it can send by", {
    timeout: 60_000,
    concurrency: SCENES_AT_ONCE,
  }, async (t) => {
    const { steps } = await drain(scene(1).world);
    const refusable = steps.filter((step) => step.includes("Ipsec"));
    assert.equal(refusable.length, 5, refusable.join());
    const refused = refusable.map((step) =>
      t.test(step, async () => {
        const { world, clients } = scene(1);
        const { result } = await drain(world, { refuse: [step] });
        assert.equal(result.outcome, "put-back", result.text);
        const { dropped, strayed, handedOver } = world.ipsec;
        assert.deepEqual([dropped, strayed, handedOver, world.pages], [[], [], [], []]);
        const [client] = clients;
        // A pin that could not be taken away leads where the client lives by then.
        const pins = world.steering?.ipsecPins?.map(({ endpoint }) => endpoint);
        assert.deepEqual(pins, step.startsWith("unpinIpsec") ? [client?.sendsBy.endpoint] : undefined);
        assert.ok(placesOf(clients).every((places) => places !== ""));
      }),
    );
    await Promise.all(refused);
  });
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
