/** Rollups and running statistics against their definitions, and what wakes the watch. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { newsOf, type Told } from "../../models/telemetry-news.ts";
import { learn, type RunningStatistics, rollup } from "../../models/telemetry-rollup.ts";
import { holds } from "../support/property.ts";
import { heartbeatOf } from "../support/sessions.ts";

const value = fc.double({ min: -1e9, max: 1e9, noNaN: true });

describe("rollup", () => {
  test("of known values", () => {
    const values = Array.from({ length: 101 }, (_, n) => 100 - n);
    assert.deepEqual(rollup(values), { count: 101, mean: 50, min: 0, max: 100, p95: 95 });
    assert.equal(rollup([]), undefined);
    assert.deepEqual(rollup([7]), { count: 1, mean: 7, min: 7, max: 7, p95: 7 });
  });

  test("lies between the smallest and the largest, in whatever order values come, and does not touch them", (context) => {
    holds(
      context,
      fc.property(fc.array(value, { minLength: 1, maxLength: 300 }), (values) => {
        const before = [...values];
        const one = rollup(values);
        assert.deepEqual(values, before);
        assert.ok(one !== undefined && one.min <= one.mean && one.mean <= one.max && one.p95 <= one.max && one.p95 >= one.min);
        assert.deepEqual(rollup(values.toReversed())?.p95, one.p95);
        assert.ok(values.filter((each) => each <= one.p95).length >= 0.95 * (values.length - 1));
      }),
      500,
    );
  });
});

describe("running statistics", () => {
  test("without forgetting they are mean and variance", (context) => {
    holds(
      context,
      fc.property(fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 200 }), (values) => {
        let known: RunningStatistics | undefined;
        for (const [index, each] of values.entries()) known = learn(known, each, index, Number.POSITIVE_INFINITY);
        const mean = values.reduce((sum, each) => sum + each / values.length, 0);
        const variance = values.reduce((sum, each) => sum + (each - mean) ** 2 / values.length, 0);
        assert.ok(known !== undefined && known.count === values.length && known.last === values.at(-1));
        assert.ok(Math.abs(known.mean - mean) <= 1e-6 * Math.max(1, Math.abs(mean)));
        assert.ok(Math.abs(known.variance - variance) <= 1e-6 * Math.max(1, variance));
      }),
      300,
    );
  });

  test("after several half-lives at another level the old one is forgotten", () => {
    let known: RunningStatistics | undefined;
    for (let second = 0; second < 600; second += 1) known = learn(known, second < 300 ? 100 : 5, second * 1_000, 30_000);
    assert.ok(known !== undefined && Math.abs(known.mean - 5) < 0.2 && known.max === 100);
  });
});

describe("news", () => {
  /** The news of heartbeats that differ in these things, one after another. */
  function newsOfAll(overs: readonly Parameters<typeof heartbeatOf>[2][]): (string | undefined)[] {
    let told: Told | undefined;
    return overs.map((over, index) => {
      const one = newsOf(told, heartbeatOf("ep-1", index, over));
      told = one.told;
      return one.news;
    });
  }

  test("an endpoint that joins, restarts, loses its tunnel; the same again is no news", () => {
    const down = { tunnelUp: false };
    const again = { startedAtMs: 2_000 };
    assert.deepEqual(newsOfAll([{}, {}, down, down, {}, again, again]), [
      "joined",
      undefined,
      "tunnel-down",
      undefined,
      "tunnel-up",
      "restarted",
      undefined,
    ]);
  });

  test("CPU that crosses a threshold, and not what dithers about it", () => {
    const shares = [0.5, 0.81, 0.79, 0.81, 0.96, 0.92, 0.7, undefined, 0.1];
    assert.deepEqual(newsOfAll(shares.map((cpuShare) => ({ cpuShare }))), [
      "joined",
      "cpu-up",
      undefined,
      undefined,
      "cpu-up",
      undefined,
      "cpu-down",
      undefined,
      undefined,
    ]);
  });
});
