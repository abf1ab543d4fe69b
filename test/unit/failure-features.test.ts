/** Features of the failure engine: no look-ahead, finite for anything, blind to units and to operating conditions. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FeatureExtractor } from "../../models/failure/features.ts";
import { featuresOf, planFeatures } from "../../models/failure/plan-features.ts";
import { fitRegimes, regimeOf } from "../../models/failure/regimes.ts";
import { holds } from "../support/property.ts";
import { rowsOf, WEAR_WINDOW, wearTable } from "../support/wear.ts";

const table = wearTable({ units: 20, seed: 1 });
const plan = planFeatures(table, WEAR_WINDOW);
const extractor = new FeatureExtractor(plan);

test("columns are known for what they are", () => {
  assert.deepEqual(plan.kinds, ["condition", "sensor", "sensor", "sensor", "event"]);
  assert.equal(plan.regimes.means.length, 3);
  assert.equal(plan.timeIsAge, true);
});

test("a condition that moves nothing makes no regimes", () => {
  assert.equal(fitRegimes(wearTable({ units: 20, seed: 2, regimes: 1 })).means.length, 1);
});

test("a missing condition is told by the other columns", () => {
  const width = table.columns.length;
  for (let row = 0; row < 300; row++) {
    const cells = Array.from(table.cells.subarray(row * width, (row + 1) * width));
    const known = regimeOf(plan.regimes, cells, 0);
    cells[0] = Number.NaN;
    assert.equal(regimeOf(plan.regimes, cells, 0), known, `row ${row}`);
  }
});

test("what comes later changes no feature", (context) => {
  const whole = featuresOf(table, extractor);
  const property = fc.property(fc.integer({ min: 1, max: table.rows - 1 }), (end) => {
    const some = featuresOf(
      rowsOf(table, (row) => row < end),
      extractor,
    );
    assert.deepEqual(some.values, whole.values.subarray(0, some.values.length));
  });
  holds(context, property, 20);
});

test("another unit of measurement changes no z-score", (context) => {
  const property = fc.property(
    fc.double({ min: 1e-3, max: 1e6, noNaN: true }),
    fc.integer({ min: -1000, max: 1000 }),
    (scale, shift) => {
      const width = table.columns.length;
      const cells = table.cells.map((value, at) => (at % width === 1 ? value * scale + shift * scale : value));
      const other = { ...table, cells };
      const again = new FeatureExtractor(planFeatures(other, WEAR_WINDOW));
      assert.deepEqual(again.names, extractor.names);
      const before = featuresOf(table, extractor).values;
      featuresOf(other, again).values.forEach((value, at) => {
        assert.ok(
          Math.abs(value - (before[at] ?? Number.NaN)) < 1e-3,
          `feature ${extractor.names[at % extractor.names.length]}`,
        );
      });
    },
  );
  holds(context, property, 10);
});

test("every feature is finite whatever is measured", (context) => {
  const cell = fc.oneof(fc.double(), fc.constant(Number.NaN), fc.double({ min: -1e300, max: 1e300 }));
  const row = fc.tuple(fc.double({ min: 0, max: 1e6, noNaN: true }), fc.array(cell, { minLength: 5, maxLength: 5 }));
  const property = fc.property(fc.array(row, { minLength: 1, maxLength: 30 }), (rows) => {
    const state = extractor.start();
    const out = new Float32Array(extractor.names.length);
    for (const [time, cells] of rows) {
      extractor.push(state, time, cells, 0, out, 0);
      out.forEach((value, at) => {
        assert.ok(Number.isFinite(value), `${extractor.names[at]} is ${value}`);
      });
    }
  });
  holds(context, property, 300);
});

test("the condition leaves the sensors' z-scores alone", () => {
  const matrix = featuresOf(table, extractor);
  const now = extractor.names.indexOf("heat.now");
  const sums = new Map<number, { sum: number; count: number }>();
  for (let row = 0; row < table.rows; row++) {
    const regime = regimeOf(plan.regimes, table.cells, row * table.columns.length);
    const held = sums.get(regime) ?? { sum: 0, count: 0 };
    sums.set(regime, { sum: held.sum + (matrix.values[row * matrix.columns + now] ?? 0), count: held.count + 1 });
  }
  for (const { sum, count } of sums.values()) assert.ok(Math.abs(sum / count) < 0.05);
});
