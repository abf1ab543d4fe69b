/** The table that new sessions are spread by: exact shares, as few moves as there can be, and the same table for everyone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  type BucketTable,
  bucketCounts,
  hashTable,
  leastConnectionShares,
  type Share,
  tableSize,
  turnTable,
  withinCapacity,
} from "../../models/hash-table.ts";
import { holds } from "../support/property.ts";

const anyShares = (maxLength: number): fc.Arbitrary<Share[]> =>
  fc.uniqueArray(fc.record({ slot: fc.integer({ min: 1, max: 600 }), weight: fc.integer({ min: 0, max: 100 }) }), {
    selector: (share) => share.slot,
    minLength: 1,
    maxLength,
  });

function held(table: BucketTable): Map<number, number> {
  const counts = new Map<number, number>();
  for (const slot of table) counts.set(slot, (counts.get(slot) ?? 0) + 1);
  return counts;
}

const movedBetween = (before: BucketTable, after: BucketTable) =>
  after.filter((slot, bucket) => slot !== before[bucket]).length;
const equal = (count: number): Share[] => Array.from({ length: count }, (_, index) => ({ slot: index + 1, weight: 100 }));

test("each member has its exact share, to one bucket", (context) => {
  const property = fc.property(anyShares(40), (shares) => {
    const table = hashTable([], shares);
    const total = shares.reduce((sum, share) => sum + share.weight, 0);
    if (total === 0) return assert.deepEqual(table, [], "nobody takes sessions");
    const counts = held(table);
    assert.equal(counts.get(0), undefined, "no bucket is left empty");
    for (const { slot, weight } of shares) {
      const exact = (weight / total) * table.length;
      assert.ok(Math.abs((counts.get(slot) ?? 0) - exact) < 1, `slot ${slot} has ${counts.get(slot)} of ${exact}`);
    }
  });
  holds(context, property, 200);
});

test("members of equal weight differ by less than 1 % of a share, for any number of them", () => {
  for (const count of [1, 2, 3, 5, 7, 31, 32, 33, 63, 65, 127, 200, 257, 511, 512]) {
    const table = hashTable([], equal(count));
    assert.equal(table.length, tableSize(count, 0));
    const counts = [...held(table).values()];
    assert.equal(counts.length, count);
    const share = table.length / count;
    const off = Math.max(...counts.map((one) => Math.abs(one - share))) / share;
    assert.ok(off < 0.01, `${count} members: ${off}`);
  }
});

test("the order in which members are named does not matter", (context) => {
  const property = fc.property(anyShares(20), (shares) =>
    assert.deepEqual(hashTable([], shares.toReversed()), hashTable([], shares)),
  );
  holds(context, property, 100);
});

test("any change moves as few buckets as can be", (context) => {
  const property = fc.property(anyShares(25), anyShares(25), (first, second) => {
    const before = hashTable([], first);
    const after = hashTable(before, second);
    if (before.length === 0 || after.length === 0) return;
    const grown = Array.from(after, (_, bucket) => before[bucket % before.length] ?? 0);
    const had = held(grown);
    const wanted = bucketCounts(second, after.length);
    const fewest = [...wanted].reduce((sum, [slot, count]) => sum + Math.max(0, count - (had.get(slot) ?? 0)), 0);
    assert.equal(movedBetween(grown, after), fewest);
    assert.deepEqual(held(after), new Map([...wanted].filter(([, count]) => count > 0)));
  });
  holds(context, property, 150);
});

test("one of N equal members that goes remaps only its own buckets, and takes no more than its share when it returns", (context) => {
  const property = fc.property(fc.integer({ min: 2, max: 60 }), fc.nat(59), (count, which) => {
    const shares = equal(count);
    const gone = (which % count) + 1;
    const before = hashTable([], shares);
    const without = hashTable(
      before,
      shares.filter((share) => share.slot !== gone),
    );
    before.forEach((slot, bucket) => {
      if (slot !== gone) assert.equal(without[bucket], slot, `bucket ${bucket} moved from ${slot}`);
      else assert.notEqual(without[bucket], gone);
    });
    const back = hashTable(without, shares);
    assert.ok(movedBetween(without, back) <= Math.ceil(before.length / count), "it takes its share and no more");
  });
  holds(context, property, 60);
});

test("a table that grows keeps where each hash leads, but for what the added members take", () => {
  const before = hashTable([], equal(32));
  const after = hashTable(before, equal(33));
  assert.equal(after.length, before.length * 2);
  const moved = after.filter((slot, bucket) => slot !== before[bucket % before.length]).length;
  assert.ok(moved <= Math.ceil(after.length / 33), `${moved} moved`);
});

test("turns: each gets its share, and never two in a row where weights are equal", (context) => {
  const property = fc.property(anyShares(20), (shares) => {
    const table = turnTable(shares);
    const counts = bucketCounts(shares, table.length);
    for (const [slot, count] of counts) assert.equal(held(table).get(slot) ?? 0, count);
  });
  holds(context, property, 100);
  const table = turnTable(equal(3));
  const repeats = table.filter((slot, turn) => turn > 0 && slot === table[turn - 1]).length;
  assert.ok(repeats <= 1, `${repeats} turns in a row`);
});

test("least connections: who holds more of its capacity gets less of what comes", (context) => {
  const anyLoads = fc.uniqueArray(
    fc.record({ slot: fc.integer({ min: 1, max: 50 }), weight: fc.constant(100), sessions: fc.nat(5_000) }),
    { selector: (load) => load.slot, minLength: 2, maxLength: 12 },
  );
  const property = fc.property(anyLoads, (loads) => {
    const shares = leastConnectionShares(loads);
    const byLoad = loads
      .map((load, index) => ({ ...load, share: shares[index]?.weight ?? 0 }))
      .toSorted((a, b) => a.sessions - b.sessions);
    byLoad.forEach((load, index) => {
      const lighter = byLoad[index - 1];
      assert.ok(load.share >= 0 && (lighter === undefined || load.share <= lighter.share));
    });
    assert.ok(
      byLoad.some((load) => load.share > 0),
      "somebody takes what comes",
    );
  });
  holds(context, property, 200);
});

test("whoever holds what it carries takes nothing new while anybody has room, and then the rest is spread as ever", (context) => {
  const seen = { full: 0, roomy: 0 };
  const fill = fc.record({
    weight: fc.integer({ min: 0, max: 100 }),
    sessions: fc.nat({ max: 20 }),
    capacity: fc.oneof(fc.nat({ max: 20 }), fc.constant(Number.POSITIVE_INFINITY)),
  });
  const anyFills = fc
    .array(fill, { minLength: 1, maxLength: 12 })
    .map((fills) => fills.map((one, index) => ({ slot: index + 1, ...one })));
  const property = fc.property(anyFills, (fills) => {
    const loads = withinCapacity(fills);
    const roomy = fills.filter(({ weight, sessions, capacity }) => weight > 0 && sessions < capacity).map(({ slot }) => slot);
    seen[roomy.length === 0 ? "full" : "roomy"] += 1;
    for (const [at, { slot, weight }] of fills.entries())
      assert.equal(loads[at]?.weight, roomy.length === 0 || roomy.includes(slot) ? weight : 0);
    for (const table of [hashTable([], loads), turnTable(leastConnectionShares(loads))])
      if (roomy.length > 0) assert.ok(table.length > 0 && table.every((slot) => roomy.includes(slot)));
  });
  holds(context, property, 300);
  assert.ok(seen.full > 0 && seen.roomy > 0, JSON.stringify(seen));
});

test("the emptiest takes what comes, however many full ones there are beside it", () => {
  const fills = [4, 4, 4, 3, 1].map((sessions, at) => ({ slot: at + 1, weight: 100, sessions, capacity: 4 }));
  const shares = leastConnectionShares(withinCapacity(fills));
  assert.deepEqual(
    shares.map(({ weight }) => weight),
    [0, 0, 0, 0, 2],
  );
});
