/** Growth ahead of the load, and slow shrinking. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { initialState, type Plan, plan, recordLaunchEnd, type SwarmState, takeDemand } from "../../models/plan.ts";
import { type DemandForecast, scaleFor } from "../../models/scale.ts";
import { holds } from "../support/property.ts";
import { observationOf, specOf, swarmOf } from "./fixtures.ts";

const START = 1_000_000;
const SCALE_IN_MS = 600_000;

function specWith(mode: string, countMax: number | undefined) {
  const endpoints = {
    count: 3,
    capacitySessions: 100,
    scaleInAfterMs: SCALE_IN_MS,
    ...(countMax === undefined ? {} : { countMax }),
  };
  return specOf({ endpoints, foresight: { mode, overloadThreshold: 0.8 } });
}

const forecast = (sessionsUpper: number, atMs = START): DemandForecast => {
  return { atMs, horizonMs: 1_800_000, sessionsP50: sessionsUpper * 0.9, sessionsUpper, text: "as yesterday" };
};

/** A swarm of so many endpoints that has been seen healthy once, with so many sessions on each. */
function seen(count: number, sessions: number) {
  return observationOf(
    swarmOf(count, Object.fromEntries(Array.from({ length: count }, (_, at) => [`ep-${at + 1}`, { sessions }]))),
  );
}

function settled(mode: string, countMax: number | undefined, there = 3): SwarmState {
  return plan(initialState(specWith(mode, countMax)), seen(there, 10), START).state;
}

const kinds = (made: Plan) => made.steps.map((step) => [step.kind, "count" in step ? step.count : 0]);

test("endpoints are added before the sessions come that a forecast expects", () => {
  const made = plan(takeDemand(settled("act", 8), forecast(390)), seen(3, 60), START + 1_000);
  assert.deepEqual(kinds(made), [["add-endpoints", 2]], "5 carry 400 at 80 %");
  const [step] = made.steps;
  assert.match(
    step?.reason ?? "",
    /3 of 5 endpoints are there: 180 sessions.*up to 390 are expected within 30 min \(as yesterday\)/,
  );
});

test("without a forecast the sessions that are there decide, and never more than countMax", () => {
  assert.deepEqual(kinds(plan(settled("act", 8), seen(3, 95), START + 1_000)), [["add-endpoints", 1]]);
  assert.deepEqual(kinds(plan(takeDemand(settled("act", 4), forecast(5_000)), seen(3, 60), START + 1_000)), [
    ["add-endpoints", 1],
  ]);
  assert.deepEqual(kinds(plan(takeDemand(settled("act", undefined), forecast(5_000)), seen(3, 99), START + 1_000)), []);
});

test("where predictions may only advise, the forecast is shown and the floor is held", () => {
  const made = plan(takeDemand(settled("advise", 8), forecast(390)), seen(3, 60), START + 1_000);
  assert.deepEqual(kinds(made), []);
  assert.match(made.withheld[0]?.because ?? "", /advice only/);
});

test("an old forecast counts for nothing", () => {
  const late = START + 1_000_000;
  assert.deepEqual(kinds(plan(takeDemand(settled("act", 8), forecast(390)), seen(3, 60), late)), []);
});

test("what is too many goes one by one, after long, and not while more are expected", () => {
  let state = settled("act", 8, 5);
  const at = (ms: number) => {
    const made = plan(state, seen(5, 10), START + ms);
    state = made.state;
    return made;
  };
  assert.deepEqual(kinds(at(1_000)), []);
  assert.deepEqual(kinds(at(SCALE_IN_MS - 1_000)), []);
  const busy = plan(takeDemand(state, forecast(395, START + SCALE_IN_MS)), seen(5, 10), START + SCALE_IN_MS + 2_000);
  assert.deepEqual(kinds(busy), [], "a rise is expected");
  const made = at(SCALE_IN_MS + 2_000);
  const [step] = made.steps;
  assert.ok(step?.kind === "drain-and-replace" && step.mode === "drain" && step.cause === "surplus");
  assert.deepEqual(kinds(at(SCALE_IN_MS + 3_000)), [], "one at a time");
});

test("a forecast never leads to less than the present asks for, nor to anything but a number", (context) => {
  const any = fc.oneof(fc.double(), fc.double({ min: 0, max: 10_000, noNaN: true }));
  const property = fc.property(fc.nat({ max: 5_000 }), any, fc.integer({ min: 3, max: 40 }), (sessions, upper, countMax) => {
    const spec = specWith("act", countMax);
    const { floor, wanted } = scaleFor(spec, sessions, forecast(upper), START);
    assert.equal(floor, scaleFor(spec, sessions, undefined, START).wanted);
    assert.ok(wanted >= floor && floor >= 3 && wanted <= countMax && Number.isInteger(wanted));
  });
  holds(context, property, 500);
});

test("a launch that has ended and left the swarm short is asked for again", () => {
  const first = plan(takeDemand(settled("act", 8), forecast(390)), seen(3, 60), START + 1_000);
  assert.deepEqual(kinds(plan(first.state, seen(3, 60), START + 2_000)), []);
  const again = plan(recordLaunchEnd(first.state, "endpoint"), seen(3, 60), START + 3_000);
  assert.deepEqual(kinds(again), [["add-endpoints", 2]]);
});
