/** Growth in several runs at a time, whatever the load does and however the runs end: no machine too many, none promised twice. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { addRunIds, type RunUnderWay, runIdOfStep } from "../../models/decision.ts";
import { SCALING_LIMITS } from "../../models/limits-scaling.ts";
import { abilitiesUsed, FORMER_ABILITIES, initialState, plan, recordLaunchEnd, type Step } from "../../models/plan.ts";
import { ghostsFor } from "../../models/promised-ghosts.ts";
import { holds } from "../support/property.ts";
import { observationOf, specOf, swarmOf } from "./fixtures.ts";

const RUNS = 300;

type Added = Extract<Step, { kind: "add-endpoints" }>;

interface Run extends RunUnderWay {
  readonly step: Added;
}

const anyTick = fc.record({
  sessions: fc.nat({ max: 3_000 }),
  /** Which of the runs under way ends before the decision, and whether its machines came. */
  ends: fc.option(fc.record({ at: fc.nat(5), came: fc.boolean() }), { nil: undefined }),
  ghostComes: fc.boolean(),
});
const anyScript = fc.record({
  count: fc.integer({ min: 1, max: 6 }),
  more: fc.nat({ max: 12 }),
  ticks: fc.array(anyTick, { minLength: 1, maxLength: 60, size: "max" }),
});

test("what is there and what is asked for never exceed countMax, and no two runs share a ghost or an id", (context) => {
  const seen = { beside: 0, most: 0 };
  const property = fc.property(anyScript, ({ count, more, ticks }) => {
    const most = count + more;
    const spec = specOf({ endpoints: { count, countMax: most, ghosts: 2, capacitySessions: 100 } });
    let [state, there, runs] = [initialState(spec), count, [] as readonly Run[]];
    const ghosts = new Set<string>();
    for (const [at, { sessions, ends, ghostComes }] of ticks.entries()) {
      const ended = ends === undefined || runs.length === 0 ? undefined : runs[ends.at % runs.length];
      if (ended !== undefined) {
        runs = runs.filter((run) => run !== ended);
        if (ends?.came === true) there += ended.step.count;
        for (const ghost of ended.ghosts) ghosts.delete(ghost);
        state = recordLaunchEnd(state, "endpoint", ended.step.turn);
      }
      if (ghostComes) ghosts.add(`ghost-${at}`);
      const each = Math.floor(sessions / there);
      const names = Object.fromEntries(Array.from({ length: there }, (_, one) => [`ep-${one + 1}`, { sessions: each }]));
      const observation = observationOf(swarmOf(there, names), { ghosts: [...ghosts] });
      const made = plan(state, observation, 1_000_000 + at * 1_000);
      state = made.state;
      for (const step of made.steps) {
        if (step.kind !== "add-endpoints") continue;
        const workflowId = runIdOfStep("lab", step) ?? "";
        assert.ok(runs.every((run) => run.workflowId !== workflowId) && addRunIds("lab").includes(workflowId), workflowId);
        const promised = ghostsFor(step, runs, observation, undefined);
        assert.ok(promised.length <= step.count && promised.every((ghost) => ghosts.has(ghost)));
        runs = [
          ...runs,
          { workflowId, kind: "add", endpoint: undefined, ghosts: promised, machines: [], startedAtMs: at, step },
        ];
      }
      const asked = runs.reduce((sum, { step }) => sum + step.count, 0);
      assert.ok(there + asked <= most, `${there} there and ${asked} asked for, of ${most}`);
      assert.ok(runs.length <= SCALING_LIMITS.addRunsMax);
      const promised = runs.flatMap((run) => run.ghosts);
      assert.equal(new Set(promised).size, promised.length, `promised: ${promised.join()}`);
      seen.beside += runs.length > 1 ? 1 : 0;
      seen.most += there + asked === most && more > 0 ? 1 : 0;
    }
  });
  holds(context, property, RUNS);
  assert.ok(seen.beside > RUNS && seen.most > RUNS, `this has shown nothing: ${JSON.stringify(seen)}`);
});

test("what a ghost becomes does not wait for what is launched, and more is asked for while either is under way", () => {
  const spec = specOf({ endpoints: { count: 3, countMax: 8, capacitySessions: 100 } });
  const seen = (sessions: number) => observationOf(swarmOf(3, { "ep-1": { sessions: sessions - 20 } }));
  const first = plan(plan(initialState(spec), seen(30), 1_000).state, seen(390), 2_000);
  const added = ({ steps }: ReturnType<typeof plan>) =>
    steps.flatMap((step) => (step.kind === "add-endpoints" ? [[step.turn ?? 1, step.count]] : []));
  assert.deepEqual(added(first), [
    [1, 1],
    [2, 1],
  ]);
  const next = plan(first.state, seen(470), 3_000);
  assert.deepEqual(added(next), [[3, 1]], "five are on their way or there, six are needed");
  assert.deepEqual(added(plan(next.state, seen(600), 4_000)), [], "no more runs at a time");
});

test("what was decided when one run at a time added endpoints is decided again as it was", () => {
  const spec = specOf({ endpoints: { count: 3, countMax: 8, capacitySessions: 100 } });
  const crowd = observationOf(swarmOf(3, { "ep-1": { sessions: 370 } }));
  const made = plan(initialState(spec), crowd, 1_000);
  assert.ok(abilitiesUsed(made).includes("addRunsMax"));
  const former = plan(initialState(spec), crowd, 1_000, FORMER_ABILITIES);
  assert.deepEqual(abilitiesUsed(former), []);
  assert.deepEqual(
    former.steps.map((step) => [step.kind, "count" in step ? step.count : 0]),
    [["add-endpoints", 2]],
  );
  const more = observationOf(swarmOf(3, { "ep-1": { sessions: 700 } }));
  assert.deepEqual(plan(former.state, more, 2_000, FORMER_ABILITIES).steps, []);
});
