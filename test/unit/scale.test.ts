/** Growth ahead of the load, and slow shrinking. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  initialState,
  type Plan,
  plan,
  recordDisruptionEnd,
  recordLaunchEnd,
  type SwarmState,
  takeDemand,
} from "../../models/plan.ts";
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
  const expected = [1, 1].map((count) => ["add-endpoints", count]);
  assert.deepEqual(kinds(made), expected, "5 carry 400 at 80 %: the ghost and a launch, which it does not wait for");
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
  const again = plan(recordLaunchEnd(first.state, "endpoint", 2), seen(3, 60), START + 3_000);
  assert.deepEqual(kinds(again), [["add-endpoints", 1]], "the other run goes on");
  const both = recordLaunchEnd(recordLaunchEnd(first.state, "endpoint", 2), "endpoint");
  assert.deepEqual(kinds(plan(both, { ...seen(3, 60), ghosts: [] }, START + 3_000))[0], ["add-endpoints", 2]);
});

interface Drawn {
  readonly there: number;
  /** Sessions on each. */
  readonly each: number;
  readonly waitedMs: number;
}
type Demand = Pick<DemandForecast, "sessionsP50" | "sessionsUpper" | "sessionsUpperLongest">;

/** A swarm that has had too many for nearly as long as it takes. */
const anySwarm = fc.record({
  there: fc.integer({ min: 3, max: 8 }),
  each: fc.nat({ max: 110 }),
  waitedMs: fc.nat({ max: 900_000 }),
});
const anyDemand = fc.record({
  sessionsP50: fc.double({ min: 0, max: 2_000, noNaN: true }),
  sessionsUpper: fc.double({ min: 0, max: 2_000, noNaN: true }),
  sessionsUpperLongest: fc.option(fc.double({ min: 0, max: 2_000, noNaN: true }), { nil: undefined }),
});

/** Beside what is drawn: the same cases each time, so that what a comparison has shown never depends on the draw. */
function everyCase(): readonly (readonly [Drawn, Demand])[] {
  const uppers = [0, 150, 300, 600, 2_000];
  return [3, 4, 6, 8].flatMap((there) =>
    [0, 20, 60, 79, 110].flatMap((each) =>
      [0, SCALE_IN_MS - 2_000, SCALE_IN_MS, 900_000].flatMap((waitedMs) =>
        uppers.flatMap((sessionsUpper) =>
          [undefined, ...uppers].map((longest): readonly [Drawn, Demand] => [
            { there, each, waitedMs },
            { sessionsP50: sessionsUpper * 0.9, sessionsUpper, sessionsUpperLongest: longest },
          ]),
        ),
      ),
    ),
  );
}

function decided(mode: string, { there, each, waitedMs }: Drawn, demand?: Demand) {
  const before = plan(settled(mode, 8, there), seen(there, each), START + 1_000).state;
  const now = START + 1_000 + waitedMs;
  const told = demand === undefined ? before : takeDemand(before, { ...forecast(0), ...demand, atMs: now - 1_000 });
  return plan(told, seen(there, each), now);
}

const drains = (made: Plan) => made.steps.filter(({ kind }) => kind === "drain-and-replace").length;
const added = (made: Plan) => made.steps.reduce((sum, step) => sum + (step.kind === "add-endpoints" ? step.count : 0), 0);

test("a forecast only ever adds: never fewer machines, and never a drain that would not be without it", (context) => {
  const compared = (swarm: Drawn, demand: Demand) => {
    const without = decided("act", swarm);
    const made = decided("act", swarm, demand);
    assert.ok(added(made) >= added(without));
    assert.ok(drains(made) <= drains(without));
    assert.ok(swarm.there + added(made) <= 8);
    return { isSooner: added(made) > added(without), isKept: drains(made) < drains(without) };
  };
  const property = fc.property(anySwarm, anyDemand, (swarm, demand) => {
    compared(swarm, demand);
  });
  holds(context, property, 500);
  const shown = everyCase().map(([swarm, demand]) => compared(swarm, demand));
  assert.ok(shown.filter(({ isSooner }) => isSooner).length > 100);
  assert.ok(shown.filter(({ isKept }) => isKept).length > 100);
});

test("a forecast that may only advise changes nothing that is done", (context) => {
  const withheldBy = (swarm: Drawn, demand: Demand) => {
    const made = decided("advise", swarm, demand);
    const without = decided("off", swarm);
    const doing = ({ steps }: Plan) => steps.map((step) => ({ ...step, reason: "" }));
    assert.deepEqual(doing(made), doing(without));
    return made.withheld.length;
  };
  const property = fc.property(anySwarm, anyDemand, (swarm, demand) => {
    withheldBy(swarm, demand);
  });
  holds(context, property, 500);
  assert.ok(everyCase().filter(([swarm, demand]) => withheldBy(swarm, demand) > 0).length > 100);
});

test("more demand, or more of it foreseen, never asks for fewer", (context) => {
  const sessions = fc.double({ min: 0, max: 5_000, noNaN: true });
  const property = fc.property(sessions, sessions, sessions, sessions, (one, other, upper, higher) => {
    const spec = specWith("act", 40);
    const [few, many] = [Math.min(one, other), Math.max(one, other)];
    const [low, high] = [Math.min(upper, higher), Math.max(upper, higher)];
    const least = scaleFor(spec, few, forecast(low), START);
    const most = scaleFor(spec, many, forecast(high), START);
    assert.ok(most.floor >= least.floor && most.wanted >= least.wanted && most.kept >= least.kept);
    assert.ok(least.kept >= least.wanted && least.wanted >= least.floor);
    assert.ok(least.wanted * 80 >= few || least.wanted === 40, "what is wanted carries what is there");
  });
  holds(context, property, 500);
});

test("each endpoint that is too many waits for its own time, whatever went before", () => {
  let state = settled("act", 8, 6);
  const gone = new Map<string, number>();
  for (let ms = 0; ms < 10 * SCALE_IN_MS; ms += 10_000) {
    const there = swarmOf(6).filter(({ endpoint }) => !gone.has(endpoint));
    const made = plan(state, observationOf(there), START + ms);
    state = made.state;
    for (const step of made.steps) {
      if (step.kind !== "drain-and-replace") continue;
      gone.set(step.endpoint, ms);
      state = recordDisruptionEnd(state, step.endpoint, "drained", START + ms + 5_000);
    }
  }
  assert.equal(gone.size, 3, "never below the count");
  let before = 0;
  for (const ms of gone.values()) {
    assert.ok(ms - before >= SCALE_IN_MS, [...gone.values()].join());
    before = ms;
  }
});
