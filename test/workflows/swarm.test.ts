/**
 * The swarm's entity workflow on a real Temporal server: bring-up from nothing, requests and their validators, a lost endpoint, the stop
 * switch, the budget.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Temporal } from "../../drivers/temporal-client.ts";
import { ForeshiftError } from "../../models/errors.ts";
import type { SwarmSpec } from "../../models/swarm-spec.ts";
import {
  awaitWhole as awaitWholeOn,
  BY,
  GROWING,
  growBeside,
  leadAway,
  membersOf as members,
  onSwarm as onStage,
  type Stage,
  setStage,
} from "./stories.ts";
import { eventually, specFor, startServer } from "./support.ts";
import type { World } from "./world.ts";

let stage: Stage;
let temporal: Temporal;

before(async () => {
  stage = await setStage(await startServer());
  temporal = stage.temporal;
});
after(async () => {
  await stage?.stop();
});

const onSwarm = (spec: SwarmSpec, story: (world: World) => Promise<void>) => onStage(stage, spec, story);
const awaitWhole = (world: World, spec: SwarmSpec) => awaitWholeOn(stage, world, spec);

function codeIs(code: string): (thrown: unknown) => boolean {
  return (thrown) => thrown instanceof ForeshiftError && thrown.code === code && thrown.remedy !== "";
}

test("comes up from nothing and launches no machine twice", { timeout: 60_000 }, async () => {
  const spec = specFor({ name: "bring-up" });
  await onSwarm(spec, async (world) => {
    assert.equal(world.score().launches, 4);
    assert.deepEqual(await temporal.applySwarm({ spec, by: BY }), { created: false });
    const status = await temporal.status("bring-up");
    assert.deepEqual(
      status.endpoints.map((one) => one.phase),
      ["active", "active", "active"],
    );
    assert.equal(world.score().launches, 4);
  });
});

test("drained of an endpoint, it lives on with the others and gets another as its file asks", { timeout: 60_000 }, async () => {
  const spec = specFor({ name: "drain" });
  await onSwarm(spec, async (world) => {
    const [endpoint, ...others] = members(world);
    world.connect(endpoint, 6);
    const homes = new Map<string, string | undefined>();
    world.intercept = (call, _, phase) => {
      if (call !== "hypervisor.terminate" || phase !== "before") return;
      for (const client of world.clients) homes.set(client.publicKey, client.endpoint);
    };
    await temporal.drainEndpoint({ swarm: "drain", endpoint, by: BY });
    await eventually(`${endpoint} is gone`, () => world.score().terminated.includes(endpoint));
    await awaitWhole(world, spec);
    assert.equal(homes.size, 6);
    for (const home of homes.values()) assert.ok(others.includes(home ?? ""), `${home} was there before`);
    assert.deepEqual(world.score().dropped, []);
    assert.equal(world.score().launches, 5, "the ghost fills the place, and the pool is refilled");
  });
});

test("a revoked endpoint and a revoked ghost end, others take their places, and no session is lost", {
  timeout: 60_000,
}, async () => {
  const spec = specFor({ name: "revoked" });
  await onSwarm(spec, async (world) => {
    const [endpoint] = members(world);
    const ghost = [...world.machines.values()].find(({ state }) => state === "suspended")?.name ?? "";
    world.connect(endpoint, 3);
    for (const one of [endpoint, ghost]) {
      const { outAfterMs } = await temporal.revokeEndpoint({ swarm: "revoked", endpoint: one, by: BY, reason: "copied" });
      assert.ok(outAfterMs !== undefined);
      await eventually(`${one} is gone`, () => world.score().terminated.includes(one));
    }
    await awaitWhole(world, spec);
    assert.deepEqual(world.score().dropped, []);
    await eventually("their certificates are revoked as their machines have ended", () => {
      const retired = world.auditRows.filter(({ workflowId }) => workflowId?.startsWith("retire/") === true);
      return retired.length === 2;
    });
    for (const one of [endpoint, ghost])
      assert.equal(
        world.steering?.members.some((member) => member.endpoint === one),
        false,
      );
  });
});

test("refuses a drain that the others could not bear, and a replacement never needs that", { timeout: 60_000 }, async () => {
  const spec = specFor({ name: "bear", count: 2, capacitySessions: 4 });
  await onSwarm(spec, async (world) => {
    const swarm = "bear";
    const [endpoint = "", other = ""] = (world.steering?.members ?? []).map((member) => member.endpoint);
    world.connect(endpoint, 3);
    world.connect(other, 2);
    await assert.rejects(temporal.drainEndpoint({ swarm, endpoint, by: BY }), (thrown) => {
      return (
        codeIs("CAPACITY_EXCEEDED")(thrown) && /4 sessions could be carried afterwards, and there are 5/.test(String(thrown))
      );
    });
    assert.deepEqual((await temporal.status(swarm)).requested, []);
    await temporal.replaceEndpoint({ swarm, endpoint, by: BY });
    await eventually(`${endpoint} is gone`, () => world.score().terminated.includes(endpoint));
  });
  const one = specFor({ name: "last", count: 1 });
  await onSwarm(one, async (world) => {
    const endpoint = world.steering?.members[0]?.endpoint ?? "";
    await assert.rejects(temporal.drainEndpoint({ swarm: "last", endpoint, by: BY }), (thrown) => {
      return codeIs("CAPACITY_EXCEEDED")(thrown) && /no other endpoint would be left/.test(String(thrown));
    });
  });
});

test("replaces on request, and refills the pool", { timeout: 60_000 }, async () => {
  const spec = specFor({ name: "request" });
  await onSwarm(spec, async (world) => {
    const [endpoint] = members(world);
    world.connect(endpoint, 6);
    const { workflowId } = await temporal.replaceEndpoint({ swarm: "request", endpoint, by: BY });
    assert.equal(workflowId, `drain/request/${endpoint}`);
    await eventually(`${endpoint} is gone`, () => world.score().terminated.includes(endpoint));
    await awaitWhole(world, spec);
    assert.deepEqual(world.score().dropped, []);
    assert.equal(world.score().launches, 5, "three, a ghost, and a ghost for the one that was used");
  });
});

test("refuses what cannot be done and says why", { timeout: 60_000 }, async () => {
  const spec = specFor({ name: "refuse" });
  await assert.rejects(temporal.status("nowhere"), codeIs("UNKNOWN_SWARM"));
  await onSwarm(spec, async (world) => {
    const swarm = "refuse";
    await assert.rejects(temporal.drainEndpoint({ swarm, endpoint: "ep-99", by: BY }), codeIs("UNKNOWN_ENDPOINT"));
    const moved = { ...spec, vip: { ...spec.vip, v4: "198.19.0.2" } };
    await assert.rejects(temporal.applySwarm({ spec: moved, by: BY }), codeIs("INVALID_FIELD"));
    const wrong = { ...spec, endpoints: { ...spec.endpoints, count: 0 } };
    await assert.rejects(temporal.applySwarm({ spec: wrong, by: BY }), (thrown) => {
      return codeIs("INVALID_FIELD")(thrown) && /endpoints\.count/.test(String(thrown));
    });
    const [endpoint] = members(world);
    world.connect(endpoint, 2);
    await temporal.drainEndpoint({ swarm, endpoint, by: BY });
    await assert.rejects(temporal.drainEndpoint({ swarm, endpoint, by: BY }), codeIs("ALREADY_UNDER_WAY"));
  });
});

test("recovers a lost endpoint in place, else replaces it", { timeout: 90_000 }, async () => {
  const spec = specFor({ name: "lost" });
  await onSwarm(spec, async (world) => {
    const [dead, hurt] = members(world);
    world.connect(dead, 4);
    world.crash(dead);
    // Its agent is dead too: recovery in place cannot work.
    await eventually(`${dead} is replaced`, () => world.score().terminated.includes(dead), 60_000);
    await awaitWhole(world, spec);
    assert.deepEqual(world.score().dropped, []);
    world.crash(hurt);
    world.machine(hurt).agentAnswers = true;
    await eventually(`${hurt} is recovered`, () => world.machine(hurt).ejectedAtMs === undefined, 60_000);
    await awaitWhole(world, spec);
    assert.ok(!world.score().terminated.includes(hurt));
    const analyses = world.auditRows.filter((row) => row.action === "analyse the loss");
    assert.equal(analyses.length, 2);
  });
});

test("where clients are left to find out by themselves, none is called and the machine waits for them", {
  timeout: 90_000,
}, async () => {
  const spec = specFor({ name: "stock", outlier: { takeover: false } });
  await onSwarm(spec, async (world) => {
    const [dead] = members(world);
    world.connect(dead, 4);
    const calls: string[] = [];
    world.intercept = (call, operation, phase) => {
      if (operation !== undefined && phase === "after" && /agent|repair/.test(call)) calls.push(call);
    };
    world.crash(dead);
    world.machine(dead).agentAnswers = true;
    await eventually("its loss is being handled", async () => (await temporal.status("stock")).runs.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    assert.deepEqual(calls, [], "nobody calls the clients or touches the machine");
    world.clientsFindOut(dead);
    await eventually(`${dead} is recovered`, () => world.machine(dead).ejectedAtMs === undefined);
    await awaitWhole(world, spec);
    assert.deepEqual(world.score().adopted, {});
    assert.ok(world.clients.every((client) => client.endpoint !== dead));
    assert.deepEqual(world.score().dropped, []);
  });
});

test("stops within a second, halts a move where it is, and carries on when resumed", { timeout: 90_000 }, async () => {
  const spec = specFor({ name: "stop", move: { batchSessions: 2, overlapMs: 300 } });
  await onSwarm(spec, async (world) => {
    const swarm = "stop";
    const [endpoint, other] = members(world);
    world.connect(endpoint, 12);
    const changes: number[] = [];
    let stop: Promise<unknown> | undefined;
    let stoppedAtMs = Number.POSITIVE_INFINITY;
    world.intercept = (call, operation, phase) => {
      if (operation === undefined || phase !== "after") return;
      changes.push(Date.now());
      if (call !== "agent.adopt" || stop !== undefined) return;
      stop = temporal.stopAutomation({ swarm, scope: "swarm", by: BY, reason: "to see it halt" }).then((result) => {
        stoppedAtMs = Date.now();
        return result;
      });
    };
    await temporal.drainEndpoint({ swarm, endpoint, by: BY });
    await eventually("the stop is asked for", () => stop);
    await stop;
    await eventually("the run is halted", async () => {
      const found = stage.server.client.workflow.list({
        query: `WorkflowId = "drain/stop/${endpoint}" AND ForeshiftPhase = "halted"`,
      });
      for await (const _ of found) return true;
      return false;
    });
    const late = changes.filter((atMs) => atMs > stoppedAtMs + 1_000);
    assert.deepEqual(late, [], "nothing is changed a second after the stop");
    await assert.rejects(temporal.drainEndpoint({ swarm, endpoint: other, by: BY }), codeIs("AUTOMATION_STOPPED"));
    assert.deepEqual(world.score().dropped, []);
    assert.ok(
      world.clients.every((client) => client.endpoint !== undefined),
      "every session lives somewhere",
    );
    await temporal.resumeAutomation({ swarm, scope: "swarm", by: BY, reason: "enough seen" });
    await eventually(`${endpoint} is gone`, () => world.score().terminated.includes(endpoint));
    await awaitWhole(world, spec);
    assert.deepEqual(world.score().dropped, []);
  });
});

test("obeys a switch that was thrown in the database alone", { timeout: 60_000 }, async () => {
  const spec = specFor({ name: "switch" });
  await onSwarm(spec, async (world) => {
    await world.store.setStopSwitch({ scope: "*", on: true, by: BY, reason: "Temporal was away" });
    await eventually("the swarm knows", async () => (await temporal.status("switch")).stopped !== undefined, 5_000);
    const [endpoint] = members(world);
    await assert.rejects(temporal.replaceEndpoint({ swarm: "switch", endpoint, by: BY }), codeIs("AUTOMATION_STOPPED"));
    await world.store.setStopSwitch({ scope: "*", on: false, by: BY, reason: "" });
    await eventually("the swarm goes on", async () => (await temporal.status("switch")).stopped === undefined, 5_000);
  });
});

test("disrupts no more at once than the budget allows", { timeout: 90_000 }, async () => {
  const spec = specFor({ name: "budget" });
  await onSwarm(spec, async (world) => {
    const swarm = "budget";
    const two = members(world).slice(0, 2);
    for (const endpoint of two) world.connect(endpoint, 3);
    let drainingMax = 0;
    world.intercept = () => {
      const draining = world.steering?.members.filter((member) => member.draining).length ?? 0;
      drainingMax = Math.max(drainingMax, draining);
    };
    for (const endpoint of two) await temporal.drainEndpoint({ swarm, endpoint, by: BY });
    const both = () => two.every((endpoint) => world.score().terminated.includes(endpoint));
    await eventually("both are gone", both, 80_000);
    await awaitWhole(world, spec);
    assert.equal(drainingMax, 1);
    assert.deepEqual(world.score().dropped, []);
  });
});

test("adds endpoints while others are being launched, each machine once", { timeout: 60_000 }, async () => {
  const spec = specFor({ name: "beside", ...GROWING });
  await onSwarm(spec, async (world) => {
    const beside = await growBeside(stage, world, spec);
    assert.deepEqual(beside.toSorted(), ["add/beside", "add/beside/2"]);
    const brought = world.auditRows.filter(
      ({ workflowId, action }) => workflowId?.startsWith("add/") && action === "join the balancer",
    );
    const names = brought.map(({ endpoint }) => endpoint);
    assert.equal(new Set(names).size, names.length, `joined: ${names.join()}`);
    assert.equal(world.steering?.members.length, 7);
    assert.deepEqual(world.score().dropped, []);
  });
});

test("leads away what an endpoint holds too many, and no more", { timeout: 60_000 }, async () => {
  const spec = specFor({ name: "relieve", capacitySessions: 10 });
  await onSwarm(spec, async (world) => {
    const endpoint = await leadAway(stage, world, spec);
    const ends = world.auditRows.filter(({ action }) => action === "relieve");
    assert.deepEqual(
      ends.map(({ workflowId, outcome, details }) => [workflowId, outcome, details.sessionsMoved]),
      [[`relieve/relieve/${endpoint}`, "done", 3]],
    );
    assert.ok(world.clients.every((client) => client.endpoint !== undefined));
    assert.deepEqual([world.score().dropped, world.score().terminated, world.steering?.pins], [[], [], []]);
    assert.ok(world.steering?.members.every(({ weight, draining }) => weight === 100 && !draining));
  });
});

test("leaves a machine whose memory runs full, before it fails", { timeout: 60_000 }, async () => {
  const foresight = { mode: "act", windowMs: 60_000, dwellMs: 1_000 } as const;
  const spec = specFor({ name: "foreseen", foresight });
  await onSwarm(spec, async (world) => {
    const [endpoint, other] = members(world);
    world.connect(endpoint, 20);
    world.measure(other, { memoryShare: () => 0.4 });
    world.measure(endpoint, { memoryShare: (secondsAgo) => 0.9 - 0.008 * secondsAgo });
    await eventually(`${endpoint} is gone`, () => world.score().terminated.includes(endpoint));
    await awaitWhole(world, spec);
    assert.deepEqual(world.score().terminated, [endpoint]);
    assert.deepEqual(world.score().dropped, []);
    const drained = world.auditRows.find(({ action, endpoint: of }) => action === "drain" && of === endpoint);
    assert.match(drained?.text ?? "", /fails within 60 s with probability .*memory is \d.* % and rising; at this rate/);
    const [scored] = await world.store.riskScores({ swarm: spec.name, endpoint, untilMs: Date.now(), limit: 1 });
    assert.equal(scored?.score.terms[0]?.name, "memory");
  });
});
