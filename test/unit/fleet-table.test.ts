/** The failure engine's table on the fleet: what columns hold, and that training and scoring make the same rows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FLEET_COLUMNS, learnUsual, measuredOf, noUsual, type SeriesMinute } from "../../models/failure/fleet-columns.ts";
import {
  type FleetMinute,
  FleetRows,
  fleetTable,
  minutesOfRollups,
  minutesOfWindow,
} from "../../models/failure/fleet-table.ts";
import { rollup } from "../../models/telemetry-rollup.ts";
import { holds } from "../support/property.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const START_MS = 1_790_000_040_000;

type Values = Readonly<Record<string, number | ((second: number) => number)>>;

/** A window of whole minutes with one value a second. */
function windowOf(minutes: number, endpoints: Readonly<Record<string, Values>>, startMs = START_MS) {
  const seconds = Array.from({ length: minutes * 60 }, (_, second) => second);
  const valuesOf = (value: Values[string]) => seconds.map((second) => (typeof value === "number" ? value : value(second)));
  return {
    stepMs: 1_000,
    fromMs: startMs,
    endpoints: Object.fromEntries(
      Object.entries(endpoints).map(([endpoint, series]) => [
        endpoint,
        Object.fromEntries(Object.entries(series).map(([name, value]) => [name, { values: valuesOf(value) }])),
      ]),
    ),
  };
}

function minutesFrom(window: ReturnType<typeof windowOf>): readonly FleetMinute[] {
  const seconds = Math.max(...Object.values(window.endpoints).flatMap((one) => Object.values(one).map((s) => s.values.length)));
  return minutesOfWindow(window, window.fromMs, window.fromMs + seconds * 1_000);
}

function cellOf(cells: Float64Array | undefined, name: string): number {
  const at = FLEET_COLUMNS.findIndex((column) => column.name === name);
  assert.ok(at >= 0, `there is no column ${name}`);
  return cells?.[at] ?? Number.NaN;
}

test("labels are put together, errors are counted, and what nobody measured is missing", () => {
  const series = {
    cpuShare: 0.25,
    "pathRttMs:balancer": 2,
    "pathRttMs:ep-2": 9,
    "interfaceRxErrorsPerS:up0": 0.5,
    "interfaceTxErrorsPerS:up1": 0.1,
    agentUptimeS: (second: number) => 3_600 + second,
    deviceAnswerMsMax: (second: number) => (second === 7 ? 40 : 1),
  };
  const [row] = new FleetRows().push(minutesFrom(windowOf(1, { "ep-1": series }))[0] as FleetMinute);
  assert.ok(row !== undefined && row.isFirst);
  assert.equal(row.time, START_MS / MINUTE_MS + 1);
  assert.equal(cellOf(row.cells, "cpu"), 0.25);
  assert.equal(cellOf(row.cells, "balancerTrip"), 2);
  assert.equal(cellOf(row.cells, "worstTrip"), 9);
  assert.equal(cellOf(row.cells, "interfaceErrors"), 36);
  assert.equal(cellOf(row.cells, "deviceAnswer"), 40);
  assert.equal(cellOf(row.cells, "sinceRestart"), (3_600 + 59) / 60);
  assert.ok(Number.isNaN(cellOf(row.cells, "memory")));
  assert.ok(Number.isNaN(cellOf(row.cells, "cpuVsPeers")), "nobody to compare with");
  assert.ok(Number.isNaN(cellOf(row.cells, "cpuVsHour")), "no past to compare with");
});

test("an endpoint is compared with its peers in the same minute and with its own hour", () => {
  const rows = new FleetRows();
  const swarm = { "ep-1": { cpuShare: 0.3 }, "ep-2": { cpuShare: 0.3 }, "ep-3": { cpuShare: 0.4 } };
  for (const minute of minutesFrom(windowOf(10, swarm))) rows.push(minute);
  const later = windowOf(1, { ...swarm, "ep-1": { cpuShare: 0.9 } }, START_MS + 10 * MINUTE_MS);
  const found = rows.push(minutesFrom(later)[0] as FleetMinute).find(({ endpoint }) => endpoint === "ep-1");
  assert.ok(Math.abs(cellOf(found?.cells, "cpuVsPeers") - 0.55) < 1e-9);
  assert.ok(Math.abs(cellOf(found?.cells, "cpuVsHour") - 0.6) < 1e-9);
});

