/** Weights of rows whose outcome one's own action may have hidden. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { retrainingWeights } from "../../models/failure/labels.ts";
import { averagePrecision, bestF1, brierScore } from "../../models/failure/metrics.ts";
import { holds } from "../support/property.ts";

test("the window before an action is left out, its control stands for it, the rest counts once", () => {
  const table = {
    columns: ["x"],
    rows: 9,
    cells: new Float64Array(9),
    unit: Int32Array.of(0, 0, 0, 1, 1, 1, 2, 2, 2),
    units: 3,
    time: Float64Array.of(1, 5, 9, 1, 5, 9, 1, 5, 9),
    timeToFailure: new Float64Array(9).fill(Number.POSITIVE_INFINITY),
  };
  const handling = [
    { alarmAt: 9, isControl: false },
    { alarmAt: 7, isControl: true },
    { alarmAt: undefined, isControl: true },
  ];
  // Two units with an alarm, one of them a control; the stated share counts as another control, for four units.
  assert.deepEqual([...retrainingWeights(table, 4, handling, 0.25)], [1, 1, 0, 1, 3, 3, 1, 1, 1]);
});

test("the slice stands for those with an alarm, however many it happened to draw", (context) => {
  const property = fc.property(fc.nat({ max: 60 }), fc.integer({ min: 1, max: 60 }), (hidden, controls) => {
    const units = hidden + controls;
    const table = {
      columns: ["x"],
      rows: units,
      cells: new Float64Array(units),
      unit: Int32Array.from({ length: units }, (_, unit) => unit),
      units,
      time: new Float64Array(units).fill(9),
      timeToFailure: new Float64Array(units).fill(Number.POSITIVE_INFINITY),
    };
    const handling = Array.from({ length: units }, (_, unit) => ({ alarmAt: 9, isControl: unit >= hidden }));
    const sum = retrainingWeights(table, 4, handling, 0.1).reduce((all, weight) => all + weight, 0);
    // Between what they are and what the share says of them; the share counts as one control.
    const [least, most] = [Math.min(units, controls * 10), Math.max(units, controls * 10)];
    assert.ok(
      sum >= least - 1e-9 &&
        sum <= most + 1e-9 &&
        Math.abs(sum - units) <= Math.abs(controls * 10 - units) / (controls + 1) + 1e-9,
    );
    assert.ok(retrainingWeights(table, 4, handling, 1).every((weight, row) => weight === (row < hidden ? 0 : 1)));
  });
  holds(context, property, 200);
});

test("a weight counts a row that often", () => {
  const scores = Float64Array.of(0.9, 0.7, 0.4, 0.2);
  const labels = Uint8Array.of(1, 0, 1, 0);
  const weights = Float64Array.of(2, 1, 3, 0);
  const again = { scores: Float64Array.of(0.9, 0.9, 0.7, 0.4, 0.4, 0.4), labels: Uint8Array.of(1, 1, 0, 1, 1, 1) };
  const isNear = (a: number, b: number) => assert.ok(Math.abs(a - b) < 1e-12, `${a} and ${b}`);
  isNear(averagePrecision(scores, labels, weights), averagePrecision(again.scores, again.labels));
  isNear(brierScore(scores, labels, weights), brierScore(again.scores, again.labels));
  assert.deepEqual(bestF1(scores, labels, weights), bestF1(again.scores, again.labels));
});
