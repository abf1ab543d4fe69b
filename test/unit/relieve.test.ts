/** Excess is led away and nothing else: to whoever has room, never beyond what that one carries, and never twice for one cause. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SCALING_LIMITS } from "../../models/limits-scaling.ts";
import {
  initialState,
  type Plan,
  plan,
  recordReliefEnd,
  requestDrain,
  type SwarmState,
  stop,
  takeDemand,
} from "../../models/plan.ts";
import type { RelieveStep } from "../../models/step.ts";
import { holds } from "../support/property.ts";
import { observationOf, specOf, swarmOf } from "./fixtures.ts";

const START = 1_000_000;
const CAPACITY = 10;
const RUNS = 300;
const SPEC = { endpoints: { count: 4, capacitySessions: CAPACITY }, thresholds: { coolDownMs: 20_000 } };

const holding = (sessions: readonly number[], atMs = START) =>
  observationOf(
    swarmOf(sessions.length, Object.fromEntries(sessions.map((held, at) => [`ep-${at + 1}`, { sessions: held }]))),
    {
      atMs,
    },
  );
const calm = (mode = "off"): SwarmState =>
  plan(initialState(specOf({ ...SPEC, foresight: { mode } })), holding([5, 5, 5, 5]), START).state;
const reliefs = ({ steps }: Plan): readonly RelieveStep[] => steps.filter((step) => step.kind === "relieve");
const moves = (made: Plan) =>
  reliefs(made).map(({ endpoint, to }) => [endpoint, to.map((one) => [one.endpoint, one.sessions])]);

test("only what is too many goes, to whoever has most room", () => {
  assert.deepEqual(moves(plan(calm(), holding([13, 10, 4, 6]), START + 1_000)), [["ep-1", [["ep-3", 3]]]]);
  assert.deepEqual(moves(plan(calm(), holding([14, 10, 8, 8]), START + 1_000)), [
    [
      "ep-1",
      [
        ["ep-3", 2],
        ["ep-4", 2],
      ],
    ],
  ]);
  const brim = plan(calm(), holding([13, 9, 9, 7]), START + 1_000);
  assert.deepEqual(
    moves(brim),
    [
      [
        "ep-1",
        [
          ["ep-2", 1],
          ["ep-4", 2],
        ],
      ],
    ],
    "to the brim, for it loses packets",
  );
  assert.deepEqual(moves(plan(calm(), holding([10, 10, 0, 0]), START + 1_000)), [], "nobody holds more than it carries");
  assert.deepEqual(
    moves(plan(calm(), holding([30, 10, 10, 9]), START + 1_000)),
    [["ep-1", [["ep-4", 1]]]],
    "as much as finds room",
  );
});

test("where growth is expected and predictions act, what is beyond the usable share goes before it is too many", () => {
  const demand = { atMs: START, horizonMs: 10_000, sessionsP50: 33, sessionsUpper: 36, text: "they grow" };
  const crowd = holding([10, 9, 8, 1]);
  const at = START + 1_000;
  assert.deepEqual(moves(plan(takeDemand(calm("act"), demand), crowd, at)), [
    ["ep-1", [["ep-4", 2]]],
    ["ep-2", [["ep-4", 1]]],
  ]);
  assert.deepEqual(moves(plan(takeDemand(calm("advise"), demand), crowd, at)), []);
  assert.deepEqual(moves(plan(takeDemand(calm("act"), { ...demand, sessionsUpper: 28 }), crowd, at)), [], "no growth");
});

test("neither whose sessions are led away nor who gets them is drained meanwhile", () => {
  const begun = plan(calm(), holding([13, 10, 4, 6]), START + 1_000).state;
  for (const endpoint of ["ep-1", "ep-3"]) {
    const asked = plan(requestDrain(begun, endpoint, "ada"), holding([13, 10, 4, 6]), START + 1_500);
    assert.deepEqual(asked.steps, []);
    assert.match(asked.withheld[0]?.because ?? "", /led away|led to it/);
    const over = recordReliefEnd(asked.state, "ep-1", false, START + 2_000);
    const drained = plan(over, holding([10, 10, 2, 6]), START + 2_500).steps;
    assert.ok(
      drained.some((step) => step.kind === "drain-and-replace" && step.endpoint === endpoint),
      "afterwards it is",
    );
  }
});

test("the same excess is led away once; it is looked at again when what came over is counted, or later where it did not", () => {
  const crowd = [13, 10, 4, 6];
  const begun = plan(calm(), holding(crowd), START + 1_000).state;
  assert.deepEqual(moves(plan(begun, holding(crowd), START + 9_000)), [], "its run is under way");
  for (const [failed, waitMs] of [
    [false, SCALING_LIMITS.relieveSettleMs],
    [true, 20_000],
  ] as const) {
    const ended = recordReliefEnd(begun, "ep-1", failed, START + 10_000);
    const before = plan(ended, holding(crowd), START + 10_000 + waitMs - 1);
    assert.deepEqual(moves(before), []);
    assert.ok((before.nextAtMs ?? Number.POSITIVE_INFINITY) <= START + 10_000 + waitMs, "it is looked at by itself");
    assert.equal(moves(plan(ended, holding(crowd), START + 10_000 + waitMs)).length, 1);
  }
});

test("where the excess does not come away, one that is ill goes as a whole once the others have room for all of it", () => {
  const ill = (atMs: number) => {
    const others = { "ep-2": { sessions: 10 }, "ep-3": { sessions: 0 }, "ep-4": { sessions: 0 } };
    return observationOf(swarmOf(4, { "ep-1": { sessions: 13, innerLoss: 0.5, overloaded: true }, ...others }), { atMs });
  };
  let state = recordReliefEnd(plan(calm(), ill(START + 1_000), START + 1_000).state, "ep-1", true, START + 2_000);
  const steps = Array.from({ length: 60 }, (_, at) => {
    const made = plan(state, ill(START + 2_000 + at * 200), START + 2_000 + at * 200);
    state = made.state;
    return made.steps;
  }).flat();
  assert.ok(steps.some((step) => step.kind === "drain-and-replace" && step.endpoint === "ep-1" && step.mode === "drain"));
});

test("stopped, or while the reflex is silent, nobody is led anywhere", () => {
  const crowd = holding([13, 10, 4, 6]);
  const stopped = plan(stop(calm(), "ada", "a look", START), crowd, START + 1_000);
  assert.deepEqual(stopped.steps, []);
  assert.ok(stopped.withheld.some(({ step, because }) => step.kind === "relieve" && /stopped by ada/.test(because)));
  assert.deepEqual(moves(plan(calm(), { ...crowd, reflexAnswers: false }, START + 1_000)), []);
});

const anyTick = fc.record({
  arrive: fc.array(fc.record({ at: fc.nat(7), sessions: fc.nat({ max: 12 }) }), { maxLength: 3 }),
  afterMs: fc.integer({ min: 0, max: 8_000 }),
  ends: fc.option(fc.record({ at: fc.nat(3), failed: fc.boolean() }), { nil: undefined }),
  weights: fc.option(fc.record({ at: fc.nat(7), weight: fc.constantFrom(10, 50, 100) }), { nil: undefined, freq: 4 }),
});

test("whatever comes, nobody is made to hold more than it carries, and no more leave than are too many", (context) => {
  let led = 0;
  const script = fc.tuple(fc.integer({ min: 2, max: 8 }), fc.array(anyTick, { minLength: 1, maxLength: 60, size: "max" }));
  const property = fc.property(script, ([count, ticks]) => {
    const held = Array.from({ length: count }, () => 4);
    const weights = held.map(() => 100);
    const spec = specOf({ endpoints: { count, capacitySessions: CAPACITY } });
    let [state, now] = [initialState(spec), START];
    let runs: readonly RelieveStep[] = [];
    for (const { afterMs, arrive, ends, weights: change } of ticks) {
      now += afterMs;
      for (const { at, sessions } of arrive) held[at % count] = (held[at % count] ?? 0) + sessions;
      if (change !== undefined) weights[change.at % count] = change.weight;
      const ended = ends === undefined || runs.length === 0 ? undefined : runs[ends.at % runs.length];
      if (ended !== undefined) {
        runs = runs.filter((run) => run !== ended);
        for (const { endpoint, sessions } of ends?.failed === true ? [] : ended.to) {
          held[indexOf(ended.endpoint)] = (held[indexOf(ended.endpoint)] ?? 0) - sessions;
          held[indexOf(endpoint)] = (held[indexOf(endpoint)] ?? 0) + sessions;
        }
        state = recordReliefEnd(state, ended.endpoint, ends?.failed === true, now);
      }
      const names = Object.fromEntries(held.map((sessions, at) => [`ep-${at + 1}`, { sessions, weight: weights[at] }]));
      const made = plan(state, observationOf(swarmOf(count, names)), now);
      state = made.state;
      for (const step of reliefs(made)) {
        led += 1;
        assert.ok(
          runs.every(({ endpoint }) => endpoint !== step.endpoint),
          `${step.endpoint} twice at a time`,
        );
        const leaving = step.to.reduce((sum, { sessions }) => sum + sessions, 0);
        assert.ok(leaving >= 1 && leaving <= (held[indexOf(step.endpoint)] ?? 0) - CAPACITY, step.reason);
        runs = [...runs, step];
        for (const { endpoint } of step.to) {
          const coming = runs.flatMap(({ to }) => to).filter((one) => one.endpoint === endpoint);
          const then = coming.reduce((sum, { sessions }) => sum + sessions, held[indexOf(endpoint)] ?? 0);
          assert.ok(endpoint !== step.endpoint && then <= (CAPACITY * (weights[indexOf(endpoint)] ?? 0)) / 100, step.reason);
        }
      }
      assert.ok(runs.length <= SCALING_LIMITS.relieveRunsMax);
    }
  });
  holds(context, property, RUNS);
  assert.ok(led > RUNS, `only ${led} were relieved: this has shown nothing`);
});

function indexOf(endpoint: string): number {
  return Number(endpoint.slice(3)) - 1;
}

test("who has just been relieved is not taken out for what it lost before, and is if that goes on", () => {
  const lossy = (held: number, atMs: number) =>
    observationOf(
      swarmOf(4, { "ep-1": { sessions: held, innerLoss: 0.5 }, "ep-2": { sessions: 2 }, "ep-3": { sessions: 2 } }),
      {
        atMs,
      },
    );
  const endsMs = START + 4_000;
  const isOut = ({ steps }: Plan) => steps.some((step) => step.kind === "drain-and-replace" && step.endpoint === "ep-1");
  let state = calm();
  let outAtMs = Number.POSITIVE_INFINITY;
  for (let now = START + 1_000; now < START + 60_000 && outAtMs > now; now += 200) {
    if (now === endsMs) state = recordReliefEnd(state, "ep-1", false, now);
    const made = plan(state, lossy(now < endsMs ? 13 : 10, now), now);
    state = made.state;
    if (isOut(made)) outAtMs = now;
  }
  assert.ok(outAtMs >= endsMs + SCALING_LIMITS.relieveSettleMs && outAtMs < START + 60_000, `${outAtMs - endsMs}`);
});
