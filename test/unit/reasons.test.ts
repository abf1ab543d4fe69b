/** A reason is told once for each run, whatever is done for it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Reasons } from "../../lab/narrator.ts";
import { counted } from "../../models/words.ts";

test("a run's reason is told with its first step and left out after it", () => {
  const reasons = new Reasons();
  const why = "ep-2 is degraded: round trip 23.9 ms (degraded from 2.5 times the median). Weight 100 becomes 30.";
  assert.equal(reasons.onceEach(`ep-4 is awake. ${why}`, "drain/lab/ep-2"), `ep-4 is awake. ${why}`);
  assert.equal(reasons.onceEach(`ep-4 has 12.5 % more. ${why}`, "drain/lab/ep-2"), "ep-4 has 12.5 % more.");
  assert.equal(reasons.onceEach(`ep-5 is awake. ${why}`, "drain/lab/ep-3"), `ep-5 is awake. ${why}`);
  assert.equal(reasons.onceEach("ep-4 is awake. Another reason.", "drain/lab/ep-2"), "ep-4 is awake. Another reason.");
  assert.equal(reasons.onceEach("No reason is given", "drain/lab/ep-2"), "No reason is given");
});

test("numbers are said as a person would", () => {
  assert.deepEqual(
    [counted(1, "ghost"), counted(3, "ghost"), counted(0, "address"), counted(1, "address")],
    ["1 ghost", "3 ghosts", "0 addresses", "1 address"],
  );
});
