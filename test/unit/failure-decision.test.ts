/** When a probability of failure is acted on: cheaper than waiting, confirmed, and not again at once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  actionThreshold,
  DEFAULT_POLICY,
  type DecisionState,
  decide,
  INITIAL_DECISION,
} from "../../models/failure/decision.ts";
import { holds } from "../support/property.ts";

const POLICY = { ...DEFAULT_POLICY, dwell: 3, coolDown: 4 };
const sure = (probability: number) => ({ probability, low: probability });

function run(values: readonly number[], policy = POLICY, carriesSignal = true): boolean[] {
  let state: DecisionState = INITIAL_DECISION;
  return values.map((value, now) => {
    state = decide(state, sure(value), policy, now, carriesSignal);
    return state.isActing;
  });
}

test("the threshold is the cost of acting over what acting saves", () => {
  assert.equal(actionThreshold({ ...POLICY, actionCost: 1, failureCost: 10, efficacy: 0.5 }), 0.2);
  assert.equal(actionThreshold({ ...POLICY, efficacy: 0 }), Number.POSITIVE_INFINITY);
  assert.equal(actionThreshold({ ...POLICY, failureCost: Number.NaN }), Number.POSITIVE_INFINITY);
});

test("two of three looks, then it stays for its dwell and leaves below half of the entry", () => {
  assert.deepEqual(run([0.5, 0, 0.5, 0, 0, 0, 0]), [false, false, true, true, true, false, false]);
  assert.deepEqual(run([0.5, 0, 0, 0.5, 0, 0]), [false, false, false, false, false, false]);
  assert.deepEqual(run([0.5, 0.5, 0.07, 0.07, 0.07, 0.07]), [false, true, true, true, true, true]);
});

test("after leaving it waits for the cool-down", () => {
  const acts = run([0.5, 0.5, 0, 0, 0, 0.5, 0.5, 0.5, 0.5, 0.5]);
  assert.deepEqual(acts, [false, true, true, true, false, false, false, false, true, true]);
});

test("without signal nothing is begun, whatever the probability", () => {
  assert.ok(run([1, 1, 1, 1, 1], POLICY, false).every((isActing) => !isActing));
});

test("a wide interval is not acted on", () => {
  let state = INITIAL_DECISION;
  for (let now = 0; now < 5; now++) state = decide(state, { probability: 0.6, low: 0.05 }, POLICY, now);
  assert.equal(state.isActing, false);
});

test("a higher probability never means acting later, and costs have no unit", (context) => {
  const values = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 30 });
  const property = fc.property(
    values,
    fc.double({ min: 0, max: 0.5, noNaN: true }),
    fc.integer({ min: -20, max: 20 }),
    (lower, more, power) => {
      const first = (acts: boolean[]) => (acts.includes(true) ? acts.indexOf(true) : Number.POSITIVE_INFINITY);
      const higher = lower.map((value) => Math.min(1, value + more));
      assert.ok(first(run(higher)) <= first(run(lower)));
      const inOtherMoney = {
        ...POLICY,
        actionCost: POLICY.actionCost * 2 ** power,
        failureCost: POLICY.failureCost * 2 ** power,
      };
      assert.deepEqual(run(lower, inOtherMoney), run(lower));
    },
  );
  holds(context, property, 300);
});

test("nothing but a proper probability above the threshold begins anything", (context) => {
  const odd = fc.oneof(fc.double(), fc.constant(Number.NaN), fc.constant(Number.NEGATIVE_INFINITY));
  const property = fc.property(fc.array(odd, { maxLength: 20 }), (values) => {
    const acts = run(values.map((value) => (value > actionThreshold(POLICY) ? Number.NaN : value)));
    assert.ok(acts.every((isActing) => !isActing));
  });
  holds(context, property, 200);
});
