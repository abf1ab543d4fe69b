/** The fleet's forecaster: what is planned for is never under what is there, from the first value on, and it follows telemetry step by step. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SwarmDemand } from "../../activities/demand.ts";
import type { TelemetryQuery, TelemetrySeries } from "../../drivers/ports.ts";
import { demandForecast, FORECASTER, type ForecasterState, LoadForecaster } from "../../models/forecast/forecaster.ts";
import { seededRandom } from "../../models/random.ts";

const STEP_MS = FORECASTER.stepMs;

/** Sessions at a step: a day's wave with noise. */
function sessionsAt(step: number, random: () => number): number {
  return 500 + 300 * Math.sin((step / 288) * 2 * Math.PI) + 20 * random();
}

function fed(steps: number, everyForecast = false): LoadForecaster {
  const forecaster = new LoadForecaster();
  const random = seededRandom(4);
  for (let step = 0; step < steps; step++) {
    forecaster.observe(sessionsAt(step, random));
    if (everyForecast) forecaster.forecasts();
  }
  return forecaster;
}

test("nothing is forecast from nothing", () => {
  const forecaster = new LoadForecaster();
  assert.equal(demandForecast(forecaster, 0, 60_000), undefined);
  forecaster.observe(Number.NaN);
  assert.deepEqual(forecaster.forecasts(), []);
});

test("what is planned for is never under the newest demand, and every horizon is there, whatever was observed", () => {
  const value = fc.oneof(fc.double({ min: 0, max: 1e6, noNaN: true }), fc.constantFrom(0, Number.NaN));
  fc.assert(
    fc.property(
      fc.array(value, { minLength: 1, maxLength: 40 }),
      fc.double({ min: 0, max: 1e6, noNaN: true }),
      (values, newest) => {
        const forecaster = new LoadForecaster();
        for (const one of [...values, newest]) forecaster.observe(one);
        const forecasts = forecaster.forecasts();
        assert.deepEqual(
          forecasts.map(({ horizonMs }) => horizonMs / 60_000),
          [10, 15, 30, 60],
        );
        for (const one of forecasts) {
          assert.ok([one.median, one.lower, one.upper, one.demand].every(Number.isFinite));
          assert.ok(one.demand >= newest);
        }
      },
    ),
  );
});

test("a rise that comes each day is planned for before it is there", () => {
  const forecaster = fed(5 * 288);
  // The sine's steepest rise is at the beginning of its day: 78 sessions within the hour.
  const demand = demandForecast(forecaster, 5 * 86_400_000, 40 * 60_000);
  assert.ok(demand !== undefined);
  assert.equal(demand.horizonMs, 3_600_000);
  assert.ok(demand.sessionsP50 > 550 && demand.sessionsP50 < 620, `${demand.sessionsP50}`);
  assert.ok(demand.sessionsUpper >= demand.sessionsP50 * 0.98, `${demand.sessionsUpper}`);
});

test("the plan of two days follows the day's course", () => {
  const plan = fed(10 * 288).plan();
  assert.ok(plan !== undefined);
  assert.equal(plan.expected.length, 48);
  plan.expected.forEach((expected, hour) => {
    const truth = 510 + 300 * Math.sin(((hour + 0.5) / 24) * 2 * Math.PI);
    assert.ok(Math.abs(expected - truth) < 40, `hour ${hour}: ${expected} against ${truth}`);
    assert.ok((plan.lower[hour] ?? 0) <= expected && expected <= (plan.upper[hour] ?? 0));
  });
  assert.equal(fed(288).plan(), undefined);
});

test("a forecaster goes on from its state as it would have", () => {
  const one = fed(500, true);
  const other = new LoadForecaster(JSON.parse(JSON.stringify(one.toState())) as ForecasterState);
  for (const sessions of [600, 610, 640]) {
    one.observe(sessions);
    other.observe(sessions);
    assert.deepEqual(other.forecasts(), one.forecasts());
  }
});

test("a swarm's demand is the sum over its endpoints, read once, and what nobody wrote is missing", async () => {
  const queries: TelemetryQuery[] = [];
  const random = seededRandom(6);
  const nowMs = 40 * 86_400_000;
  const points = (share: number) =>
    Array.from({ length: 2 * 288 }, (_, step) => {
      const mean = share * sessionsAt(step, random);
      return { atMs: nowMs - (2 * 288 - step) * STEP_MS, count: 300, mean, min: mean, max: mean, p95: mean };
    });
  const series: TelemetrySeries[] = [0.25, 0.75].map((share, index) => ({
    endpoint: `ep-${index}`,
    metric: "sessions",
    points: points(share),
  }));
  const telemetry = async (query: TelemetryQuery): Promise<readonly TelemetrySeries[]> => {
    queries.push(query);
    const { sinceMs, untilMs = Number.POSITIVE_INFINITY } = query;
    return series.map((one) => ({ ...one, points: one.points.filter(({ atMs }) => atMs >= sinceMs && atMs < untilMs) }));
  };
  const demand = new SwarmDemand({ telemetry });
  const first = await demand.forecast("lab", nowMs + 60_000, 60_000);
  assert.equal(first?.atMs, nowMs);
  assert.ok(Math.abs((first?.sessionsP50 ?? 0) - 520) < 40, `${first?.sessionsP50}`);
  const asked = queries.length;
  assert.equal((await demand.forecast("lab", nowMs + 120_000, 60_000))?.atMs, nowMs);
  assert.equal(queries.length, asked);
  assert.equal(await new SwarmDemand({ telemetry: async () => [] }).forecast("none", nowMs, 60_000), undefined);
});
