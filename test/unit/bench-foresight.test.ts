// What the benchmark of foresight stands on: a schedule that can be repeated, and losses dated to where they happened.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { dealer } from "../../bench/random.ts";
import { lostBetween } from "../../bench/span.ts";
import type { LabTraffic, PacketCounters } from "../../lab/lab-client.ts";
import { seededRandom } from "../../models/random.ts";

function counters(sent: number, lost: number): PacketCounters {
  return { sent, lost, received: sent - lost, duplicated: 0, reordered: 0, longestGapMs: 0, longestGapEndedAtMs: undefined };
}

function traffic(countedToMs: number, up: PacketCounters, down: PacketCounters): LabTraffic {
  const tcp = { broken: 0, longestStallMs: 0, bytes: 0 };
  return {
    sinceMs: 0,
    countedToMs,
    clients: [{ client: "client-1", publicKey: "one", innerAddress: "10.66.1.1", up, down, tcp }],
  };
}

test("packets lost between two looks are those of the later one less those of the earlier, in both directions", () => {
  const before = traffic(1_000, counters(100, 1), counters(100, 0));
  const seen = { atMs: 2_600, members: [] };
  const after = traffic(1_500, counters(150, 2), counters(150, 4));
  assert.deepEqual(lostBetween({ ...seen, before, after }, "one"), { lost: 5, share: 0.05 });
  assert.deepEqual(lostBetween({ ...seen, before, after: before }, "one"), { lost: 0, share: 0 });
  assert.deepEqual(lostBetween({ ...seen, before, after }, "somebody else"), { lost: 0, share: 0 });
});

test("the same seed deals the same cards, each equally often when all are dealt", () => {
  const cards = ["a", "b", "c", "d"] as const;
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 1, max: 5 }), (seed, rounds) => {
      const deal = () => {
        const next = dealer(cards, seededRandom(seed));
        return Array.from({ length: rounds * cards.length }, next);
      };
      const dealt = deal();
      assert.deepEqual(deal(), dealt);
      for (const card of cards) assert.equal(dealt.filter((one) => one === card).length, rounds);
    }),
  );
});
