/** The fleet's forecaster: what is planned for is never under what is there, from the first value on, and it follows telemetry step by step. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SwarmDemand } from "../../activities/demand.ts";
import type { TelemetryQuery, TelemetrySeries } from "../../drivers/ports.ts";
import { demandForecast, FORECASTER, type ForecasterState, LoadForecaster } from "../../models/forecast/forecaster.ts";
import type { LoadOutcome, ToldForecast } from "../../models/forecast/track-record.ts";
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
  assert.equal(demandForecast(forecaster.forecasts(), 0, 60_000, 0), undefined);
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
  const demand = demandForecast(forecaster.forecasts(), 5 * 86_400_000, 40 * 60_000, 5);
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
  assert.equal(plan.basis, "history");
});

test("before there are days to learn from, a plan follows the peers, and without any what is there", () => {
  const peer = fed(5 * 288);
  const fresh = new LoadForecaster();
  assert.equal(fresh.plan(), undefined);
  for (let step = 0; step < 6; step++) fresh.observe(50);
  assert.ok(fresh.plan()?.expected.every((expected) => Math.abs(expected - 50) < 1e-9));
  assert.equal(fresh.plan()?.basis, "present");
  const borrowed = fresh.plan((lead) => peer.usualRise(lead));
  assert.equal(borrowed?.basis, "peers");
  // The peer's wave is at its mean now, at its top (1.6 times that) in six hours, at its bottom (0.4 times) in eighteen.
  for (const [hour, share] of [
    [5, 1.6],
    [17, 0.4],
    [29, 1.6],
  ] as const) {
    const expected = borrowed?.expected[hour] ?? 0;
    assert.ok(Math.abs(expected / 50 / share - 1) < 0.2, `hour ${hour}: ${expected}`);
    assert.ok((borrowed?.lower[hour] ?? 0) < expected && expected < (borrowed?.upper[hour] ?? 0));
  }
  const dayOld = fed(300).plan();
  assert.equal(dayOld?.basis, "history");
  assert.ok((dayOld?.expected[4] ?? 0) > 1.2 * (dayOld?.expected[0] ?? 0), "its own first day");
});

test("in its first day a swarm learns from its peers what persistence cannot know", () => {
  const peer = fed(5 * 288);
  const errors = { alone: 0, withPeers: 0 };
  for (const kind of ["alone", "withPeers"] as const) {
    const fresh = new LoadForecaster();
    const random = seededRandom(9);
    for (let step = 0; step < 96; step++) {
      fresh.observe(0.1 * sessionsAt(step, random));
      const rise = (lead: number) => peer.usualRise(lead, 288 - step - 1);
      const hour = fresh.forecasts(kind === "alone" ? undefined : rise).at(-1);
      const truth = 0.1 * (510 + 300 * Math.sin(((step + 12) / 288) * 2 * Math.PI));
      errors[kind] += Math.abs((hour?.median ?? 0) - truth);
    }
  }
  assert.ok(errors.withPeers < 0.5 * errors.alone, JSON.stringify(errors));
});

test("without peers, the first day's interval is neither empty nor endless", () => {
  const fresh = new LoadForecaster();
  const random = seededRandom(3);
  for (let step = 0; step < 200; step++) {
    fresh.observe(sessionsAt(step, random));
    for (const { lower, median, upper } of fresh.forecasts()) {
      assert.ok(
        lower <= median && median <= upper && lower < upper && upper < 4 * median,
        `step ${step}: ${lower} ${median} ${upper}`,
      );
    }
  }
});

test("what is planned for reaches until a machine would serve that is asked for on the next forecast", () => {
  const all = fed(3 * 288).forecasts();
  const horizonOf = (launchMinutes: number) => (demandForecast(all, 0, launchMinutes * 60_000, 3)?.horizonMs ?? 0) / 60_000;
  assert.deepEqual([0, 1, 4, 5, 9, 10, 50, 54].map(horizonOf), [10, 10, 10, 15, 15, 30, 60, 60]);
  assert.equal(horizonOf(500), 60);
  assert.match(demandForecast(all, 0, 500 * 60_000, 3)?.text ?? "", /a launch takes 500 min, longer than is forecast/);
  const property = fc.property(fc.integer({ min: 0, max: 7_200_000 }), (launchMs) => {
    const made = demandForecast(all, 0, launchMs, 3);
    assert.ok(made !== undefined);
    const before = all.filter(({ horizonMs }) => horizonMs <= made.horizonMs);
    assert.equal(made.sessionsUpper, Math.max(...before.map(({ demand }) => demand)));
    assert.ok((made.sessionsUpperLongest ?? 0) >= made.sessionsUpper);
  });
  fc.assert(property);
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
  const told: ToldForecast[] = [];
  const outcomes: LoadOutcome[] = [];
  const store = {
    telemetry,
    specs: async () => [],
    saveLoadForecasts: async (_: string, forecasts: readonly ToldForecast[]) => void told.push(...forecasts),
    saveLoadOutcomes: async (_: string, came: readonly LoadOutcome[]) => void outcomes.push(...came),
  };
  const demand = new SwarmDemand(store);
  const launch = async () => 60_000;
  const first = await demand.forecast("lab", nowMs + 60_000, launch);
  assert.equal(first?.atMs, nowMs);
  assert.ok(Math.abs((first?.sessionsP50 ?? 0) - 520) < 40, `${first?.sessionsP50}`);
  const asked = queries.length;
  assert.equal((await demand.forecast("lab", nowMs + 120_000, launch))?.atMs, nowMs);
  assert.equal(queries.length, asked);
  assert.deepEqual(
    told.map(({ madeAtMs, targetAtMs }) => [madeAtMs - nowMs, (targetAtMs - nowMs) / 60_000]),
    [10, 15, 30, 60].map((minutes) => [0, minutes]),
    "told once for each horizon",
  );
  assert.equal(outcomes.length, 2 * 288);
  assert.equal(outcomes.at(-1)?.targetAtMs, nowMs);
  const silent = new SwarmDemand({ ...store, telemetry: async () => [] });
  assert.equal(await silent.forecast("none", nowMs, launch), undefined);
});
