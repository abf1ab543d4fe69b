/** What the decision keeps to, whatever happens: budget, capacity, stop switch, cool-down, and that it is a function. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Observation } from "../../models/observation.ts";
import { initialState, type Plan, plan, type SwarmState } from "../../models/plan.ts";
import type { SwarmSpec } from "../../models/swarm-spec.ts";
import { holds } from "../support/property.ts";
import { observationOf, specOf, swarmOf } from "./fixtures.ts";
import { type Condition, type Tick, World } from "./swarm-world.ts";

const RUNS = 300;

const anySpec: fc.Arbitrary<SwarmSpec> = fc
  .record({
    endpoints: fc.record({ count: fc.integer({ min: 1, max: 25 }), ghosts: fc.integer({ min: 0, max: 3 }) }),
    budget: fc.record({
      disruptedShareMaxPercent: fc.integer({ min: 0, max: 60 }),
      windowShareMaxPercent: fc.integer({ min: 0, max: 100 }),
      windowMs: fc.integer({ min: 1_000, max: 120_000 }),
      freezeUnhealthyPercent: fc.integer({ min: 10, max: 100 }),
    }),
    thresholds: fc.record({
      holdMs: fc.integer({ min: 0, max: 3_000 }),
      replaceAfterMs: fc.integer({ min: 0, max: 10_000 }),
      recoverAfterMs: fc.integer({ min: 0, max: 10_000 }),
      coolDownMs: fc.integer({ min: 0, max: 30_000 }),
    }),
  })
  .map(specOf);

const anyCondition: fc.Arbitrary<Condition> = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Condition>({ kind: "well" }) },
  fc.constantFrom<Condition>({ kind: "slow" }, { kind: "ejected" }, { kind: "gone" }, { kind: "silent-agent" }),
  fc.record({ kind: fc.constantFrom("lossy" as const, "busy" as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }),
);

const anyTick: fc.Arbitrary<Tick> = fc.record({
  afterMs: fc.integer({ min: 0, max: 5_000 }),
  change: fc.array(fc.record({ index: fc.nat(40), condition: anyCondition }), { maxLength: 3 }),
  sessions: fc.oneof(fc.integer({ min: 0, max: 2_000 }), fc.integer({ min: 0, max: 15_000 })),
  reflexAnswers: fc.oneof({ weight: 9, arbitrary: fc.constant(true) }, fc.constant(false)),
  switch: fc.oneof(
    { weight: 9, arbitrary: fc.constant("leave" as const) },
    fc.constantFrom("stop" as const, "resume" as const),
  ),
  request: fc.option(fc.record({ kind: fc.constantFrom("drain" as const, "replace" as const), index: fc.nat(40) }), {
    nil: undefined,
    freq: 5,
  }),
  ends: fc.array(fc.constantFrom("replaced", "replaced", "drained", "recovered", "failed"), { maxLength: 2 }),
  launchesEnd: fc.boolean(),
  weightsTake: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, fc.constant(false)),
});

const anyScript = fc.tuple(anySpec, fc.array(anyTick, { minLength: 1, maxLength: 80, size: "max" }));

interface Moment {
  readonly world: World;
  readonly before: SwarmState;
  readonly observation: Observation;
  readonly made: Plan;
}

/** Plays a script, and judges each decision of it. */
function judged([spec, ticks]: readonly [SwarmSpec, readonly Tick[]], judge: (moment: Moment) => void): void {
  const world = new World(spec);
  for (const tick of ticks) {
    world.happen(tick);
    const before = world.state;
    const observation = world.observe();
    judge({ world, before, observation, made: world.decide(observation) });
  }
}

const isDrain = (step: Plan["steps"][number]) => step.kind === "drain-and-replace";
const liveCount = (state: SwarmState) => state.endpoints.filter(({ proven, phase }) => proven && phase !== "retired").length;

const weightOf = (observation: Observation, name: string) =>
  observation.endpoints.find((one) => one.endpoint === name)?.weight ?? 0;

