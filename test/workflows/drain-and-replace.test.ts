/**
 * drain-and-replace on a real Temporal server: the whole way, each of its steps refused in turn, clients that do not come over, the old
 * endpoint dying on the way, and what happens when even putting back fails; and the same with machines of EC2.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { DrainFinished } from "../../models/swarm-messages.ts";
import { drainAndReplace } from "../../workflows/drain-and-replace.ts";
import { startCloud } from "../support/aws/cloud.ts";
import { assertServing } from "./assertions.ts";
import { openStand, REFUSAL, type Stand } from "./refusals.ts";
import { describeOnEc2 } from "./scenes-on-ec2.ts";
import { specFor, startServer, type TestServer } from "./support.ts";
import type { SimulatedIpsecClient } from "./world/ipsec.ts";
import { World } from "./world.ts";

const SESSIONS = 6;
/** Most of a scene is waiting: for probes, for two looks at counters, for the overlap. */
const SCENES_AT_ONCE = 3;
const cloud = await startCloud();
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

function newWorld(): World {
  const world = new World();
  swarms += 1;
  const spec = specOf(`drain-${swarms}`);
  for (const name of ["ep-1", "ep-2", "ep-3"]) world.addMember(name, spec);
  world.addMachine("ep-4", "suspended");
  world.connect("ep-1", SESSIONS);
  return world;
}

function drain(world: World, options: { refuse?: readonly string[]; ghostless?: boolean; spread?: boolean } = {}) {
  const { spread = false, ghostless = false } = options;
  const ghost = ghostless ? undefined : "ep-4";
  const spec = specOf(world.steering?.swarm ?? "");
  return stand.run<DrainFinished>({
    world,
    refuse: options.refuse ?? [],
    start: (workflowId) =>
      server.client.workflow.execute(drainAndReplace, {
        taskQueue: "control",
        workflowId,
        args: [{ endpoint: "ep-1", cause: "test", reason: "The test asks for it", weight: 100, ghost, spec, spread }],
      }),
  });
}

function assertPutBack(world: World, result: DrainFinished, why: RegExp): void {
  assert.equal(result.outcome, "put-back", result.text);
  assertServing(world, ["ep-1", "ep-2", "ep-3"]);
  assert.ok(world.clients.every((client) => client.endpoint === "ep-1"));
  const end = world.auditRows.findLast(({ workflowId }) => workflowId?.startsWith("drain/") === true);
  assert.deepEqual([end?.action, end?.outcome], ["drain and replace", "failed"]);
  assert.match(end?.text ?? "", why);
}

test("moves every session to the ghost and ends the old machine", { timeout: 60_000 }, async () => {
  const world = newWorld();
  const { result } = await drain(world);
  assert.equal(result.outcome, "replaced", result.text);
  assert.equal(result.replacement, "ep-4");
  assert.equal(result.sessionsMoved, SESSIONS);
  assertServing(world, ["ep-2", "ep-3", "ep-4"]);
  const score = world.score();
  assert.deepEqual(score.terminated, ["ep-1"]);
  assert.deepEqual(new Set(Object.values(score.adopted)), new Set([1]), "each client is called once");
  assert.ok(world.clients.every((client) => client.endpoint === "ep-4"));
});

describe("each step refused in turn", () => {
  /** What ends otherwise than with everything put back, and how. */
  const OTHERWISE: Readonly<Record<string, (world: World, result: DrainFinished) => void>> = {
    "resumeMachine replacement-wake": (world, result) => {
      assert.equal(result.replacement, "ep-5", "a ghost that cannot be woken is replaced by a launched machine");
      assertServing(world, ["ep-2", "ep-3", "ep-5"]);
    },
    "terminateMachine old-terminate": (world, result) => {
      assert.equal(result.outcome, "replaced", "it has left the balancer: there is no way back, and none is needed");
      assertServing(world, ["ep-2", "ep-3", "ep-4"]);
    },
  };
  for (const ghostless of [false, true]) {
    const name = ghostless ? "with a launched machine" : "with a ghost";
    test(name, { timeout: 300_000, concurrency: SCENES_AT_ONCE }, async (t) => {
      const { steps } = await drain(newWorld(), { ghostless });
      const refusable = steps.filter((step) => !step.startsWith("writeAudit"));
      assert.ok(refusable.length >= 18, refusable.join(", "));
      // With a machine of its own making the run differs in its first steps.
      const refused = (ghostless ? refusable.slice(0, 2) : refusable).map((step) =>
        t.test(step, async () => {
          const world = newWorld();
          const { result } = await drain(world, { refuse: [step], ghostless });
          if (OTHERWISE[step] !== undefined) OTHERWISE[step](world, result);
          else assertPutBack(world, result, new RegExp(REFUSAL));
          assert.equal(world.pages.length, 0);
        }),
      );
      await Promise.all(refused);
    });
  }
});

