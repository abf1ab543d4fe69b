/** Weights of rows whose outcome one's own action may have hidden. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { retrainingWeights } from "../../models/failure/labels.ts";
import { averagePrecision, bestF1, brierScore } from "../../models/failure/metrics.ts";

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
  assert.deepEqual([...retrainingWeights(table, 4, handling, 0.25)], [1, 1, 0, 1, 4, 4, 1, 1, 1]);
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
