/** The live window against a plain list of what was put into it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LIMITS } from "../../models/limits.ts";
import { LiveWindow } from "../../workers/collector/live-window.ts";
import { holds } from "../support/property.ts";

const { windowMs, stepMs, seriesPerEndpointMax } = LIMITS.telemetry;
const T0 = 1_700_000_000_000;
const SLOTS = windowMs / stepMs;

test("holds the last value of each second of the window, whatever the order and the gaps", (context) => {
  const put = fc.record({
    aheadS: fc.oneof(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 2_000 })),
    backS: fc.nat(12),
  });
  holds(
    context,
    fc.property(fc.array(put, { maxLength: 120 }), (puts) => {
      const window = new LiveWindow();
      const expected = new Map<number, number>();
      let newestS = T0 / 1_000;
      let clockS = newestS;
      for (const [value, { aheadS, backS }] of puts.entries()) {
        clockS += aheadS;
        const atS = clockS - backS;
        newestS = value === 0 ? atS : Math.max(newestS, atS);
        window.put("lab", "ep-1", atS * 1_000 + 7, [["sessions", value]]);
        expected.set(atS, value);
      }
      const nowMs = clockS * 1_000 + 999;
      const { fromMs, untilMs, endpoints } = window.read("lab", { sinceMs: 0 }, nowMs);
      assert.equal(untilMs - fromMs, windowMs);
      const values = endpoints["ep-1"]?.["sessions"]?.values;
      if (puts.length === 0) return assert.equal(values, undefined);
      const wanted = Array.from({ length: SLOTS }, (_, n) => fromMs / 1_000 + n).map((atS) =>
        atS > newestS - SLOTS ? (expected.get(atS) ?? null) : null,
      );
      return assert.deepEqual(values, wanted);
    }),
    200,
  );
});

test("is read from a moment on, by endpoint and metric; one of the future is empty", () => {
  const window = new LiveWindow();
  for (const [endpoint, offset] of [
    ["ep-1", 0],
    ["ep-2", 100],
  ] as const)
    for (let s = 0; s < 5; s += 1)
      window.put("lab", endpoint, T0 + s * 1_000, [
        ["pathRttMs:balancer", offset + s],
        ["pathRttMs:ep-9", s],
        ["sessions", 1],
      ]);
  const nowMs = T0 + 4_500;
  const one = window.read("lab", { sinceMs: T0 + 2_000, endpoint: "ep-2", metrics: ["pathRttMs:balancer", "nothing"] }, nowMs);
  assert.deepEqual(Object.keys(one.endpoints), ["ep-2"]);
  assert.deepEqual([one.fromMs - T0, one.untilMs - T0], [2_000, 5_000]);
  assert.deepEqual(one.endpoints["ep-2"]?.["pathRttMs:balancer"]?.values, [102, 103, 104]);
  assert.deepEqual(
    Object.keys(window.read("lab", { sinceMs: T0, metrics: ["pathRttMs"] }, nowMs).endpoints["ep-1"] ?? {}).length,
    2,
  );
  assert.deepEqual(window.read("lab", { sinceMs: nowMs + 60_000 }, nowMs).endpoints["ep-1"]?.["sessions"]?.values, []);
  assert.deepEqual(window.read("other", { sinceMs: 0 }, nowMs).endpoints, {});
});

test("what a rollup is made of are the values of its time, and of no other", () => {
  const window = new LiveWindow();
  for (let s = 0; s < 200; s += 2) window.put("lab", "ep-1", T0 + s * 1_000, [["sessions", s]]);
  const [one] = [...window.between(T0 + 60_000, T0 + 120_000)];
  assert.deepEqual(one?.series, [["sessions", Array.from({ length: 30 }, (_, n) => 60 + 2 * n)]]);
});

test("series beyond the limit are refused and counted; old ones are forgotten and make room", () => {
  const window = new LiveWindow();
  const many = Array.from({ length: seriesPerEndpointMax + 5 }, (_, n) => [`m${n}`, 1] as const);
  window.put("lab", "ep-1", T0, many);
  assert.deepEqual([window.size, window.refused], [seriesPerEndpointMax, 5]);
  window.put("lab", "ep-1", T0 + windowMs, [["m0", 2]]);
  window.forgetOld(T0 + windowMs + 2 * stepMs);
  assert.equal(window.size, 1);
  window.forgetOld(T0 + 3 * windowMs);
  assert.deepEqual([window.size, Object.keys(window.read("lab", { sinceMs: 0 }, T0).endpoints)], [0, []]);
});