/** A minute, or an hour, in which an endpoint's CPU was so. */
function cpuOf(value: number): SeriesMinute {
  return new Map([["cpuShare", { count: 60, mean: value, min: value, max: value, p95: value }]]);
}

const at = (atMs: number, value: number): FleetMinute => ({ atMs, endpoints: new Map([["ep-1", cpuOf(value)]]) });

test("its own hour, day and week forget at their own pace", () => {
  const rows = new FleetRows();
  for (let hour = 0; hour < 3 * 168; hour++) rows.learn(at(START_MS + hour * HOUR_MS, 0.2), HOUR_MS);
  for (let minute = 0; minute < 1_440; minute++) rows.push(at(START_MS + (3 * 10_080 + minute) * MINUTE_MS, 0.6));
  const [row] = rows.push(at(START_MS + (3 * 10_080 + 1_440) * MINUTE_MS, 0.6));
  const [hour, day, week] = ["Hour", "Day", "Week"].map((span) => cellOf(row?.cells, `cpuVs${span}`));
  assert.ok(Math.abs(hour ?? 1) < 1e-6, `${hour}`);
  assert.ok(Math.abs((day ?? 0) - 0.2) < 1e-3, `half of the day is what came since: ${day}`);
  assert.ok(Math.abs((week ?? 0) - 0.4 * 2 ** (-1 / 7)) < 1e-3, `a seventh of a half-life: ${week}`);
});

test("what is usual lies among what was measured, goes with the unit, and forgets nothing where nothing was measured", (context) => {
  const share = fc.double({ min: 0, max: 1, noNaN: true });
  const minutes = fc.array(
    fc.record({ cpu: fc.option(share, { nil: undefined }), elapsed: fc.integer({ min: 1, max: 3_000 }) }),
    {
      minLength: 1,
      maxLength: 60,
    },
  );
  const property = fc.property(minutes, (given) => {
    let [plain, scaled] = [noUsual(), noUsual()];
    const known: number[] = [];
    for (const { cpu, elapsed } of given) {
      const before = plain;
      plain = learnUsual(plain, measuredOf(cpu === undefined ? new Map() : cpuOf(cpu)), elapsed);
      scaled = learnUsual(scaled, measuredOf(cpu === undefined ? new Map() : cpuOf(cpu * 1_024)), elapsed);
      if (cpu === undefined) assert.deepEqual(plain, before);
      else known.push(cpu);
      for (const [slot, mean] of plain.means.entries()) {
        if (Number.isNaN(mean)) continue;
        assert.ok(mean >= Math.min(...known) - 1e-12 && mean <= Math.max(...known) + 1e-12);
        assert.ok(Math.abs((scaled.means[slot] ?? 0) - mean * 1_024) < 1e-9);
      }
    }
    assert.equal(plain.means.filter((mean) => !Number.isNaN(mean)).length, known.length > 0 ? 3 : 0);
  });
  holds(context, property, 200);
});

test("a week that is read by the hour makes the same baselines as one read by the minute", () => {
  const [byMinute, byHour] = [new FleetRows(), new FleetRows()];
  const startMs = Math.floor(START_MS / HOUR_MS) * HOUR_MS;
  const cpuAt = (hour: number) => 0.3 + 0.2 * Math.sin(hour / 4) + (hour > 100 ? 0.2 : 0);
  for (let hour = 0; hour < 168; hour++) {
    byHour.learn(at(startMs + hour * HOUR_MS, cpuAt(hour)), HOUR_MS);
    for (let minute = 0; minute < 60; minute++) byMinute.push(at(startMs + hour * HOUR_MS + minute * MINUTE_MS, cpuAt(hour)));
  }
  const next = at(startMs + 168 * HOUR_MS, 0.9);
  const [[one], [other]] = [byMinute.push(next), byHour.push(next)];
  assert.equal(other?.isFirst, false, "the past that was learned is its own");
  for (const span of ["Day", "Week"]) {
    const [minutes, hours] = [cellOf(one?.cells, `cpuVs${span}`), cellOf(other?.cells, `cpuVs${span}`)];
    assert.ok(Math.abs(minutes - hours) < 0.01, `${span}: ${minutes} and ${hours}`);
  }
  byHour.learn(at(startMs, 0), HOUR_MS);
  const [again] = byHour.push(at(startMs + 168 * HOUR_MS + MINUTE_MS, 0.9));
  assert.ok(again !== undefined && !again.isFirst, "an older hour changes nothing");
});

