/** The rollout of an image: what is replaced next, how many at once, when it is watched, and when everything goes back. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { ImageName, imageInForce } from "../../models/image.ts";
import type { EndpointObservation, Observation } from "../../models/observation.ts";
import { applySpec, initialState, plan, takeRoll } from "../../models/plan.ts";
import {
  abort,
  advance,
  askedFor,
  goalOf,
  newRoll,
  pause,
  type RollState,
  replacementEnded,
  resume,
  rollFingerprint,
  rollStatus,
} from "../../models/roll.ts";
import { RollPolicy } from "../../models/swarm-spec.ts";
import { holds } from "../support/property.ts";
import { endpointOf, observationOf, specOf } from "./fixtures.ts";

const OLD = "sha256:aaaa";
const NEW = "sha256:bbbb";
const spec = specOf({ endpoints: { count: 6 }, budget: { disruptedShareMaxPercent: 50 }, thresholds: { holdMs: 2_000 } });

type Machine = Partial<EndpointObservation>;

function seenAs(machines: Readonly<Record<string, Machine>>, more: Partial<Observation> = {}): Observation {
  const endpoints = Object.entries(machines).map(([name, change]) => endpointOf(name, { image: OLD, ...change }));
  return observationOf(endpoints, { ghosts: [], ...more });
}

function fleet(changes: Readonly<Record<string, Machine>> = {}, count = 6): Record<string, Machine> {
  const all = Array.from({ length: count }, (_, index) => `ep-${index + 1}`);
  return { ...Object.fromEntries(all.map((name) => [name, {}])), ...changes };
}

function begin(machines: Readonly<Record<string, Machine>>, policy: Partial<RollPolicy> = {}): RollState {
  const asked = { image: NEW, previous: OLD, by: "a test", policy: RollPolicy.parse({ bakeMs: 10_000, ...policy }) };
  return newRoll(asked, seenAs(machines), 0);
}

const step = (roll: RollState, machines: Readonly<Record<string, Machine>>, now: number, more: Partial<Observation> = {}) =>
  advance(roll, spec, seenAs(machines, more), now);

describe("the next batch", () => {
  test("is one endpoint at first, the least laden, and then as many as the budget allows at once", () => {
    const machines = fleet({ "ep-4": { sessions: 1 } });
    const first = step(begin(machines), machines, 0);
    assert.deepEqual(askedFor(first), ["ep-4"]);
    const replaced = { ...fleet({ "ep-7": { image: NEW } }), "ep-4": { image: NEW } };
    const watched = step(first, replaced, 1_000);
    assert.equal(rollStatus(watched).phase, "baking");
    assert.deepEqual(askedFor(step(watched, replaced, 10_999)), []);
    assert.deepEqual(askedFor(step(watched, replaced, 11_000)), ["ep-1", "ep-2", "ep-3"]);
    const small = { ...watched, policy: { ...watched.policy, batchEndpoints: 2 } };
    assert.deepEqual(askedFor(step(small, replaced, 11_000)), ["ep-1", "ep-2"]);
  });

  test("leaves alone what matches, what is ejected, and whom nobody knows the image of", () => {
    const machines = { "ep-1": { image: NEW }, "ep-2": { ejected: true }, "ep-3": { image: undefined }, "ep-4": {} };
    assert.deepEqual(askedFor(step(begin(machines), machines, 0)), ["ep-4"]);
  });

  test("with nothing to replace it waits for the ghosts alone, and ends", () => {
    const machines = fleet({}, 0);
    const all = { ...machines, "ep-1": { image: NEW }, "ep-2": { image: NEW } };
    const waits = step(begin(all), all, 0, { ghosts: ["ep-9"], ghostImages: { "ep-9": OLD } });
    assert.equal(rollStatus(waits).phase, "ghosts");
    assert.equal(step(waits, all, 1, { ghosts: ["ep-10"], ghostImages: { "ep-10": NEW } }).ended?.outcome, "rolled");
  });
});

describe("what was replaced is watched", () => {
  const replaced = fleet({ "ep-1": { image: NEW } });
  const watched = step({ ...begin(fleet()), wanted: ["ep-1"] }, replaced, 0);

  test("anew once the reflex answers again, or automation is resumed", () => {
    const silent = step(watched, replaced, 5_000, { reflexAnswers: false });
    const again = step(silent, replaced, 9_000);
    assert.deepEqual(askedFor(step(again, replaced, 18_999)), []);
    assert.notDeepEqual(askedFor(step(again, replaced, 19_000)), []);
  });

  test("longer while something is in doubt, and no longer once it is well", () => {
    const slow = fleet({ "ep-1": { image: NEW, innerRttMsP75: 60 } });
    const doubted = step(watched, slow, 9_000);
    assert.deepEqual(askedFor(step(doubted, slow, 10_500)), []);
    assert.notDeepEqual(askedFor(step(doubted, replaced, 10_500)), []);
  });
});

describe("made worse", () => {
  const sick: Machine = { image: NEW, innerLoss: 0.5 };
  const replaced = fleet({ "ep-1": sick });
  const before = { ...begin(fleet()), wanted: ["ep-1"] };

  test("everything goes back, what is bad first, and nothing is watched on the way", () => {
    const doubted = step(before, replaced, 0);
    const back = step(doubted, replaced, 2_000);
    assert.equal(back.direction, "back");
    assert.match(back.turned ?? "", /1 of 1 endpoints of the new image went bad and 0 of 5 of the others \(ep-1: loss/);
    const wanted = step(back, replaced, 2_100);
    assert.deepEqual([goalOf(wanted), askedFor(wanted)], [OLD, ["ep-1"]]);
    assert.equal(step(wanted, fleet(), 3_000).ended?.outcome, "rolled-back");
  });

  test("an ejection is believed at once, one that was revoked never", () => {
    const well = step(before, fleet({ "ep-1": { image: NEW } }), 0);
    assert.equal(step(well, fleet({ "ep-1": { image: NEW, ejected: true } }), 100).direction, "back");
    const revoked = fleet({ "ep-1": { image: NEW, ejected: true, revoked: true } });
    assert.equal(step(well, revoked, 100).direction, "forward");
  });

  test("what is as bad elsewhere is not the image's fault", () => {
    const ill = { innerLoss: 0.5 };
    const all = fleet({ "ep-1": sick, "ep-2": ill, "ep-3": ill, "ep-4": ill, "ep-5": ill, "ep-6": ill });
    const later = step(step(before, all, 0), all, 60_000);
    assert.equal(later.direction, "forward");
    assert.equal(later.seen.filter((one) => one.bad !== undefined).length, 6);
  });

  test("one of many is within what is tolerated", () => {
    const many = Object.fromEntries(Array.from({ length: 20 }, (_, at) => [`ep-${at + 1}`, { image: NEW }]));
    const one = { ...many, "ep-1": sick, "ep-30": {} };
    const state = { ...begin(fleet()), policy: RollPolicy.parse({ worseShareMax: 0.1 }) };
    assert.equal(step(step(state, one, 0), one, 60_000).direction, "forward");
  });

  test("without rollback it waits for a person, who has it judged anew", () => {
    const state = { ...before, policy: RollPolicy.parse({ rollback: false }) };
    const held = step(step(state, replaced, 0), replaced, 2_000);
    assert.deepEqual([rollStatus(held).phase, askedFor(held)], ["paused", []]);
    assert.match(rollStatus(held).text, /Rollback is off: 1 of 1 endpoints/);
    assert.equal(step(held, replaced, 90_000), held);
    assert.equal(rollStatus(step(resume(held), fleet({ "ep-1": { image: NEW } }), 91_000)).phase, "baking");
  });

  test("two replacements that fail one after the other are the image's fault, one is not", () => {
    const machines = fleet();
    const once = step(replacementEnded(begin(machines), false, "did not boot"), machines, 0);
    assert.deepEqual([once.direction, askedFor(once)], ["forward", ["ep-1"]]);
    const between = replacementEnded(replacementEnded(once, true, ""), false, "did not boot");
    assert.equal(step(between, machines, 0).direction, "forward");
    const twice = step(replacementEnded(once, false, "did not boot"), machines, 0);
    assert.match(twice.turned ?? "", /2 replacements failed one after the other; the last: did not boot/);
  });

  test("a way back that fails as well waits for a person", () => {
    const machines = fleet({ "ep-1": { image: NEW } });
    const back = abort(begin(machines), "a test", false);
    const failed = replacementEnded(replacementEnded(back, false, "a"), false, "no machine is to be had");
    assert.match(rollStatus(step(failed, machines, 0)).text, /It cannot go back either: .*no machine is to be had/);
  });
});

describe("a person", () => {
  test("pauses it: nothing more is wanted, and what was comes again when it is resumed", () => {
    const machines = fleet();
    const wants = step(begin(machines), machines, 0);
    const paused = pause(wants, "a test");
    assert.deepEqual([askedFor(paused), rollStatus(paused).phase], [[], "paused"]);
    assert.equal(step(paused, machines, 1_000), paused);
    assert.deepEqual(askedFor(step(resume(paused), machines, 2_000)), ["ep-1"]);
  });

  test("aborts it: back to the former image, or left where it is", () => {
    const machines = fleet({ "ep-1": { image: NEW } });
    const roll = step(begin(machines), machines, 0);
    assert.deepEqual(askedFor(step(abort(roll, "a test", false), machines, 1)), ["ep-1"]);
    const left = abort(roll, "a test", true);
    assert.deepEqual([left.ended?.outcome, askedFor(left)], ["left", []]);
  });
});

test("plan() replaces what a rollout wants within the budget, and other ghosts with it", () => {
  const observation = seenAs(fleet(), { ghosts: ["ep-8"], ghostImages: { "ep-8": OLD } });
  const told = plan(initialState({ ...spec, endpoints: { ...spec.endpoints, ghosts: 1 } }), observation, 0).state;
  const status = rollStatus(begin(fleet()));
  const roll = { workflowId: "roll/lab", endpoints: ["ep-1", "ep-2", "ep-3", "ep-4"], status };
  const { steps, withheld } = plan(takeRoll({ ...told, pending: [] }, NEW, roll), observation, 0);
  const drained = steps.flatMap((one) =>
    one.kind === "drain-and-replace" ? [`${one.endpoint} ${one.mode} ${one.cause}`] : [],
  );
  assert.equal(drained.length, 1, "of six, 30 % in the window");
  assert.match(withheld.map(({ because }) => because).join(), /budget: 1 of at most 1 endpoints were disrupted/);
  const ghosts = steps.find((one) => one.kind === "replenish-ghosts");
  assert.deepEqual([ghosts?.count, ghosts?.replaces], [1, ["ep-8"]]);
});

/** A world in which replacements end as drawn, endpoints sicken as drawn, and time goes on. */
test("whatever happens, a rollout ends with one image or with a person, and never wants more than it may", (context) => {
  const tick = fc.record({ wait: fc.integer({ min: 50, max: 5_000 }), succeeds: fc.boolean(), ill: fc.nat({ max: 40 }) });
  holds(
    context,
    fc.property(fc.array(tick, { minLength: 5, maxLength: 60 }), fc.integer({ min: 1, max: 9 }), (ticks, count) => {
      const machines = new Map(Object.keys(fleet({}, count)).map((name) => [name, { image: OLD, ill: false }]));
      const look = () =>
        seenAs(Object.fromEntries([...machines].map(([n, m]) => [n, { image: m.image, innerLoss: m.ill ? 0.5 : 0 }])));
      let roll = begin(Object.fromEntries(machines));
      let [now, born] = [0, count];
      const turn = (wait: number, succeeds: boolean) => {
        now += wait;
        const was = goalOf(roll);
        roll = advance(roll, spec, look(), now);
        const again = advance(roll, spec, look(), now);
        assert.equal(rollFingerprint(advance(again, spec, look(), now)), rollFingerprint(again), "it comes to rest");
        const [next] = askedFor(roll);
        assert.ok(askedFor(roll).length <= Math.max(1, Math.floor(count / 2)), "within the budget");
        for (const name of askedFor(roll))
          assert.notEqual(machines.get(name)?.image, goalOf(roll), "what matches is left alone");
        if (next === undefined) return;
        if (!succeeds) roll = replacementEnded(roll, false, "drawn");
        else {
          machines.delete(next);
          born += 1;
          machines.set(`ep-${born}`, { image: was, ill: false });
          roll = replacementEnded(roll, true, "");
        }
      };
      for (const { wait, succeeds, ill } of ticks) {
        const victim = [...machines.values()][ill];
        if (victim !== undefined) victim.ill = !victim.ill;
        turn(wait, succeeds);
      }
      for (const machine of machines.values()) machine.ill = false;
      for (let more = 0; more < 200 && roll.ended === undefined && roll.held === undefined; more += 1) turn(6_000, true);
      if (roll.held !== undefined) return;
      assert.ok(roll.ended !== undefined, JSON.stringify(rollStatus(roll)));
      assert.deepEqual([...new Set([...machines.values()].map(({ image }) => image))], [goalOf(roll)]);
    }),
    300,
  );
});

describe("the image in force", () => {
  const stated = { ...spec, endpoints: { ...spec.endpoints, image: OLD } };

  test("is the file's until another is rolled out, and then until the file says something else", () => {
    const state = initialState(stated);
    assert.equal(imageInForce(state), OLD);
    const told = { workflowId: "roll/lab", endpoints: [], status: rollStatus(begin(fleet())) };
    const rolled = takeRoll(state, NEW, told);
    assert.equal(imageInForce(applySpec(rolled, { ...stated, region: "eu" })), NEW);
    const other = { ...stated, endpoints: { ...stated.endpoints, image: "ami-0c" } };
    assert.equal(imageInForce(applySpec(rolled, other)), "ami-0c");
  });

  test("has a name of a digest's or an AMI's kind", () => {
    for (const name of [OLD, "ami-0123456789abcdef0", "v2"]) assert.equal(ImageName.parse(name), name);
    for (const name of ["", "V2", "../v2", "a b", "x".repeat(200)])
      assert.equal(ImageName.safeParse(name).success, false, name);
  });
});
