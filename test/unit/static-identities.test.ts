// The static keys of a swarm: whatever is asked of them in whatever order, one serves, and there is a way back until the end.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  alone,
  broughtUp,
  firstIdentity,
  portOfSlot,
  StaticIdentities,
  type StaticIdentity,
  servingOf,
  switchedBack,
  switchedOver,
} from "../../models/static-identities.ts";
import { holds } from "../support/property.ts";

const keyOf = (n: number) => ({
  publicKey: Buffer.alloc(32, n).toString("base64"),
  secret: { path: "swarms/lab/wireguard", version: n },
});
const first = [firstIdentity(keyOf(1))];

type Step = "bring up" | "switch over" | "switch back" | "end";

function after(identities: readonly StaticIdentity[], step: Step, n: number): readonly StaticIdentity[] {
  if (step === "switch over") return switchedOver(identities);
  if (step === "switch back") return switchedBack(identities);
  if (step === "end") return alone(identities);
  try {
    return broughtUp(identities, keyOf(n));
  } catch {
    assert.equal(identities.length, 2, "a further key is refused only while there is another beside");
    return identities;
  }
}

test("in any order of steps one identity serves, there are two at most, and each step made twice is made once", (context) => {
  const steps = fc.array(fc.constantFrom<Step>("bring up", "switch over", "switch back", "end"), { maxLength: 40 });
  holds(
    context,
    fc.property(steps, (all) => {
      let held: readonly StaticIdentity[] = first;
      for (const [n, step] of all.entries()) {
        const next = after(held, step, n + 2);
        assert.deepEqual(StaticIdentities.parse(next), next);
        assert.deepEqual(after(next, step, n + 2), next);
        // What serves changes by switching over or back alone: no step cuts clients off that nobody moved.
        if (step === "bring up" || step === "end") assert.deepEqual(servingOf(next), servingOf(held));
        held = next;
      }
    }),
    300,
  );
});

test("a rotation ends in the other slot, and the next one comes back", () => {
  let held: readonly StaticIdentity[] = first;
  for (const n of [2, 3, 4]) {
    const before = servingOf(held);
    held = alone(switchedOver(broughtUp(held, keyOf(n))));
    assert.equal(servingOf(held).publicKey, keyOf(n).publicKey);
    assert.notEqual(servingOf(held).slot, before.slot);
  }
  assert.deepEqual(
    [0, 1].map((slot) => portOfSlot(51_820, slot as 0 | 1)),
    [51_820, 51_821],
  );
});

test("undone before or after the switch, it is as it was", () => {
  const beside = broughtUp(first, keyOf(2));
  assert.deepEqual(alone(beside), first);
  assert.deepEqual(switchedBack(switchedOver(beside)), beside);
  assert.throws(() => broughtUp(beside, keyOf(3)), /another rotation has not ended/);
  assert.throws(() => broughtUp(first, keyOf(1)), /another key/);
});

test("what is not whole is not read", () => {
  const beside = broughtUp(first, keyOf(2));
  for (const broken of [[], [...beside, ...beside], beside.map((one) => ({ ...one, state: "serving" })), [beside[1]]])
    assert.ok(!StaticIdentities.safeParse(broken).success);
});