test("chosen disruptions keep within the budget, at once and in every window", (context) => {
  let drains = 0;
  const property = fc.property(anyScript, (script) => {
    judged(script, ({ world, made }) => {
      if (!made.steps.some(isDrain)) return;
      drains += 1;
      const { budget, endpoints } = world.state.spec;
      const size = Math.min(endpoints.count, liveCount(made.state));
      const most = (share: number) => Math.max(1, Math.floor((size * share) / 100));
      assert.ok(world.underWay().length <= most(budget.disruptedShareMaxPercent), "at once");
      const inWindow = world.suffered.filter((one) => (one.endedAtMs ?? world.now) > world.now - budget.windowMs);
      assert.ok(inWindow.length <= most(budget.windowShareMaxPercent), "in the window that ends now");
    });
  });
  holds(context, property, RUNS);
  assert.ok(drains > RUNS / 4, `only ${drains} drains were chosen: this has shown nothing`);
});

test("stopped, silent or frozen, nothing is done that must not be", (context) => {
  const seen = { stopped: 0, silent: 0, frozen: 0 };
  const property = fc.property(anyScript, (script) => {
    judged(script, ({ before, observation, made }) => {
      const kinds = made.steps.map((step) => step.kind);
      if (before.stopped) {
        seen.stopped += 1;
        assert.ok(
          kinds.every((kind) => kind === "page"),
          `stopped: ${kinds.join()}`,
        );
      }
      if (!observation.reflexAnswers) {
        seen.silent += 1;
        assert.ok(
          kinds.every((kind) => kind === "page" || kind === "replenish-ghosts"),
          `silent: ${kinds.join()}`,
        );
      }
      if (made.state.frozenSinceMs !== undefined) {
        seen.frozen += 1;
        assert.ok(!kinds.includes("drain-and-replace") && !kinds.includes("set-weight"), `frozen: ${kinds.join()}`);
      }
    });
  });
  holds(context, property, RUNS);
  assert.ok(seen.stopped > 0 && seen.silent > 0 && seen.frozen > 0, JSON.stringify(seen));
});

test("what is left can carry the sessions there are", (context) => {
  let lowered = 0;
  const property = fc.property(anyScript, (script) => {
    judged(script, ({ world, before, observation, made }) => {
      const weights = new Map(before.endpoints.map((record) => [record.endpoint, record.weight]));
      const isLowering = made.steps.some(
        (step) => step.kind === "set-weight" && step.weight < (weights.get(step.endpoint) ?? 0),
      );
      if (!isLowering && !made.steps.some(isDrain)) return;
      lowered += 1;
      const { spec } = world.state;
      const each = spec.endpoints.capacitySessions / 100;
      const serving = made.state.endpoints.filter(({ endpoint, phase }) => {
        const seen = observation.endpoints.find((one) => one.endpoint === endpoint);
        return (phase === "active" || phase === "degraded") && seen?.machine === "running" && !seen.ejected;
      });
      const claimed = world.underWay().filter((one) => one.startedAtMs < world.now || one.kind === "lost").length;
      const replaced = made.steps.filter((step) => step.kind === "drain-and-replace" && step.mode === "replace").length;
      const gained = Math.min(replaced, Math.max(0, observation.ghosts.length - claimed)) * spec.endpoints.weight;
      const capacity =
        (serving.reduce((sum, record) => sum + Math.min(record.weight, weightOf(observation, record.endpoint)), 0) + gained) *
        each;
      const retired = new Set(made.state.endpoints.filter((one) => one.phase === "retired").map((one) => one.endpoint));
      const sessions = observation.endpoints.reduce((sum, one) => sum + (retired.has(one.endpoint) ? 0 : one.sessions), 0);
      assert.ok(capacity >= sessions, `${capacity} left for ${sessions} sessions`);
    });
  });
  holds(context, property, RUNS);
  assert.ok(lowered > RUNS / 4, `only ${lowered} decisions took capacity away: this has shown nothing`);
});

