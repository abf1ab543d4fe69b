// Loss told from two counts of the same packets, read at moments that are never quite the same.
import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "../../models/random.ts";
import { CarriedLoss } from "../../workers/agent/carried-loss.ts";

const PACKETS_PER_S = 200;

interface Played {
  readonly shares: readonly number[];
  /** Lost in truth, of all. */
  readonly truth: number;
}

/** A steady stream, `lossAt` of which is lost at each second. The router's word is `wrongMs` off at most, and comes late. */
function play(seconds: number, lossAt: (second: number) => number, wrongMs: number, offsetMs = 0): Played {
  const random = seededRandom(7);
  const carried = new CarriedLoss();
  const shares: number[] = [];
  let [sent, took] = [0, 0];
  let said: { packets: number; atMs: number } | undefined;
  for (let ms = 0; ms < seconds * 1_000; ms += 5) {
    sent += PACKETS_PER_S / 200;
    if (random() >= lossAt(ms / 1_000)) took += PACKETS_PER_S / 200;
    if (ms % 200 === 0) carried.took({ packets: took, atMs: ms });
    if (ms % 1_000 === 500) said = { packets: sent, atMs: ms + offsetMs + (random() * 2 - 1) * wrongMs };
    if (ms % 1_000 === 800 && said !== undefined) carried.sent(said);
    if (ms % 1_000 === 900) shares.push(carried.share() ?? Number.NaN);
  }
  return { shares, truth: 1 - took / sent };
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

test("without loss next to nothing is told lost, though no two counts are of one moment", () => {
  const { shares } = play(60, () => 0, 20);
  assert.ok(mean(shares.slice(10)) < 0.001, `${mean(shares.slice(10))}`);
  assert.ok(Math.max(...shares.slice(10)) < 0.02, `${Math.max(...shares.slice(10))}`);
});

test("half a percent is told within some seconds, and as much as it is", () => {
  const { shares } = play(60, (second) => (second < 20 ? 0 : 0.005), 10);
  const first = shares.findIndex((share, second) => second >= 20 && share > 0);
  assert.ok(first > 0 && first <= 30, `first told in second ${first}`);
  assert.ok(Math.abs(mean(shares.slice(30)) - 0.005) < 0.003, `${mean(shares.slice(30))}`);
});

test("a constant difference of the clocks makes no difference", () => {
  const [one, other] = [0, -120].map((offsetMs) => play(40, (second) => (second < 20 ? 0 : 0.05), 5, offsetMs).shares);
  assert.ok(Math.abs(mean(one?.slice(22) ?? []) - mean(other?.slice(22) ?? [])) < 0.01);
  assert.ok(Math.abs(mean(one?.slice(22) ?? []) - 0.05) < 0.015);
});

test("a device that counts from zero again is no loss, and neither is a router that does", () => {
  const carried = new CarriedLoss();
  const tell = (second: number, took: number, sent: number) => {
    carried.took({ packets: took, atMs: second * 1_000 });
    carried.sent({ packets: sent, atMs: second * 1_000 });
    return carried.share();
  };
  for (let second = 0; second < 10; second += 1) tell(second, second * 200, second * 200);
  assert.equal(tell(10, 50, 2_000), undefined);
  for (let second = 11; second < 20; second += 1) {
    const share = tell(second, 50 + (second - 10) * 200, second * 200);
    assert.ok(share === undefined || share === 0, `${share}`);
  }
  assert.equal(tell(20, 2_050, 100), undefined);
  assert.ok((tell(21, 2_250, 300) ?? 0) === 0);
});

test("of too few packets nothing is said, and a word that was heard before is passed over", () => {
  const carried = new CarriedLoss();
  for (let second = 0; second < 5; second += 1) {
    carried.took({ packets: second * 4, atMs: second * 1_000 });
    carried.sent({ packets: second * 4, atMs: second * 1_000 });
    assert.equal(carried.share(), undefined);
  }
  for (let second = 5; second < 8; second += 1) {
    carried.took({ packets: 20 + (second - 5) * 100, atMs: second * 1_000 });
    carried.sent({ packets: 20 + (second - 5) * 100, atMs: second * 1_000 });
    carried.sent({ packets: 0, atMs: second * 1_000 });
  }
  assert.equal(carried.share(), 0);
});
