// Who is in the control slice, and what a prediction may do there.
import assert from "node:assert/strict";
import { test } from "node:test";
import { isInControlSlice } from "../../models/control-slice.ts";

const NAMES = Array.from({ length: 10_000 }, (_, number) => `ep-${number}`);
const slice = (swarm: string, share: number) => NAMES.filter((name) => isInControlSlice(swarm, name, share));

test("the slice holds its share of the endpoints, by their names alone", () => {
  for (const share of [0.02, 0.1, 0.5]) {
    for (const swarm of ["lab", "eu", "a-longer-name"]) {
      const found = slice(swarm, share).length / NAMES.length;
      assert.ok(
        Math.abs(found - share) < 4 * Math.sqrt((share * (1 - share)) / NAMES.length),
        `${swarm}: ${found} of ${share}`,
      );
    }
  }
  assert.deepEqual(slice("lab", 0.1), slice("lab", 0.1));
  assert.deepEqual(slice("lab", 0), []);
});

test("a larger share holds everybody of a smaller one, and swarms have slices of their own", () => {
  const large = new Set(slice("lab", 0.2));
  assert.ok(slice("lab", 0.05).every((name) => large.has(name)));
  const both = slice("eu", 0.2).filter((name) => large.has(name)).length / NAMES.length;
  assert.ok(both > 0.02 && both < 0.06, `${both} of the endpoints are in both`);
});
