/** The plan of the next hours: ahead of the load, beside following it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { capacityPlan, type ExpectedHour } from "../../models/capacity-plan.ts";
import { holds } from "../support/property.ts";
import { specOf } from "./fixtures.ts";

const HOUR_MS = 3_600_000;
const endpoints = { count: 2, countMax: 6, capacitySessions: 100, costPerHour: 0.5, costPerLaunch: 2 };
const hoursOf = (sessions: readonly (readonly [number, number])[]): ExpectedHour[] =>
  sessions.map(([expected, upper], hour) => ({ atMs: hour * HOUR_MS, expected, upper }));

test("endpoints, launches and money of a morning", () => {
  const hours = hoursOf([
    [100, 150],
    [200, 300],
    [400, 450],
    [100, 150],
  ]);
  const plan = capacityPlan(specOf({ endpoints }), hours, 2);
  // 80 sessions an endpoint; given up after half an hour of too many, so not before the hour after.
  assert.deepEqual(
    plan.hours.map((hour) => [hour.endpoints, hour.endpointsReactive]),
    [
      [2, 2],
      [4, 3],
      [6, 5],
      [6, 5],
    ],
  );
  assert.deepEqual(plan.ahead, { endpointHours: 18, launches: 4, cost: 17, lateHours: 0 });
  assert.deepEqual(plan.reactive, { endpointHours: 15, launches: 3, cost: 13.5, lateHours: 2 });
  const { costPerHour: _, costPerLaunch: __, ...free } = endpoints;
  assert.equal(capacityPlan(specOf({ endpoints: free }), hours, 2).ahead.cost, undefined);
});

test("going ahead takes no fewer endpoints and is late in no more hours, within the swarm file's bounds", (context) => {
  const hour = fc.tuple(fc.double({ min: 0, max: 1_000, noNaN: true }), fc.double({ min: 0, max: 500, noNaN: true }));
  const property = fc.property(fc.array(hour, { maxLength: 48 }), fc.integer({ min: 1, max: 8 }), (found, present) => {
    const hours = hoursOf(found.map(([expected, more]) => [expected, expected + more] as const));
    const { ahead, reactive, hours: planned } = capacityPlan(specOf({ endpoints }), hours, present);
    for (const { endpoints: wanted, endpointsReactive } of planned) {
      assert.ok(wanted >= endpointsReactive && endpointsReactive >= 2 && wanted <= Math.max(6, present));
    }
    assert.ok(ahead.endpointHours >= reactive.endpointHours && ahead.lateHours === 0);
    assert.equal(ahead.cost, ahead.endpointHours * 0.5 + ahead.launches * 2);
  });
  holds(context, property, 300);
});