test("IPsec sessions go to the machine that takes the place, and back when it cannot", { timeout: 60_000 }, async () => {
  const [world, other] = [newWorld(), newWorld()];
  const [clients, others] = [world, other].map((one) => one.connectIpsec("ep-1", 2));
  const [{ result }, { result: back }] = await Promise.all([
    drain(world),
    drain(other, { refuse: ["removeMember old-leave"] }),
  ]);
  const placesOf = (those: readonly SimulatedIpsecClient[] | undefined) =>
    those?.map(({ sessions }) => sessions.map(({ endpoint }) => endpoint).join());
  assert.equal(result.outcome, "replaced", result.text);
  assert.equal(result.sessionsMoved, SESSIONS + 2);
  assertServing(world, ["ep-2", "ep-3", "ep-4"]);
  assert.deepEqual(placesOf(clients), ["ep-4", "ep-4"]);
  assertPutBack(other, back, new RegExp(REFUSAL));
  assert.deepEqual(placesOf(others), ["ep-1", "ep-1"]);
  for (const one of [world, other]) assert.deepEqual(one.ipsec.handedOver, []);
});

test("puts everything back when a client with traffic does not come over", { timeout: 60_000 }, async () => {
  const world = newWorld();
  const [deaf] = world.clients;
  assert.ok(deaf !== undefined);
  deaf.answersHandshakes = false;
  const { result } = await drain(world);
  assertPutBack(world, result, /could not be verified for ep-4: 1 of 4 sessions with traffic did not come over in 600 ms/);
});

test("lets go of silent clients that answer no handshake", { timeout: 60_000 }, async () => {
  const world = newWorld();
  world.connect("ep-1", 1, false);
  const silent = world.clients.at(-1);
  assert.ok(silent !== undefined);
  silent.answersHandshakes = false;
  const { result } = await drain(world);
  assert.equal(result.outcome, "replaced", result.text);
  assert.equal(result.sessionsMoved, SESSIONS);
});

describe("the old endpoint dies on the way", () => {
  for (const call of ["agent.prepare", "agent.adopt", "agent.retire"]) {
    test(`before ${call}`, { timeout: 60_000 }, async () => {
      const world = newWorld();
      let crashed = false;
      world.intercept = (made, operation, phase) => {
        if (made !== call || operation === undefined || phase !== "before" || crashed) return;
        crashed = true;
        world.crash("ep-1");
      };
      const { result } = await drain(world);
      assert.equal(result.outcome, "replaced", result.text);
      assertServing(world, ["ep-2", "ep-3", "ep-4"]);
      assert.deepEqual(world.score().terminated, ["ep-1"]);
      assert.equal(world.pages.length, 0);
    });
  }
});

test("a replacement that dies while it takes sessions over is given up, and everything is as it was", {
  timeout: 60_000,
}, async () => {
  const world = newWorld();
  let crashed = false;
  world.intercept = (call, operation, phase) => {
    if (call !== "agent.adopt" || operation === undefined || phase !== "before" || crashed) return;
    crashed = true;
    world.crash("ep-4");
  };
  const { result } = await drain(world);
  assertPutBack(world, result, /Endpoint ep-4 died while sessions moved/);
});

test("pages a person when it can neither go on nor back, and leaves sessions alive", { timeout: 60_000 }, async () => {
  const world = newWorld();
  const { result } = await drain(world, { refuse: ["adoptSessions move-1-1-adopt", "removeMember undo-leave"] });
  assert.equal(result.outcome, "failed", result.text);
  assert.match(world.pages[0]?.subject ?? "", /drain of ep-1 stuck/);
  assert.equal(world.pages.length, 1);
  assert.deepEqual(world.score().dropped, []);
  assert.ok(world.clients.every((client) => client.endpoint === "ep-1"));
});

