/** Who takes the sessions of an endpoint that leaves: everyone is taken, shadows first, nobody beyond its room. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ForeshiftError } from "../../models/errors.ts";
import { type SpreadMember, type SpreadSession, spreadSessions } from "../../models/spread.ts";
import { holds } from "../support/property.ts";

const CAPACITY = 40;

const anyScene = fc
  .record({
    members: fc.array(fc.record({ weight: fc.integer({ min: 0, max: 100 }), sessions: fc.nat(50) }), { maxLength: 8 }),
    sessions: fc.uniqueArray(fc.nat(10_000), { maxLength: 60 }),
    shadows: fc.array(fc.option(fc.nat(9), { nil: undefined }), { minLength: 60, maxLength: 60 }),
  })
  .map(({ members, sessions, shadows }) => ({
    members: members.map((member, index): SpreadMember => ({ endpoint: `ep-${index}`, ...member })),
    sessions: sessions.map((key, index): SpreadSession => {
      const shadow = shadows[index];
      return { publicKey: `key-${key}`, shadow: shadow === undefined ? undefined : `ep-${shadow}` };
    }),
  }));

const roomOf = (member: SpreadMember) => Math.max(0, Math.floor((CAPACITY * member.weight) / 100 - member.sessions));

test("every session has one taker with room and weight, never the one that leaves; or it is refused as a whole", (context) => {
  const property = fc.property(anyScene, ({ members, sessions }) => {
    const others = members.filter(({ endpoint }) => endpoint !== "ep-0");
    const room = others.reduce((total, member) => total + roomOf(member), 0);
    const spread = () => spreadSessions("ep-0", sessions, members, CAPACITY);
    if (sessions.length > room) {
      assert.throws(spread, (thrown) => thrown instanceof ForeshiftError && thrown.code === "CAPACITY_EXCEEDED");
      return;
    }
    const shares = spread();
    const taken = shares.flatMap(({ publicKeys }) => publicKeys);
    assert.deepEqual(taken.toSorted(), sessions.map(({ publicKey }) => publicKey).toSorted());
    for (const { to, publicKeys } of shares) {
      const member = others.find(({ endpoint }) => endpoint === to);
      assert.ok(member !== undefined && member.weight > 0 && publicKeys.length <= roomOf(member), to);
    }
  });
  holds(context, property, 300);
});

test("a shadow with room for all of its own gets exactly those that name it", (context) => {
  const property = fc.property(anyScene, ({ members, sessions }) => {
    const roomy = members.map((member) => ({ ...member, sessions: 0, weight: 100 }));
    const few = sessions.slice(0, CAPACITY);
    if (roomy.length < 2) return;
    const shares = spreadSessions("ep-0", few, roomy, 2 * CAPACITY);
    const takerOf = new Map(shares.flatMap(({ to, publicKeys }) => publicKeys.map((key) => [key, to] as const)));
    for (const { publicKey, shadow } of few) {
      const named = roomy.some(({ endpoint }) => endpoint === shadow && endpoint !== "ep-0");
      if (named) assert.equal(takerOf.get(publicKey), shadow);
    }
  });
  holds(context, property, 300);
});

test("the order of members and sessions does not matter", (context) => {
  const property = fc.property(anyScene, ({ members, sessions }) => {
    const few = sessions.slice(0, 10);
    const roomy = [...members, { endpoint: "ep-9", weight: 100, sessions: 0 }];
    const one = spreadSessions("ep-0", few, roomy, CAPACITY);
    assert.deepEqual(spreadSessions("ep-0", few.toReversed(), roomy.toReversed(), CAPACITY), one);
  });
  holds(context, property, 100);
});

test("without shadows the load follows the weights", () => {
  const sessions = Array.from({ length: 30 }, (_, index) => ({ publicKey: `key-${index}`, shadow: undefined }));
  const members = [
    { endpoint: "ep-1", weight: 100, sessions: 0 },
    { endpoint: "ep-2", weight: 50, sessions: 0 },
  ];
  const shares = spreadSessions("ep-9", sessions, members, 100);
  assert.deepEqual(
    shares.map(({ to, publicKeys }) => [to, publicKeys.length]),
    [
      ["ep-1", 20],
      ["ep-2", 10],
    ],
  );
});