test("stored rollups and the live window give the same rows", () => {
  const noisy = (size: number) => (second: number) => size * (1 + Math.sin(second * 1.7));
  const window = windowOf(20, {
    "ep-1": { cpuShare: noisy(0.2), "pathLossShare:balancer": noisy(0.01) },
    "ep-2": { cpuShare: noisy(0.1) },
    "ep-3": { cpuShare: noisy(0.3) },
  });
  const series = Object.entries(window.endpoints).flatMap(([endpoint, own]) =>
    Object.entries(own).map(([metric, { values }]) => ({
      endpoint,
      metric,
      points: Array.from({ length: 20 }, (_, minute) => {
        const found = rollup(values.slice(minute * 60, minute * 60 + 60));
        assert.ok(found !== undefined);
        return { atMs: START_MS + minute * MINUTE_MS, ...found };
      }),
    })),
  );
  const [stored, live] = [new FleetRows(), new FleetRows()];
  const fromStore = minutesOfRollups(series).flatMap((minute) => stored.push(minute));
  const fromWindow = minutesFrom(window).flatMap((minute) => live.push(minute));
  assert.equal(fromStore.length, 60);
  assert.deepEqual(fromStore, fromWindow);
});

test("a minute that was taken is not taken again, a preview changes nothing, and silence begins a life anew", () => {
  const rows = new FleetRows();
  const minutes = minutesFrom(windowOf(3, { "ep-1": { cpuShare: (second) => second / 180 } }));
  const [first, second, third] = minutes as [FleetMinute, FleetMinute, FleetMinute];
  rows.push(first);
  assert.deepEqual(rows.push(first), []);
  const previewed = rows.preview(third);
  assert.deepEqual(rows.preview(third), previewed);
  assert.deepEqual(rows.push(third), previewed);
  assert.deepEqual(rows.push(second), [], "it is older than what is known");
  const [late] = rows.push(
    minutesFrom(windowOf(1, { "ep-1": { cpuShare: 0.5 } }, START_MS + 120 * MINUTE_MS))[0] as FleetMinute,
  );
  assert.equal(late?.isFirst, true);
  assert.ok(Number.isNaN(cellOf(late?.cells, "cpuVsHour")));
});

test("a minute with hardly any values tells nothing", () => {
  const window = windowOf(1, { "ep-1": { cpuShare: 0.5 } });
  const values = window.endpoints["ep-1"]?.["cpuShare"]?.values.map((value, second) => (second < 4 ? value : null)) ?? [];
  const sparse = { ...window, endpoints: { "ep-1": { cpuShare: { values } } } };
  assert.deepEqual(minutesOfWindow(sparse, START_MS, START_MS + MINUTE_MS), []);
});

test("the training table has a unit for each life, ends at its failure, and counts down to it", () => {
  const minutes = minutesFrom(windowOf(60, { "ep-1": { cpuShare: 0.1 }, "ep-2": { cpuShare: 0.2 } }));
  const failedAtMs = START_MS + 30 * MINUTE_MS;
  const untilMs = START_MS + 60 * MINUTE_MS;
  const lives = [
    { endpoint: "ep-1", fromMs: START_MS, untilMs: failedAtMs, failedAtMs },
    { endpoint: "ep-1", fromMs: failedAtMs + 5 * MINUTE_MS, untilMs },
    { endpoint: "ep-3", fromMs: START_MS, untilMs },
    { endpoint: "ep-2", fromMs: START_MS, untilMs },
  ];
  const { table, lives: kept } = fleetTable(minutes, lives);
  assert.deepEqual(
    kept.map(({ endpoint }) => endpoint),
    ["ep-1", "ep-1", "ep-2"],
  );
  assert.equal(table.rows, 30 + 25 + 60);
  assert.equal(table.units, 3);
  assert.equal(table.timeToFailure[0], 29);
  assert.equal(table.timeToFailure[29], 0);
  assert.equal(table.timeToFailure[30], Number.POSITIVE_INFINITY);
  assert.equal(table.columns.length, FLEET_COLUMNS.length);
  assert.ok(table.unit.every((unit, row) => row === 0 || unit >= (table.unit[row - 1] ?? 0)));
});

test("names of columns are there once, and none is taken for an operating condition", () => {
  const names = FLEET_COLUMNS.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  assert.deepEqual(
    names.filter((name) => /^op/i.test(name)),
    [],
  );
});
