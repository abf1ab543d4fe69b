import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { GROUP_WEIGHT_MAX, isOpen, RECORD_WEIGHT_MAX, recordWeight, targetGroups } from "../../models/front-door.ts";
import type { Member } from "../../models/steering.ts";
import { holds } from "../support/property.ts";
import { linkTo } from "../workflows/world/hypervisor.ts";

const member = (number: number, weight: number, draining = false): Member => {
  const endpoint = `ep-${number}`;
  return { endpoint, weight, draining, link: linkTo(endpoint) };
};
const anyMembers = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 100 }), fc.boolean()), { maxLength: 40 })
  .map((all) => all.map(([weight, draining], index) => member(index + 1, weight, draining)));

describe("target groups", () => {
  test("each member that is open is in exactly one, the others in none, and weights are in range", (t) => {
    holds(
      t,
      fc.property(anyMembers, fc.integer({ min: 1, max: 5 }), (members, groups) => {
        const planned = targetGroups(members, groups);
        assert.equal(planned.length, groups);
        const placed = planned.flatMap((group) => group.members.map(({ endpoint }) => endpoint));
        assert.deepEqual(
          placed.toSorted(),
          members
            .filter(isOpen)
            .map(({ endpoint }) => endpoint)
            .toSorted(),
        );
        for (const group of planned) {
          assert.equal(group.members.length === 0, group.weight === 0);
          assert.ok(group.weight <= GROUP_WEIGHT_MAX && Number.isInteger(group.weight));
        }
      }),
      300,
    );
  });

  test("with as many groups as weights, each member's share is as its weight", (t) => {
    const weights = fc.uniqueArray(fc.integer({ min: 10, max: 100 }), { minLength: 1, maxLength: 5 });
    holds(
      t,
      fc.property(weights, fc.integer({ min: 1, max: 3 }), (distinct, each) => {
        const members = distinct.flatMap((weight, index) =>
          Array.from({ length: each }, (_, k) => member(index * 3 + k + 1, weight)),
        );
        const planned = targetGroups(members, 5);
        const all = members.reduce((sum, { weight }) => sum + weight, 0);
        const given = planned.reduce((sum, { weight }) => sum + weight, 0);
        for (const group of planned)
          for (const { weight } of group.members) {
            const share = group.weight / group.members.length / given;
            assert.ok(Math.abs(share - weight / all) <= 2 / given, `${share} for ${weight} of ${all}`);
          }
      }),
      300,
    );
  });

  test("with fewer, those whose weights differ least share one", () => {
    const planned = targetGroups([member(1, 100), member(2, 95), member(3, 20), member(4, 100)], 2);
    assert.deepEqual(
      planned.map(({ members, weight }) => [members.map(({ endpoint }) => endpoint), weight]),
      [
        [["ep-1", "ep-4", "ep-2"], 295],
        [["ep-3"], 20],
      ],
    );
  });
});

test("a record's weight follows what the swarm carries: none for nobody, something for anybody, all for all", () => {
  const weightOf = (...members: Member[]) => recordWeight({ members }, 300);
  assert.equal(weightOf(member(1, 100), member(2, 100), member(3, 100)), RECORD_WEIGHT_MAX);
  assert.equal(weightOf(member(1, 100), member(2, 100, true), member(3, 100, true)), 85);
  assert.equal(weightOf(member(1, 100, true), member(2, 0)), 0);
  assert.equal(recordWeight({ members: [member(1, 1)] }, 51_200), 1);
});
