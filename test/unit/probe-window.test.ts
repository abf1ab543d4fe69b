// What probes say of an endpoint: which of those that were not answered in time make a silence.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ProbeWindow } from "../../workers/reflex/probe-window.ts";

const BEGAN_AT_MS = 1_000_000;

test("of a silence each probe that was sent in it counts", () => {
  const window = new ProbeWindow();
  window.sent(1, BEGAN_AT_MS);
  window.answered(1, 2, BEGAN_AT_MS + 2);
  for (const seq of [2, 3, 4]) window.sent(seq, BEGAN_AT_MS + seq * 100);
  assert.deepEqual(
    [2, 3, 4].map((seq) => window.missed(seq)),
    [true, true, true],
  );
  assert.equal(window.missesInARow, 3);
});

test("probes that were under way when a late answer came are lost, and no silence", () => {
  const window = new ProbeWindow();
  for (const seq of [1, 2, 3, 4]) window.sent(seq, BEGAN_AT_MS + seq * 100);
  window.answered(1, 310, BEGAN_AT_MS + 410);
  assert.deepEqual(
    [2, 3, 4].map((seq) => window.missed(seq)),
    [false, false, false],
  );
  assert.equal(window.missesInARow, 0);
  const { sent, answered } = window.stats(BEGAN_AT_MS + 500);
  assert.deepEqual([sent, answered], [4, 1], "the loss is told all the same");
  window.sent(5, BEGAN_AT_MS + 500);
  assert.equal(window.missed(5), true);
  assert.equal(window.missesInARow, 1);
});

test("an answer ends a silence, whichever probe it is to", () => {
  const window = new ProbeWindow();
  for (const seq of [1, 2, 3]) window.sent(seq, BEGAN_AT_MS + seq * 100);
  assert.equal(window.missed(1), true);
  assert.equal(window.missed(2), true);
  window.answered(1, 350, BEGAN_AT_MS + 450);
  assert.deepEqual([window.missesInARow, window.missed(3), window.missesInARow], [0, false, 0]);
});

test("what was asked before it first answered is lost as long as it does not answer, and then not held against it", () => {
  const window = new ProbeWindow();
  for (const seq of [1, 2, 3, 4]) window.sent(seq, BEGAN_AT_MS + seq * 100);
  for (const seq of [1, 2]) window.missed(seq);
  const counted = () => {
    const { sent, answered } = window.stats(BEGAN_AT_MS + 900);
    return { sent, answered };
  };
  assert.deepEqual(counted(), { sent: 2, answered: 0 });
  window.answered(3, 20, BEGAN_AT_MS + 320);
  window.missed(4);
  assert.deepEqual(counted(), { sent: 2, answered: 1 }, "the third and the fourth");
  for (const seq of [5, 6]) window.sent(seq, BEGAN_AT_MS + seq * 100);
  window.missed(5);
  window.answered(6, 20, BEGAN_AT_MS + 620);
  assert.deepEqual(counted(), { sent: 4, answered: 2 }, "later losses stay");
});
