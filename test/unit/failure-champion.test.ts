/** Which model is in use, and when a challenger takes its place. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type ModelChange, standingModels, weighChallenger } from "../../models/failure/champion.ts";
import { holds } from "../support/property.ts";

const GOOD = { ap: 0.8, brier: 0.02, calibrationError: 0.01, carriesSignal: true };

test("a rollback undoes the promotion before it, whatever came earlier", (context) => {
  const step = fc.oneof(fc.constantFrom("a", "b", "c"), fc.constant("back"));
  const property = fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
    const history: ModelChange[] = [];
    for (const one of steps) {
      const standing = standingModels(history);
      const top = standing.at(-1);
      if (one !== "back") history.push({ kind: "promote", model: one });
      else if (top !== undefined) {
        history.push({ kind: "rollback", model: top });
        assert.deepEqual(standingModels(history), standing.slice(0, -1));
      }
    }
  });
  holds(context, property, 200);
});

test("a challenger is promoted only if it is better and calibrated", () => {
  assert.equal(weighChallenger(undefined, GOOD).promote, true);
  assert.equal(weighChallenger(GOOD, { ...GOOD, ap: 0.85 }).promote, true);
  assert.equal(weighChallenger(GOOD, GOOD).promote, false);
  assert.equal(weighChallenger(GOOD, { ...GOOD, ap: 0.9, brier: 0.03 }).promote, false);
  assert.equal(weighChallenger(GOOD, { ...GOOD, ap: 0.9, calibrationError: 0.2 }).promote, false);
  assert.equal(weighChallenger(undefined, { ...GOOD, carriesSignal: false }).promote, false);
  assert.equal(weighChallenger(GOOD, { ...GOOD, ap: Number.NaN }).promote, false);
});
