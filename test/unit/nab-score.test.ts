/** The benchmark's score against figures worked out by hand from its published definition. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { windowsOfLabels } from "../../backtest/anomaly-corpus.ts";
import { nabScore, PROFILES, probationRows, rawScore, type ScoredSeries } from "../../backtest/nab-score.ts";
import { holds } from "../support/property.ts";

/** 1000 rows, of which 150 are for learning, and two windows of 50. */
const SERIES = {
  rows: 1000,
  windows: [
    { first: 400, last: 449 },
    { first: 700, last: 749 },
  ],
  alarms: [],
} as const;

function close(actual: number | undefined, expected: number): void {
  assert.ok(actual !== undefined && Math.abs(actual - expected) < 1e-9, `${actual} is not ${expected}`);
}

test("a detector that never alarms scores 0 and one that alarms at every first row 100, in every profile", () => {
  for (const profile of Object.values(PROFILES)) {
    close(nabScore([SERIES], profile), 0);
    close(nabScore([{ ...SERIES, alarms: [400, 700] }], profile), 100);
  }
});

test("the middle of a window earns its sigmoid, and later alarms in it nothing more", () => {
  // Row 425 of 400..449 lies at -(449 - 425 + 1) / 50 = -0.5: (2 / (1 + e^-2.5) - 1) / (2 / (1 + e^-5) - 1).
  const earned = 0.8482836399575129 / 0.9866142981514303;
  close(rawScore({ ...SERIES, alarms: [425] }, PROFILES.standard), earned - 1);
  close(rawScore({ ...SERIES, alarms: [425, 426, 440] }, PROFILES.standard), earned - 1);
});

test("a false alarm costs its weight before any window, and by its distance behind one", () => {
  close(rawScore({ ...SERIES, alarms: [200] }, PROFILES.standard), -2 - 0.11);
  close(rawScore({ ...SERIES, alarms: [200] }, PROFILES.lowFp), -2 - 0.22);
  close(rawScore({ ...SERIES, alarms: [200] }, PROFILES.lowFn), -4 - 0.11);
  // Row 498 is 49 rows, one width, behind row 449: 2 / (1 + e^5) - 1.
  close(rawScore({ ...SERIES, alarms: [498] }, PROFILES.standard), -2 - 0.11 * 0.9866142981514303);
  close(rawScore({ ...SERIES, alarms: [449 + 3 * 49] }, PROFILES.standard), -2 - 0.11);
});

test("rows for learning count neither way, and a window inside them is not asked for", () => {
  assert.equal(probationRows(1000), 150);
  assert.equal(probationRows(20_000), 750);
  close(nabScore([{ ...SERIES, alarms: [10, 149] }], PROFILES.standard), 0);
  const early = { rows: 1000, windows: [{ first: 20, last: 60 }], alarms: [30] };
  assert.equal(nabScore([early], PROFILES.standard), undefined);
  close(nabScore([early, { ...SERIES, alarms: [400, 700] }], PROFILES.standard), 100);
});

test("one more false alarm never helps, an earlier first alarm never hurts", (context) => {
  const row = fc.integer({ min: 150, max: 999 });
  const alarms = fc.uniqueArray(row, { maxLength: 30 });
  const sorted = (rows: readonly number[]): ScoredSeries => ({ ...SERIES, alarms: [...new Set(rows)].sort((a, b) => a - b) });
  const inside = (each: number) => SERIES.windows.some(({ first, last }) => each >= first && each <= last);
  holds(
    context,
    fc.property(alarms, row, (rows, extra) => {
      const before = rawScore(sorted(rows), PROFILES.standard);
      const after = rawScore(sorted([...rows, extra]), PROFILES.standard);
      assert.ok(inside(extra) ? after >= before : after <= before || rows.includes(extra));
    }),
    100,
  );
});

test("runs of labels become windows that begin with them and never overlap", () => {
  const labels = Array.from(
    { length: 4000 },
    (_, row) => (row >= 1000 && row < 1005) || (row >= 1050 && row < 1400) || row === 3999,
  );
  assert.deepEqual(windowsOfLabels(labels), [
    { first: 1000, last: 1399 },
    { first: 3999, last: 3999 },
  ]);
  assert.deepEqual(windowsOfLabels([false, false]), []);
});