describe("spread over the others, which have room", () => {
  const spread = true;
  const assertGone = (world: World, { outcome, text }: DrainFinished, serving: readonly string[]) => {
    assert.equal(outcome, serving.length === 3 ? "replaced" : "drained", text);
    assertServing(world, serving);
    assert.ok(world.score().terminated.includes("ep-1"));
  };

  test("sessions go to the others while the ghost is woken that takes its place", { timeout: 60_000 }, async () => {
    const world = newWorld();
    const { result } = await drain(world, { spread });
    assertGone(world, result, ["ep-2", "ep-3", "ep-4"]);
    assert.deepEqual([result.replacement, result.sessionsMoved], ["ep-4", SESSIONS]);
    assert.ok(world.clients.every(({ endpoint }) => endpoint === "ep-2" || endpoint === "ep-3"));
    assert.deepEqual(new Set(Object.values(world.score().adopted)), new Set([1]), "each client is called once");
  });

  test("clients are called before the endpoint has said which sessions it holds", { timeout: 60_000 }, async () => {
    const world = newWorld();
    const firstCall = Promise.withResolvers<void>();
    world.intercept = async (call, _operation, phase) => {
      if (call === "agent.adopt" && phase === "after") firstCall.resolve();
      if (call === "agent.sessions") await firstCall.promise;
    };
    const { result } = await drain(world, { spread });
    assertGone(world, result, ["ep-2", "ep-3", "ep-4"]);
    assert.equal(result.sessionsMoved, SESSIONS);
  });

  describe("each step refused in turn", () => {
    /** Steps that make the replacement: without one the endpoint leaves all the same. */
    const REPLACEMENT = /^(awaitInnerAnswer|\w+ replacement-(join|prepare))$/;
    const how = { timeout: 300_000, concurrency: SCENES_AT_ONCE };
    test("ends with everything put back, or with the endpoint gone", how, async (t) => {
      const { steps } = await drain(newWorld(), { spread });
      const refusable = steps.filter((step) => !step.startsWith("writeAudit"));
      assert.ok(refusable.length >= 15, refusable.join(", "));
      const refused = refusable.map((step) =>
        t.test(step, async () => {
          const world = newWorld();
          const { result } = await drain(world, { refuse: [step], spread });
          if (step === "resumeMachine replacement-wake") assertGone(world, result, ["ep-2", "ep-3", "ep-5"]);
          else if (step === "terminateMachine old-terminate") assertGone(world, result, ["ep-2", "ep-3", "ep-4"]);
          else if (REPLACEMENT.test(step)) assertGone(world, result, ["ep-2", "ep-3"]);
          else {
            assert.equal(result.outcome, "put-back", result.text);
            assert.match(result.text, new RegExp(REFUSAL));
            assertServing(world, ["ep-1", "ep-2", "ep-3"]);
          }
          assert.equal(world.pages.length, 0);
        }),
      );
      await Promise.all(refused);
    });
  });

  test("leaves without anything in its place where no machine can be had", { timeout: 60_000 }, async () => {
    const world = newWorld();
    const { result } = await drain(world, { spread, ghostless: true, refuse: ["launchMachine replacement-launch"] });
    assertGone(world, result, ["ep-2", "ep-3"]);
    assert.match(result.text, /ep-1 has left, with nothing in its place; 6 sessions moved to ep-/);
  });

  for (const dead of ["ep-1", "ep-2"]) {
    test(`${dead} dies while sessions move`, { timeout: 60_000 }, async () => {
      const world = newWorld();
      let crashed = false;
      world.intercept = (call, operation, phase) => {
        if (call !== "agent.adopt" || operation === undefined || phase !== "before" || crashed) return;
        crashed = true;
        world.crash(dead);
      };
      const { result } = await drain(world, { spread });
      if (dead === "ep-1") assertGone(world, result, ["ep-2", "ep-3", "ep-4"]);
      else {
        assert.equal(result.outcome, "put-back", result.text);
        assert.ok(world.clients.every(({ endpoint }) => endpoint === "ep-1" || endpoint === "ep-3"));
        assert.deepEqual(world.steering?.pins, []);
      }
      assert.deepEqual(world.score().dropped, []);
      assert.equal(world.pages.length, 0);
    });
  }
});

describeOnEc2(cloud, () => ({ server, stand }));
