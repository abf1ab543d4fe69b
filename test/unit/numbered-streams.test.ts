// The counting of the lab's numbered packets against a plain model of it.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { matchesPattern, patternAt } from "../../lab/pattern.ts";
import { ReceivedStream } from "../../lab/received-stream.ts";
import { decodePacket, encodePacket, SentStream } from "../../lab/sent-stream.ts";
import { LIMITS } from "../../models/limits.ts";

test("received, duplicated and reordered agree with a set and a list, whatever arrives", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(300), { maxLength: 400 }), fc.nat(300), fc.nat(310), (arrivals, base, end) => {
      const stream = new ReceivedStream(0);
      stream.reset(base, 0);
      const seen = new Set<number>();
      const model = { duplicated: 0, reordered: 0 };
      let highest = -1;
      for (const [at, sequence] of arrivals.entries()) {
        stream.note(sequence, at, at);
        if (sequence >= base && seen.has(sequence)) model.duplicated += 1;
        else if (sequence >= base && sequence < highest) model.reordered += 1;
        seen.add(sequence);
        highest = Math.max(highest, sequence);
      }
      const upTo = Math.max(base, end);
      const { received, duplicated, reordered } = stream.report(upTo, arrivals.length);
      assert.equal(received, [...seen].filter((sequence) => sequence >= base && sequence < upTo).length);
      assert.deepEqual({ duplicated, reordered }, model);
    }),
  );
});

test("a stream longer than the window keeps its count", () => {
  const stream = new ReceivedStream(0);
  const total = LIMITS.lab.trafficWindowPackets * 2 + 100;
  for (let sequence = 0; sequence < total; sequence += 1) if (sequence % 1_000 !== 7) stream.note(sequence, 0, 0);
  const missing = Math.floor((total - 8) / 1_000) + 1;
  assert.equal(stream.report(total, 0).received, total - missing);
});

test("the longest silence and its end are those between two arrivals, and the one that lasts counts too", () => {
  const stream = new ReceivedStream(0);
  for (const [at, nowMs] of [10, 20, 95, 100].entries()) stream.note(at, nowMs, 1_000 + nowMs);
  assert.deepEqual([stream.report(4, 110).longestGapMs, stream.report(4, 110).longestGapEndedAtMs], [75, 1_095]);
  assert.deepEqual([stream.report(4, 300).longestGapMs, stream.report(4, 300).longestGapEndedAtMs], [200, undefined]);
  stream.reset(4, 300);
  assert.equal(stream.report(4, 305).longestGapMs, 5);
  assert.deepEqual(stream.report(4, 305).gaps, []);
  for (let at = 4; at < 500; at += 1) stream.note(at, 300 + 10 * at + (at > 100 ? 40 : 0), 5_000 + at);
  const { gaps } = stream.report(500, 6_000);
  assert.deepEqual([gaps.length, gaps.filter(({ ms }) => ms === 50)], [32, [{ ms: 50, endedAtMs: 5_101 }]]);
});

test("a sender keeps its rate, leaves out what a stall made old, and calls settled what was sent long enough ago", () => {
  const stream = new SentStream({ intervalMs: 10, firstMs: 0 });
  const sent: number[] = [];
  const send = (sequence: number) => sent.push(sequence);
  for (let nowMs = 0; nowMs < 3_000; nowMs += 5) stream.sendDue(nowMs, send);
  assert.equal(sent.length, 300);
  assert.deepEqual(
    sent,
    Array.from({ length: 300 }, (_, at) => at),
  );
  const settledMs = stream.settled * 10;
  assert.ok(
    settledMs <= 3_000 - LIMITS.lab.trafficSettleMs && settledMs >= 3_000 - LIMITS.lab.trafficSettleMs - 300,
    `${settledMs}`,
  );
  stream.sendDue(4_000, send);
  assert.ok(stream.next > 300 && stream.next < 310, `${stream.next}`);
});

test("packets and the download's pattern survive the wire, and a wrong byte is seen", () => {
  const packet = { session: 7, sequence: 4_000_000_000 };
  assert.deepEqual(decodePacket(encodePacket(packet)), packet);
  assert.equal(decodePacket(Buffer.from("something else")), undefined);
  fc.assert(
    fc.property(fc.nat(1_000_000), fc.integer({ min: 1, max: 5_000 }), fc.nat(4_999), (offset, length, flip) => {
      const bytes = Buffer.from(patternAt(offset, length));
      assert.ok(matchesPattern(offset, bytes));
      const at = flip % length;
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      assert.ok(!matchesPattern(offset, bytes));
    }),
  );
});
