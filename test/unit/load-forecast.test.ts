/** The load forecast: finite, free of units, untaught by outages, and the same after its state was stored. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { shareShort } from "../../backtest/load.ts";
import { worthwhileCapacity } from "../../models/capacity.ts";
import { LeadModel, type LoadForecast } from "../../models/forecast/lead-model.ts";
import { SeriesHistory } from "../../models/forecast/series-history.ts";
import { seededRandom } from "../../models/random.ts";

const STEP_S = 3_600;

/** Demand by the hour with a daily wave and noise. */
function wave(hours: number, seed: number, scale = 1): number[] {
  const random = seededRandom(seed);
  return Array.from({ length: hours }, (_, hour) => scale * (100 + 40 * Math.sin((hour / 24) * 2 * Math.PI) + 10 * random()));
}

function run(values: readonly number[], lead = 2): { history: SeriesHistory; model: LeadModel; forecasts: LoadForecast[] } {
  const history = new SeriesHistory(STEP_S);
  const model = new LeadModel(history, lead);
  const forecasts: LoadForecast[] = [];
  for (const value of values) {
    history.push(value);
    model.observed();
    const forecast = model.forecast();
    if (forecast !== undefined) forecasts.push(forecast);
  }
  return { history, model, forecasts };
}

function isFinite(forecast: LoadForecast): boolean {
  const { median, lower, upper } = forecast;
  return [median, lower, upper].every((value) => Number.isFinite(value) && value >= 0) && lower <= upper;
}

test("a forecast is finite for whatever is observed, and capacity is never under the floor", () => {
  const observed = fc.oneof(
    fc.double({ min: 0, max: 1e9, noNaN: true }),
    fc.constantFrom(0, Number.NaN, -1, Number.POSITIVE_INFINITY),
  );
  fc.assert(
    fc.property(fc.array(observed, { minLength: 1, maxLength: 120 }), fc.nat(1e6), (values, floor) => {
      for (const forecast of run(values).forecasts) {
        assert.ok(isFinite(forecast), JSON.stringify([forecast.median, forecast.lower, forecast.upper]));
        const capacity = worthwhileCapacity(forecast.distribution, floor, 100);
        assert.ok(Number.isFinite(capacity) && capacity >= floor);
      }
    }),
    { numRuns: 30 },
  );
});

test("a forecast scales with the units of its series", () => {
  const once = run(wave(400, 3)).forecasts.at(-1);
  const thousandfold = run(wave(400, 3, 1_000)).forecasts.at(-1);
  assert.ok(once !== undefined && thousandfold !== undefined);
  for (const name of ["median", "lower", "upper"] as const) {
    assert.ok(Math.abs(thousandfold[name] / once[name] / 1_000 - 1) < 0.01, `${name}: ${once[name]}, ${thousandfold[name]}`);
  }
});

test("the 90 % interval holds about 90 % of what comes", () => {
  const values = wave(1_200, 5);
  const later = run(values).forecasts.filter((one) => one.target >= 600 && one.target < values.length);
  const inside = later.filter((one) => (values[one.target] ?? 0) >= one.lower && (values[one.target] ?? 0) <= one.upper);
  const share = inside.length / later.length;
  assert.ok(share > 0.85 && share < 0.95, `${share}`);
});

test("a model restored from its state goes on as the one that was stored", () => {
  const values = wave(500, 7);
  const { history, model } = run(values.slice(0, 450));
  const stored = JSON.parse(JSON.stringify({ history: history.toState(), model: model.toState() })) as {
    history: ReturnType<SeriesHistory["toState"]>;
    model: ReturnType<LeadModel["toState"]>;
  };
  const otherHistory = SeriesHistory.fromState(stored.history);
  const other = LeadModel.fromState(otherHistory, stored.model);
  for (const value of values.slice(450)) {
    for (const [oneHistory, oneModel] of [
      [history, model],
      [otherHistory, other],
    ] as const) {
      oneHistory.push(value);
      oneModel.observed();
    }
    const [mine, theirs] = [model.forecast(), other.forecast()];
    assert.deepEqual([theirs?.median, theirs?.lower, theirs?.upper], [mine?.median, mine?.lower, mine?.upper]);
  }
});

test("an outage is not learned as low demand", () => {
  const calm = wave(480, 9);
  const broken = calm.map((value, hour) => (hour >= 470 && hour < 474 ? 0 : hour === 475 ? Number.NaN : value));
  const after = run(broken).forecasts.at(-1);
  const without = run(calm).forecasts.at(-1);
  assert.ok(after !== undefined && without !== undefined);
  assert.ok(Math.abs(after.median / without.median - 1) < 0.15, `${after.median}, ${without.median}`);
});

test("the forecast follows a season that persistence misses", () => {
  const values = wave(1_000, 11);
  const { forecasts } = run(values, 6);
  const tested = forecasts.filter((one) => one.target >= 700 && one.target < values.length);
  const error = (of: (one: LoadForecast) => number): number =>
    tested.reduce((sum, one) => sum + Math.abs(of(one) - (values[one.target] ?? 0)), 0);
  assert.ok(error((one) => one.median) < 0.3 * error((one) => values[one.now] ?? 0));
});

test("the share that was short is taken at the given mean slack", () => {
  const demand = Float64Array.from([1, 1, 1, 1, Number.NaN, 4]);
  // Mean demand 1.6, capacity 3.2 on average at a slack of 1: the flat one is short for the burst alone.
  assert.equal(shareShort(demand, new Float64Array(6).fill(7), 0, 1), 0.2);
  assert.equal(shareShort(demand, demand, 0, 0.1), 0);
});

test("a short gap is bridged along yesterday's course, a long one by yesterday, and neither counts as known", () => {
  const steps = 288;
  const history = new SeriesHistory(300);
  const course = (step: number) => 100 + 50 * Math.sin((step / steps) * 2 * Math.PI);
  // Twice the size on the third day; nobody measures in its steepest three hours.
  const third = 2 * steps;
  for (let step = 0; step < third; step++) history.push(course(step));
  for (let step = 0; step < 36; step++) history.push(step < 3 ? 2 * course(step) : Number.NaN);
  assert.ok(Math.abs(history.value(third + 12) / (2 * course(12)) - 1) < 0.03, `${history.value(third + 12)}`);
  assert.ok(Math.abs(history.value(third + 30) - course(30)) < 1e-9);
  assert.ok(!history.isKnown(third + 12) && !history.isKnown(third + 30) && history.isKnown(third + 2));
});
