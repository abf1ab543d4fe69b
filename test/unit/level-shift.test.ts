/** A step of the load is no growth; growth stays growth. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type Evidence, scoreEvidence } from "../../models/evidence.ts";
import { withoutStep } from "../../models/level-shift.ts";
import type { Point } from "../../models/trend.ts";
import { holds } from "../support/property.ts";
import { specOf } from "./fixtures.ts";

const NOW = 10_000_000;
const CAPACITY = 500;

/** A noise between -1 and 1 that is the same in every run. */
function noise(at: number): number {
  return ((Math.imul(at + 1, 2654435761) >>> 0) / 2 ** 32 - 0.5) * 2;
}

function pointsOf(value: (second: number) => number, seconds: number): Point[] {
  return Array.from({ length: seconds }, (_, at) => ({ atMs: NOW - (seconds - 1 - at) * 1_000, value: value(at) }));
}

/** How sure it is, at the lower bound, that the sessions outgrow what the endpoint carries, so long after what happens at second 0. */
function overloadAfter(sessionsAt: (second: number) => number, secondsAfter: number, windowS: number): number {
  const seconds = windowS * 2;
  const sessions = pointsOf((at) => sessionsAt(at - (seconds - 1) + secondsAfter), seconds);
  const evidence: Evidence = {
    endpoint: "ep-1",
    atMs: NOW,
    sessions: sessions.at(-1)?.value ?? 0,
    series: { sessions },
    medianRttMs: undefined,
    outside: { value: 0, terms: [] },
  };
  const spec = specOf({ endpoints: { count: 3, capacitySessions: CAPACITY }, foresight: { windowMs: windowS * 1_000 } });
  return scoreEvidence(evidence, spec).overload.low;
}

describe("sessions that came over at once", () => {
  for (const windowS of [60, 600]) {
    test(`are never taken for growth towards the capacity, looking ${windowS} s ahead`, () => {
      for (const [from, to] of [
        [100, 400],
        [200, 440],
        [300, 440],
      ] as const) {
        for (const noisy of [0, 2, 8]) {
          const stepped = (second: number) => Math.round((second < 0 ? from : to) + noisy * noise(second + 1_000));
          for (let after = 2; after <= 2 * windowS; after += windowS / 15) {
            const low = overloadAfter(stepped, after, windowS);
            assert.ok(low < 0.05, `${from} to ${to}, noise ${noisy}, ${after} s after: ${low}`);
          }
        }
      }
    });
  }

  test("leave the growth that is there before and after them", () => {
    const grown = (second: number) => 330 + second + (second >= 0 ? 60 : 0) + 2 * noise(second + 1_000);
    assert.ok(overloadAfter(grown, 75, 60) > 0.5);
  });

  test("say nothing against a rush, which is no step", () => {
    const rush = (second: number) => Math.round(130 + 13 * Math.max(0, second) + 2 * noise(second + 1_000));
    assert.ok(overloadAfter(rush, 12, 60) > 0.7);
    assert.ok(overloadAfter(rush, 20, 60) > 0.8);
  });
});

describe("the list without its step", () => {
  test("is the same list where a line or a bend is all there is", (context) => {
    const property = fc.property(
      fc.integer({ min: -1_000, max: 1_000 }),
      fc.integer({ min: -1_000, max: 1_000 }),
      fc.integer({ min: 5, max: 55 }),
      (slope, turn, knee) => {
        const points = pointsOf((at) => 7 + slope * at + turn * Math.max(0, at - knee), 60);
        assert.equal(withoutStep(points), points);
      },
    );
    holds(context, property, 300);
  });

  test("takes a step away wherever it is, and nothing else", (context) => {
    const jump = fc.oneof(fc.integer({ min: 20, max: 5_000 }), fc.integer({ min: -5_000, max: -20 }));
    const slope = fc.double({ min: -0.1, max: 0.1, noNaN: true });
    const property = fc.property(jump, slope, fc.integer({ min: 5, max: 55 }), (size, rate, at) => {
      const smooth = (second: number) => 1_000 + rate * second;
      const points = pointsOf((second) => smooth(second) + (second < at ? -size : 0), 60);
      for (const [index, { value, atMs }] of withoutStep(points).entries()) {
        assert.equal(atMs, points[index]?.atMs);
        assert.ok(Math.abs(value - smooth(index)) < 1e-6 * Math.abs(size), `${index}: ${value}`);
      }
    });
    holds(context, property, 300);
  });

  test("scales with the unit, and is finite for whatever is measured", (context) => {
    const value = fc.oneof(fc.double({ min: -1e6, max: 1e6, noNaN: true }), fc.constantFrom(Number.NaN, Infinity, 0));
    const property = fc.property(fc.array(value, { maxLength: 90 }), fc.constantFrom(2, 8, 1_024), (given, factor) => {
      const points = given.map((one, at) => ({ atMs: NOW + at * 1_000, value: one }));
      const plain = withoutStep(points);
      const scaled = withoutStep(points.map((point) => ({ ...point, value: point.value * factor })));
      assert.equal(plain.length, points.length);
      for (const [at, point] of plain.entries()) {
        assert.equal(Number.isFinite(point.value), Number.isFinite(given[at]));
        if (Number.isFinite(point.value))
          assert.ok(Math.abs(point.value * factor - (scaled[at]?.value ?? 0)) <= 1e-6 * 1e6 * factor);
      }
    });
    holds(context, property, 300);
  });
});