test("a lost endpoint is finished at once, whatever budget, freeze, capacity and cool-down say", (context) => {
  let lost = 0;
  const property = fc.property(anyScript, (script) => {
    judged(script, ({ before, observation, made }) => {
      for (const { step, because } of made.withheld) {
        if (step.kind === "finish-lost") assert.match(because, /^(automation was stopped|the reflex does not answer)/);
      }
      if (before.stopped || !observation.reflexAnswers) return;
      for (const one of observation.endpoints) {
        const record = before.endpoints.find(({ endpoint }) => endpoint === one.endpoint);
        const isNews = record?.lastMoveAtMs === undefined && record?.phase !== "retired";
        if (!(one.ejected || one.machine === "gone") || !isNews) continue;
        lost += 1;
        assert.ok(
          made.steps.some((step) => step.kind === "finish-lost" && step.endpoint === one.endpoint),
          `${one.endpoint} is not finished`,
        );
      }
    });
  });
  holds(context, property, RUNS);
  assert.ok(lost > RUNS, `only ${lost} endpoints were lost: this has shown nothing`);
});

test("one step for an endpoint at a time, and none for one that a run handles", (context) => {
  const property = fc.property(anyScript, (script) => {
    const running = new Set<string>();
    judged(script, ({ world, made }) => {
      const named = made.steps.flatMap((step) => ("endpoint" in step ? [step.endpoint] : []));
      assert.equal(new Set(named).size, named.length, `two steps for one of ${named.join()}`);
      for (const endpoint of named) {
        const runs = world.underWay().filter((one) => one.endpoint === endpoint);
        const isNew = runs.every((one) => one.startedAtMs === world.now);
        assert.ok(runs.length <= 1 && isNew, `${endpoint} was being handled`);
      }
      running.clear();
      for (const step of made.steps) assert.ok(step.reason.length > 10 && /[.]$/.test(step.reason), step.reason);
    });
  });
  holds(context, property, RUNS);
});

test("automation acts on an endpoint no more often than the cool-down allows", (context) => {
  const property = fc.property(anyScript, (script) => {
    const { coolDownMs } = script[0].thresholds;
    const world = new World(script[0]);
    for (const tick of script[1]) {
      world.happen(tick);
      world.decide(world.observe());
    }
    const apart = (times: readonly number[]) =>
      times.every((at, index) => index === 0 || at - (times[index - 1] ?? 0) >= coolDownMs);
    for (const name of new Set(world.weightsSet.map((one) => one.endpoint))) {
      const times = world.weightsSet.filter((one) => one.endpoint === name).map((one) => one.atMs);
      assert.ok(apart(times), `weights of ${name} at ${times.join()}`);
    }
    for (const name of new Set(world.suffered.map((one) => one.endpoint))) {
      const drains = world.suffered.filter((one) => one.endpoint === name && one.kind === "chosen" && one.by === "automation");
      assert.ok(apart(drains.map((one) => one.startedAtMs)), `drains of ${name}`);
    }
  });
  holds(context, property, RUNS);
});

test("signals that alternate change weights no more often than the cool-down, whatever their period", (context) => {
  const anyPeriod = fc.tuple(
    fc.integer({ min: 100, max: 90_000 }),
    fc.integer({ min: 100, max: 90_000 }),
    fc.double({ min: 0, max: 0.29, noNaN: true }),
  );
  const property = fc.property(anyPeriod, ([badMs, goodMs, loss]) => {
    const spec = specOf({ endpoints: { count: 6 }, thresholds: { replaceAfterMs: 3_600_000, coolDownMs: 60_000 } });
    let state = initialState(spec);
    const totalMs = 1_200_000;
    const held: Record<string, number> = { "ep-1": 100 };
    let changes = 0;
    for (let now = 0; now < totalMs; now += 1_000) {
      const isBad = now % (badMs + goodMs) < badMs;
      const one = { innerLoss: isBad ? loss : 0, weight: held["ep-1"] };
      const made = plan(state, observationOf(swarmOf(6, { "ep-1": one })), now);
      state = made.state;
      for (const step of made.steps) {
        if (step.kind !== "set-weight") continue;
        changes += 1;
        held[step.endpoint] = step.weight;
      }
    }
    assert.ok(changes <= 1 + totalMs / 60_000, `${changes} changes`);
    assert.ok(badMs >= 2_000 || goodMs < 1_000 || changes === 0, `${changes} changes by signals shorter than the hold`);
  });
  holds(context, property, 100);
});

