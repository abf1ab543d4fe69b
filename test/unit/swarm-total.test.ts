/** The sum over a swarm: a silent endpoint is no empty one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SILENCE, SwarmTotal } from "../../models/forecast/swarm-total.ts";

const reported = (sessions: Readonly<Record<string, number>>, counts: Readonly<Record<string, number>> = {}) =>
  new Map(Object.entries(sessions).map(([endpoint, one]) => [endpoint, { sessions: one, count: counts[endpoint] ?? 300 }]));

function totals(steps: readonly Readonly<Record<string, number>>[]): number[] {
  const total = new SwarmTotal();
  return steps.map((one) => total.take(reported(one)));
}

test("while an endpoint is silent the sum is not known; after an hour what the others carry is believed", () => {
  const all = { a: 100, b: 50, c: 60 };
  const silent = Array.from({ length: SILENCE.stepsMax + 2 }, () => ({ a: 101, c: 60 }));
  const found = totals([all, ...silent]);
  assert.equal(found[0], 210);
  assert.ok(found.slice(1, SILENCE.stepsMax + 1).every(Number.isNaN), found.join());
  assert.deepEqual(found.slice(SILENCE.stepsMax + 1), [161, 161]);
  assert.deepEqual(totals([all, { a: 100, c: 60 }, all]), [210, Number.NaN, 210]);
});

test("an endpoint whose sessions the others have is gone, and not silent", () => {
  assert.deepEqual(totals([{ a: 100, b: 50 }, { a: 150 }, { a: 152 }]), [150, 150, 152]);
  assert.deepEqual(
    totals([
      { a: 100, b: 50 },
      { c: 50, a: 100 },
    ]),
    [150, 150],
    "another one has taken its place",
  );
  assert.deepEqual(totals([{ a: 100, b: 0 }, { a: 90 }]), [100, 90], "it had none");
});

test("one that left in the middle of a step is counted by what of the step it was there", () => {
  const total = new SwarmTotal();
  total.take(reported({ a: 100, b: 100 }));
  assert.equal(total.take(reported({ a: 160, b: 100 }, { b: 120 })), 200);
  assert.equal(total.take(reported({ a: 200 })), 200);
});

test("machines that are replaced within a step add nothing to it: each counts by its part", () => {
  const total = new SwarmTotal();
  total.take(reported({ a: 100, b: 100 }));
  assert.equal(total.take(reported({ a: 100, b: 100, c: 100 }, { b: 75, c: 225 })), 200);
  assert.equal(total.take(reported({ a: 100, c: 100, d: 100, e: 100 }, { c: 150, d: 75, e: 75 })), 200);
});

test("one that was silent for a part of a step counts in full, and so does everybody in the first step", () => {
  const total = new SwarmTotal();
  assert.equal(total.take(reported({ a: 100, b: 50 }, { b: 150 })), 150);
  assert.equal(total.take(reported({ a: 100, b: 50 }, { b: 100 })), 150);
  assert.equal(total.take(reported({ a: 101, b: 50 })), 151);
});

test("nobody reports: not known; and whatever is reported, the sum is that of the reports or not known", () => {
  assert.deepEqual(totals([{}, { a: 1 }, {}, {}]), [Number.NaN, 1, Number.NaN, Number.NaN]);
  const step = fc.dictionary(fc.constantFrom("a", "b", "c"), fc.double({ min: 0, max: 1e6, noNaN: true }));
  const property = fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
    totals(steps).forEach((found, index) => {
      const sum = Object.values(steps[index] ?? {}).reduce((total, one) => total + one, 0);
      assert.ok(Number.isNaN(found) || found === sum);
    });
  });
  fc.assert(property);
});
