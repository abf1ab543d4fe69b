/**
 * The health monitor before it has a history: how soon it tells a fault, of whom, and what it tells of a quiet fleet. The full table
 * is in docs/models.md; these are the cells that have to hold.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Expectation, unwarp, warp } from "../../models/health/expectation.ts";
import { type Change, delayS, tellQuiet } from "../support/health-fleet.ts";
import { holds } from "../support/property.ts";

const SEEDS = [1, 2, 3];
const times = (series: string, factor: number): Change => ({ series, of: (value) => value * factor });
const plus = (series: string, more: number): Change => ({ series, of: (value) => Math.min(1, value + more) });
const JUMPS: readonly [name: string, change: Change, afterS: number, withinS: number][] = [
  ["round trips times 20", times("innerRttMsP75", 20), 30, 15],
  ["round trips times 20", times("innerRttMsP75", 20), 60, 15],
  ["round trips times 20", times("innerRttMsP75", 20), 300, 15],
  ["round trips times 5", times("innerRttMsP75", 5), 60, 15],
  ["round trips times 5", times("innerRttMsP75", 5), 120, 15],
  ["round trips doubled", times("innerRttMsP75", 2), 120, 45],
  ["memory doubled", { series: "memoryShare", of: (value) => Math.min(1, value * 2) }, 60, 15],
  ["5 % of probes lost", plus("innerLossShare", 0.05), 60, 15],
  ["10 % of the CPU stolen", plus("cpuStealShare", 0.1), 60, 15],
];

test("faults in the first minutes are told among two, three, five and twenty endpoints", (context) => {
  for (const [name, change, afterS, withinS] of JUMPS) {
    for (const endpoints of [2, 3, 5, 20]) {
      const delays = SEEDS.map((seed) => delayS({ endpoints, seed }, change, afterS, 60) ?? Number.POSITIVE_INFINITY);
      context.diagnostic(`${name} after ${afterS} s, ${endpoints} endpoints: told after ${delays.join(", ")} s`);
      const inTime = delays.filter((delay) => delay <= withinS).length;
      assert.ok(inTime >= 2, `${name} after ${afterS} s, ${endpoints} endpoints: ${delays.join(", ")} s`);
    }
  }
});

test("what creeps is told while it creeps", (context) => {
  const creeping = (series: string, to: number): Change => ({
    series,
    of: (value, seconds) => Math.min(1, value * (1 + ((to - 1) * seconds) / 600)),
  });
  for (const [change, afterS, withinS] of [
    [creeping("memoryShare", 3), 60, 180],
    [creeping("memoryShare", 3), 300, 120],
    [creeping("cpuShare", 3), 300, 300],
  ] as const) {
    const delays = SEEDS.map((seed) => delayS({ endpoints: 3, seed }, change, afterS, 600) ?? Number.POSITIVE_INFINITY);
    context.diagnostic(`${change.series} after ${afterS} s: told after ${delays.join(", ")} s`);
    assert.ok(delays.filter((delay) => delay <= withinS).length >= 2, `${change.series}: ${delays.join(", ")} s`);
  }
});

test("a quiet fleet: under one anomaly an endpoint-hour, none the more in the first minutes", (context) => {
  const figures = [2, 3, 5, 20].map((endpoints) => tellQuiet({ endpoints, seed: 10 + endpoints }, 1));
  const sum = (of: (one: (typeof figures)[number]) => number) => figures.reduce((total, one) => total + of(one), 0);
  const hours = sum(({ endpointHours }) => endpointHours);
  const own = sum((one) => one.own);
  const early = sum((one) => one.early);
  context.diagnostic(
    `${own} in ${hours} endpoint-hours, ${early} in the first ten minutes, ${sum((one) => one.everybody)} of everybody`,
  );
  assert.ok(own / hours < 1, `${own} in ${hours} endpoint-hours`);
  assert.ok(early / (hours / 6) < 1.5, `${early} in the first ten minutes`);
});

const PRIOR = { unit: 2, deviation: 0.25, spread: 0.5 };

test("expectations: finite for any input, the same in any unit", (context) => {
  const value = fc.double({ min: -1e12, max: 1e12, noNaN: true });
  const series = fc.array(value, { minLength: 1, maxLength: 80 });
  const scale = fc.double({ min: 1e-6, max: 1e6, noNaN: true });
  holds(
    context,
    fc.property(series, scale, fc.boolean(), (values, factor, isStanding) => {
      const made = () => new Expectation(PRIOR, isStanding ? PRIOR.spread : undefined);
      const [first, same] = [made(), made()];
      for (const each of values) {
        const surprise = first.observe(warp(each, PRIOR.unit));
        assert.ok(surprise >= 0 && surprise <= 8, `${surprise}`);
        const scaled = same.observe(warp(each * factor, PRIOR.unit * factor));
        assert.ok(Math.abs(scaled - surprise) < 1e-6, `${scaled} ${surprise}`);
      }
    }),
    300,
  );
});

test("the farther off a value is, the more surprising, while there are few", (context) => {
  const few = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 4 });
  const distance = fc.double({ min: 0, max: 1e3, noNaN: true });
  holds(
    context,
    fc.property(few, distance, distance, (values, one, other) => {
      const surpriseAt = (away: number) => {
        const expectation = new Expectation(PRIOR);
        for (const value of values) expectation.observe(warp(value, PRIOR.unit));
        return expectation.observe((expectation.next()?.mean ?? 0) + away);
      };
      assert.ok(surpriseAt(Math.min(one, other)) <= surpriseAt(Math.max(one, other)));
    }),
    300,
  );
});

test("the warped scale goes there and back", (context) => {
  holds(
    context,
    fc.property(fc.double({ min: -1e150, max: 1e150, noNaN: true }), (value) => {
      const back = unwarp(warp(value, 2), 2);
      assert.ok(Math.abs(back - value) <= 1e-9 * Math.max(1, Math.abs(value)), `${value} ${back}`);
    }),
    300,
  );
});