test("heartbeats that stop, and nothing else, move nobody", (context) => {
  const anySilence = fc.array(
    fc.tuple(fc.integer({ min: 1, max: 10 }), fc.option(fc.integer({ min: 0, max: 600_000 }), { nil: undefined })),
    {
      minLength: 1,
      maxLength: 10,
    },
  );
  const property = fc.property(fc.array(anySilence, { minLength: 1, maxLength: 20 }), (rounds) => {
    let state = initialState(specOf({ endpoints: { count: 10 } }));
    rounds.forEach((silences, round) => {
      const silent = silences.map(
        ([number, heartbeatAgeMs]) => [`ep-${number}`, { heartbeatAgeMs, cpuShare: undefined, tunnelUp: undefined }] as const,
      );
      const made = plan(state, observationOf(swarmOf(10, Object.fromEntries(silent))), 1_000_000 + round * 15_000);
      state = made.state;
      assert.deepEqual(
        made.steps.filter((step) => step.kind !== "page"),
        [],
      );
    });
  });
  holds(context, property, RUNS);
});

test("the same input gives the same plan, also after a journey through JSON, and its own state asks for nothing more", (context) => {
  const travelled = <T>(value: T): T => JSON.parse(JSON.stringify(value));
  const property = fc.property(anyScript, (script) => {
    judged(script, ({ world, before, observation, made }) => {
      assert.deepEqual(plan(before, observation, world.now), made);
      const after = plan(travelled(before), travelled(observation), world.now);
      assert.deepEqual(travelled(after), travelled(made));
      const again = plan(made.state, observation, world.now);
      assert.deepEqual(again.steps, []);
      assert.deepEqual(again.state, made.state);
      assert.ok(made.nextAtMs === undefined || made.nextAtMs > world.now);
    });
  });
  holds(context, property, RUNS);
});

test("deciding only when something changes or `nextAtMs` has come, nothing is missed", (context) => {
  const anyStory = fc.array(fc.tuple(fc.integer({ min: 200, max: 40_000 }), fc.nat(5), anyCondition), {
    minLength: 1,
    maxLength: 6,
  });
  const property = fc.property(anyStory, (story) => {
    const spec = specOf({
      endpoints: { count: 6 },
      budget: { windowMs: 20_000 },
      thresholds: { coolDownMs: 12_000, recoverAfterMs: 5_000 },
    });
    const play = (decidesAt: (now: number, nextAtMs: number | undefined, changed: boolean) => boolean) => {
      const world = new World(spec);
      const taken: string[] = [];
      let nextAtMs: number | undefined;
      for (const [forMs, index, condition] of story) {
        const quiet: Tick = {
          afterMs: 200,
          change: [],
          sessions: 60,
          reflexAnswers: true,
          switch: "leave",
          request: undefined,
          ends: [],
          launchesEnd: false,
          weightsTake: true,
        };
        for (let passed = 0; passed < forMs; passed += 200) {
          const changed = passed === 0;
          world.happen(changed ? { ...quiet, change: [{ index, condition }] } : quiet);
          if (!decidesAt(world.now, nextAtMs, changed)) continue;
          const made = world.decide(world.observe());
          nextAtMs = made.nextAtMs;
          taken.push(...made.steps.map((step) => `${world.now} ${JSON.stringify(step)}`));
          if (made.steps.length > 0) nextAtMs = world.now;
        }
      }
      return taken;
    };
    const lazily = play((now, nextAtMs, changed) => changed || (nextAtMs !== undefined && now >= nextAtMs));
    assert.deepEqual(
      lazily,
      play(() => true),
    );
  });
  holds(context, property, 100);
});
