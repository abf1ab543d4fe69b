import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { changeAsText } from "../../cli/plan.ts";
import { changedFields, changePlan, type Present } from "../../models/change-plan.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { holds } from "../support/property.ts";
import { specOf } from "./fixtures.ts";

const COSTS = { costPerHour: 0.2, costPerLaunch: 0.05, costPerGhostHour: 0.01 };

function presentOf(endpoints: Record<string, unknown> = {}, sessions = 0): Present {
  const spec = specOf({ endpoints: { ...COSTS, ...endpoints } });
  const names = Array.from({ length: spec.endpoints.count }, (_, number) => `ep-${number + 1}`);
  return { spec, endpoints: names, ghosts: spec.endpoints.ghosts, sessions };
}

describe("what a changed swarm file would do", () => {
  test("a swarm that is not there: endpoints and ghosts are launched, and that costs", () => {
    const { steps, isNew, launches, costs, withheld } = changePlan(
      undefined,
      specOf({ endpoints: { ...COSTS, count: 3, ghosts: 2 } }),
    );
    assert.deepEqual([isNew, launches, withheld], [true, 5, []]);
    assert.deepEqual(steps.map(({ kind }) => kind).toSorted(), ["add-endpoints", "apply", "replenish-ghosts"]);
    assert.deepEqual([steps.at(-1)?.endpoints, steps.at(-1)?.ghosts], [3, 2]);
    assert.ok(Math.abs((costs.perHourAfter ?? 0) - 0.62) < 1e-9 && Math.abs((costs.once ?? 0) - 0.25) < 1e-9);
    assert.equal(costs.perHourBefore, undefined);
  });

  test("the same file does nothing", () => {
    const present = presentOf();
    const { steps, fields, launches } = changePlan(present, present.spec);
    assert.deepEqual([steps.length, fields, launches], [1, [], 0]);
    assert.match(steps[0]?.text ?? "", /the file in force says the same/);
  });

  test("another image: ghosts are replaced at once, endpoints as each is replaced; back to none, nothing is", () => {
    const [v1, v2] = [`sha256:${"1".repeat(64)}`, `sha256:${"2".repeat(64)}`];
    for (const before of [{}, { image: v1 }]) {
      const { steps, launches } = changePlan(presentOf({ ghosts: 2, ...before }), presentOf({ ghosts: 2, image: v2 }).spec);
      assert.match(
        steps[0]?.text ?? "",
        /boot from sha256:222222222222: ghosts are replaced, endpoints as each is; `swarm roll`/,
      );
      assert.deepEqual(
        steps.slice(1).map(({ kind, endpoints, ghosts }) => [kind, endpoints, ghosts]),
        [["replenish-ghosts", 3, 2]],
      );
      assert.match(steps[1]?.text ?? "", /Launch 2 ghosts, and end ghost-1, ghost-2 then/);
      assert.equal(launches, 2);
    }
    const { steps } = changePlan(presentOf({ image: v1 }), presentOf().spec);
    assert.match(steps[0]?.text ?? "", /boot from the hypervisor's own/);
    assert.equal(steps.length, 1);
  });

  test("more of both are launched; nobody who serves is touched", () => {
    const { steps, fields, costs } = changePlan(presentOf(), presentOf({ count: 5, ghosts: 3 }).spec);
    assert.deepEqual(
      fields.map(({ field, before, after }) => [field, before, after]),
      [
        ["endpoints.count", "3", "5"],
        ["endpoints.ghosts", "1", "3"],
      ],
    );
    assert.ok(steps.every(({ kind }) => kind !== "drain-and-replace" && kind !== "set-weight"));
    assert.deepEqual([steps.at(-1)?.endpoints, steps.at(-1)?.ghosts], [5, 3]);
    assert.ok((costs.perHourAfter ?? 0) > (costs.perHourBefore ?? 0));
  });

  test("fewer, of a swarm that scales by itself: drained one after the other, no sooner than it would be", () => {
    const scaleInAfterMs = 600_000;
    const before = presentOf({ count: 4, countMax: 6, scaleInAfterMs });
    const { steps, launches } = changePlan(before, presentOf({ count: 2, countMax: 6, scaleInAfterMs }).spec);
    const drains = steps.filter(({ kind }) => kind === "drain-and-replace");
    assert.deepEqual(
      drains.map(({ endpoints }) => endpoints),
      [3, 2],
    );
    for (const [number, { afterMs }] of drains.entries()) assert.ok(afterMs >= (number + 1) * scaleInAfterMs, String(afterMs));
    assert.equal(launches, 0);
  });

  test("not so many fewer that the sessions find no room", () => {
    const before = presentOf({ count: 4, countMax: 6, capacitySessions: 100 }, 290);
    const { steps } = changePlan(before, presentOf({ count: 1, countMax: 6, capacitySessions: 100 }).spec);
    assert.ok((steps.at(-1)?.endpoints ?? 0) >= 3);
  });

  test("another weight is set on each endpoint", () => {
    const { steps } = changePlan(presentOf(), presentOf({ weight: 60 }).spec);
    assert.deepEqual(steps.filter(({ kind }) => kind === "set-weight").length, 3);
  });

  test("another address cannot be had while clients are connected", () => {
    const after = { ...presentOf().spec, vip: { v4: "198.19.0.2", port: 51_820 } };
    assert.throws(
      () => changePlan(presentOf(), after),
      (error: ForeshiftError) => error.code === "INVALID_FIELD" && error.field === "vip.v4",
    );
  });

  test("whatever is changed of its size, it comes to an end, and ends within what the file asks for", (t) => {
    const size = fc.record({ count: fc.integer({ min: 1, max: 12 }), ghosts: fc.integer({ min: 0, max: 4 }) });
    holds(
      t,
      fc.property(size, size, fc.boolean(), fc.integer({ min: 0, max: 500 }), (before, after, scales, sessions) => {
        const more = scales ? { countMax: 12 } : {};
        const { steps, launches } = changePlan(
          presentOf({ ...before, ...more }, sessions),
          presentOf({ ...after, ...more }).spec,
        );
        const last = steps.at(-1);
        assert.ok((last?.endpoints ?? 0) >= after.count && (last?.ghosts ?? 0) >= after.ghosts);
        assert.ok((last?.endpoints ?? 0) <= Math.max(before.count, after.count, scales ? 12 : 0));
        assert.ok(
          launches <= Math.max(0, (last?.endpoints ?? 0) - before.count + 12) + Math.max(0, after.ghosts - before.ghosts),
        );
      }),
      60,
    );
  });
});

test("it is told in a table, with what it costs where that is asked for", () => {
  const plan = changePlan(presentOf(), presentOf({ count: 4 }).spec);
  const text = changeAsText(plan, true);
  assert.match(text, /endpoints\.count +3 +4/);
  assert.match(text, /at once +4 +1 +0\.81 +Launch 1 endpoint and bring it into service/);
  assert.match(text, /Cost: 0\.61 an hour now, 0\.81 an hour then; once 0\.05 for 1 launch\./);
  assert.doesNotMatch(changeAsText(plan, false), /COST|0\.81/);
  const silent = changePlan(undefined, specOf());
  assert.match(changeAsText(silent, true), /State endpoints\.costPerHour/);
});

test("fields that differ are named by their path", () => {
  const [one, other] = [specOf(), specOf({ foresight: { mode: "act" } })];
  assert.deepEqual(changedFields(one, { ...other, region: "eu-west-1" }), [
    { field: "foresight.mode", before: '"advise"', after: '"act"' },
    { field: "region", before: "unset", after: '"eu-west-1"' },
  ]);
});
