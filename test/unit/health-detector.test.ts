/** The anomaly detector: finite for any input, blind to units, no look-ahead, and it does find what is plainly there. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ALARMS, AlarmGate, SeriesDetector } from "../../models/health/detector.ts";
import { SlidingOrder } from "../../models/health/sliding-order.ts";
import { SurpriseScale } from "../../models/health/surprise.ts";
import { holds } from "../support/property.ts";

const STEP_MS = 300_000;

/** A day's rhythm with noise; `seed` decides the noise alone. */
function daily(length: number, seed: number): number[] {
  let state = seed >>> 0;
  const noise = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
  return Array.from({ length }, (_, index) => 50 + 20 * Math.sin((index / 288) * 2 * Math.PI) + 4 * (noise() + noise()));
}

function scores(values: readonly number[], detector = new SeriesDetector()): number[] {
  return values.map((value, index) => detector.observe(value, index * STEP_MS));
}

test("any input gives a score between 0 and 8", (context) => {
  const value = fc.oneof(fc.double(), fc.double({ min: -5, max: 5 }), fc.constantFrom(0, 1, -0, 1e308, 5e-324, Number.NaN));
  holds(
    context,
    fc.property(fc.array(value, { minLength: 200, maxLength: 400 }), (values) => {
      for (const score of scores(values)) assert.ok(score >= 0 && score <= 8, `${score}`);
    }),
    60,
  );
});

test("unit and zero point do not matter", (context) => {
  const scale = fc.double({ min: 1e-6, max: 1e6, noNaN: true });
  const offset = fc.integer({ min: -1000, max: 1000 });
  holds(
    context,
    fc.property(fc.integer(), scale, offset, (seed, factor, shift) => {
      const values = daily(900, seed);
      values[700] = 140;
      const expected = scores(values);
      scores(values.map((value) => (value + shift) * factor)).forEach((score, index) => {
        assert.ok(Math.abs(score - (expected[index] ?? 0)) < 1e-3, `row ${index}: ${score}, was ${expected[index]}`);
      });
    }),
    20,
  );
});

test("the scores of a beginning are the beginning of the scores", (context) => {
  holds(
    context,
    fc.property(fc.integer(), fc.integer({ min: 1, max: 799 }), (seed, length) => {
      const values = daily(800, seed);
      assert.deepEqual(scores(values.slice(0, length)), scores(values).slice(0, length));
    }),
    20,
  );
});

test("a restored detector goes on as if nothing had happened", () => {
  const values = daily(1500, 7);
  const whole = scores(values);
  const first = new SeriesDetector();
  scores(values.slice(0, 1000), first);
  const second = new SeriesDetector();
  second.restore(JSON.parse(JSON.stringify(first.snapshot())));
  const rest = values.slice(1000).map((value, index) => second.observe(value, (1000 + index) * STEP_MS));
  rest.forEach((score, index) => assert.ok(Math.abs(score - (whole[1000 + index] ?? 0)) < 0.01, `row ${1000 + index}`));
});

test("a spike, a step and a missing day are found within a few rows, a constant never alarms", () => {
  const found = (values: number[], from: number, within: number) => {
    const gate = new AlarmGate();
    const rows = scores(values).flatMap((score, row) => (row >= 864 && gate.observe(score) ? [row] : []));
    assert.ok(
      rows.some((row) => row >= from && row < from + within),
      `alarms at ${rows.join()} for ${from}`,
    );
  };
  found(
    daily(4000, 1).map((value, row) => (row >= 3000 && row < 3006 ? value * 4 : value)),
    3000,
    6,
  );
  found(
    daily(4000, 2).map((value, row) => (row >= 3000 ? value + 60 : value)),
    3000,
    24,
  );
  found(
    daily(4000, 3).map((value, row) => (row >= 2880 && row < 3168 ? 30 : value)),
    2880,
    288,
  );
  assert.ok(scores(Array.from({ length: 2000 }, () => 0.1)).every((score) => score === 0));
});

test("one alarm in a rest", () => {
  const gate = new AlarmGate();
  const alarms = Array.from({ length: 3 * (ALARMS.restLength + 1) }, () => gate.observe(5)).filter(Boolean);
  assert.equal(alarms.length, 3);
});

test("surprise is the rank among the past and grows beyond it", (context) => {
  const scale = new SurpriseScale(1000);
  for (let residual = 1; residual <= 999; residual++) scale.observe(residual);
  assert.ok(Math.abs(scale.surprise(500) - Math.log10(1000 / 501)) < 1e-12);
  holds(
    context,
    fc.property(fc.double({ min: 0, max: 1e6, noNaN: true }), fc.double({ min: 0, max: 1e6, noNaN: true }), (one, other) => {
      const [less, more] = one < other ? [one, other] : [other, one];
      assert.ok(scale.surprise(less) <= scale.surprise(more) + 0.05, `${less} ${more}`);
    }),
    100,
  );
});

test("a sliding order is what sorting its newest values gives", (context) => {
  holds(
    context,
    fc.property(fc.array(fc.integer({ min: -20, max: 20 }), { minLength: 1, maxLength: 200 }), (values) => {
      const order = new SlidingOrder(16);
      for (const value of values) order.push(value);
      const kept = values.slice(-16);
      assert.deepEqual(order.arrivals(), kept);
      const sorted = kept.toSorted((one, other) => one - other);
      sorted.forEach((value, rank) => assert.equal(order.at(rank), value));
      assert.equal(order.countBelow(0), kept.filter((value) => value < 0).length);
    }),
    100,
  );
});
