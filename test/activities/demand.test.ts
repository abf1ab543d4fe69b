// The load forecast on a real PostgreSQL: two weeks of five-minute rollups with gaps, an outage and silent endpoints; what was told beside what came.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import pg from "pg";
import { SwarmDemand } from "../../activities/demand.ts";
import { forecastReport, forecastsAsText } from "../../cli/forecasts.ts";
import { planAsText, swarmPlan } from "../../cli/swarm-plan.ts";
import { openStore, type PostgresStore } from "../../drivers/store/store.ts";
import type { StoredRollup } from "../../drivers/store/telemetry.ts";
import { FORECASTER } from "../../models/forecast/forecaster.ts";
import type { ToldForecast } from "../../models/forecast/track-record.ts";
import { LIMITS } from "../../models/limits.ts";
import { seededRandom } from "../../models/random.ts";
import { forecastMetrics } from "../../workers/control/forecast-metrics.ts";
import { type TestHome, type TestPostgres, testHome, testPostgres } from "../support/services.ts";
import { specOf } from "../unit/fixtures.ts";

const { stepMs: STEP_MS } = FORECASTER;
const STEPS_PER_DAY = 288;
const DAY_MS = STEPS_PER_DAY * STEP_MS;
const DAYS = 14;
const ENDPOINTS = ["ep-1", "ep-2", "ep-3", "ep-4"];
/** End of what is seeded at first: the beginning of a day, so that times of day are step numbers. */
const NOW_MS = Math.floor(Date.now() / DAY_MS) * DAY_MS;
const launch = async () => 60_000;
let where: TestHome;
let postgres: TestPostgres;
let store: PostgresStore;

before(async () => {
  where = await testHome();
  postgres = await testPostgres(where, { migrated: true });
  store = openStore({ databaseUrl: postgres.url });
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  const firstDay = new Date(NOW_MS - (DAYS + 1) * DAY_MS).toISOString().slice(0, 10);
  await client.query("select make_telemetry_partitions($1::date, $2)", [firstDay, DAYS + 3]);
  await client.end();
});

after(async () => {
  await store?.close();
  await postgres?.stop();
  await where?.remove();
});

/** Steps are numbered from NOW_MS, the past with negative numbers. */
type Fault = (step: number, endpoint: string) => "silent" | "outage" | undefined;

/** Sessions of a whole swarm: a day's wave, a week's smaller one, and noise. */
function sessionsAt(step: number, random: () => number): number {
  const week = 1 + 0.1 * Math.sin((step / STEPS_PER_DAY / 7) * 2 * Math.PI);
  return week * (400 + 240 * Math.sin((step / STEPS_PER_DAY) * 2 * Math.PI)) + 16 * random();
}

async function seed(swarm: string, from: number, to: number, fault: Fault = () => undefined, scale = 1): Promise<void> {
  const rows: StoredRollup[] = [];
  const random = seededRandom(Math.abs(from) + 1);
  for (let step = from; step < to; step++) {
    const whole = scale * sessionsAt(step, random);
    for (const endpoint of ENDPOINTS) {
      const what = fault(step, endpoint);
      if (what === "silent") continue;
      const mean = what === "outage" ? 1 : whole / ENDPOINTS.length;
      const atMs = NOW_MS + step * STEP_MS;
      rows.push({ atMs, swarm, endpoint, metric: "sessions", count: 300, mean, min: mean, max: mean, p95: mean });
    }
  }
  await store.insertRollups("five-minutes", rows);
}

/** Three hours without a collector, two of an outage of everything, and each day forty minutes without one endpoint's agent. */
const faulty: Fault = (step, endpoint) => {
  const past = -step;
  if (past > 9 * STEPS_PER_DAY && past <= 9 * STEPS_PER_DAY + 36) return "silent";
  if (past > 5 * STEPS_PER_DAY + 100 && past <= 5 * STEPS_PER_DAY + 124) return "outage";
  return endpoint === "ep-2" && past % STEPS_PER_DAY > 200 && past % STEPS_PER_DAY <= 208 ? "silent" : undefined;
};

function near(found: number | undefined, wanted: number | undefined, share: number): void {
  const off = Math.abs((found ?? Number.NaN) / (wanted ?? Number.NaN) - 1);
  assert.ok(off < share, `${found} against ${wanted}`);
}

test("gaps, an outage and silent agents of two weeks are not learned as low demand", async () => {
  await seed("whole", -DAYS * STEPS_PER_DAY, 0);
  await seed("faulty", -DAYS * STEPS_PER_DAY, 0, faulty);
  const demand = new SwarmDemand(store);
  const [whole, hurt] = [
    await demand.forecast("whole", NOW_MS + 60_000, launch),
    await demand.forecast("faulty", NOW_MS + 60_000, launch),
  ];
  assert.equal(whole?.atMs, NOW_MS);
  assert.ok(whole !== undefined && hurt !== undefined);
  assert.match(whole.text, /from 14\.0 days in steps of five minutes/);
  near(hurt.sessionsP50, whole.sessionsP50, 0.03);
  near(hurt.sessionsUpper, whole.sessionsUpper, 0.05);
  const [wholePlan, hurtPlan] = [await demand.plan("whole", NOW_MS + 60_000), await demand.plan("faulty", NOW_MS + 60_000)];
  assert.equal(hurtPlan?.expected.length, FORECASTER.planHours);
  for (const [hour, expected] of hurtPlan?.expected.entries() ?? []) {
    near(expected, wholePlan?.expected[hour], 0.06);
  }
});

test("a day is told step by step, across restarts of worker and database, and held against what came", async () => {
  let demand = new SwarmDemand(store);
  const dip: Fault = (step) => (step >= 150 && step < 156 ? "outage" : undefined);
  for (let step = 0; step < STEPS_PER_DAY; step += 1) {
    await seed("whole", step, step + 1, dip);
    if (step === 100) demand = new SwarmDemand(store);
    if (step === 101) await postgres.killAndRestart();
    const made = await demand.forecast("whole", NOW_MS + (step + 1) * STEP_MS + 31_000, launch);
    assert.equal(made?.atMs, NOW_MS + (step + 1) * STEP_MS);
  }
  const query = { swarm: "whole", sinceMs: NOW_MS, untilMs: NOW_MS + 2 * DAY_MS, limit: 5_000 };
  const rows = await store.loadForecasts(query);
  // With the four horizons that were told at the end of the seeded two weeks.
  assert.equal(rows.length, 4 * (STEPS_PER_DAY + 1));
  assert.equal(new Set(rows.map(({ madeAtMs, targetAtMs }) => `${madeAtMs} ${targetAtMs}`)).size, rows.length);
  const inDip = ({ targetAtMs }: ToldForecast) => targetAtMs > NOW_MS + 150 * STEP_MS && targetAtMs <= NOW_MS + 156 * STEP_MS;
  assert.ok(
    rows.filter(inDip).every(({ actual }) => actual === undefined),
    "an outage says nothing of a forecast",
  );
  const known = rows.filter((row) => row.targetAtMs <= NOW_MS + DAY_MS && !inDip(row));
  assert.ok(known.every(({ actual }) => actual !== undefined));
  const after = known.find(({ targetAtMs }) => targetAtMs === NOW_MS + 160 * STEP_MS);
  near(after?.median, after?.actual, 0.1);

  const scores = await store.loadScores({ swarm: "whole", sinceMs: NOW_MS });
  assert.deepEqual(
    scores.map(({ horizonMs }) => horizonMs / 60_000),
    [10, 15, 30, 60],
  );
  for (const score of scores) {
    const mine = known.filter(({ madeAtMs, targetAtMs }) => targetAtMs - madeAtMs === score.horizonMs);
    assert.equal(score.outcomes, mine.length);
    const inside = mine.filter(({ actual = 0, lower, upper }) => actual >= lower && actual <= upper).length / mine.length;
    assert.ok(Math.abs((score.coverage90 ?? 0) - inside) < 1e-9);
    assert.ok(inside > 0.8 && inside <= 0.97, `${score.horizonMs}: ${inside}`);
    const losses = mine.map(({ actual = 0, lower, median, upper }) => {
      return (pinball(actual, lower, 0.05) + pinball(actual, median, 0.5) + pinball(actual, upper, 0.95)) / 3;
    });
    const mean = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
    assert.ok(Math.abs((score.pinballLoss ?? 0) - mean) < 1e-6, `${score.pinballLoss} against ${mean}`);
  }
});

function pinball(value: number, forecast: number, level: number): number {
  return value >= forecast ? level * (value - forecast) : (1 - level) * (forecast - value);
}

test("a person and Prometheus see the forecast, what came, and how well it has held", async () => {
  await store.saveSpec({
    ...specOf({ endpoints: { count: 2, countMax: 8, capacitySessions: 100, costPerHour: 0.5 } }),
    name: "whole",
  });
  const endMs = NOW_MS + DAY_MS;
  const text = forecastsAsText(await forecastReport(store, "whole", endMs));
  assert.match(text, /Forecast at 00:00Z, sessions:/);
  assert.match(text, /01:00 +60 min +\d+ +\d+ to \d+ +\d+ +- +[a-z]+ \d+ %/, "no outcome yet");
  assert.match(text, /00:00 +60 min +\d+ +\d+ to \d+ +\d+ +\d+/, "what came of the hour before");
  assert.match(text, /10 min +281 +[89]\d\.\d %/);
  assert.equal(forecastsAsText(await forecastReport(store, "nobody", endMs)), "");

  const metrics = await forecastMetrics(store, endMs);
  assert.match(metrics, /foreshift_load_forecast_sessions\{swarm="whole",horizon="600",quantile="0.95"\} \d+/);
  assert.match(metrics, /foreshift_load_forecast_sessions\{swarm="whole",horizon="3600",quantile="0.05"\} \d+/);
  assert.match(metrics, /foreshift_load_actual_sessions\{swarm="whole"\} \d+/);
  assert.match(metrics, /foreshift_load_forecast_coverage90_ratio\{swarm="whole",horizon="600"\} 0\.\d+/);
  assert.match(metrics, /foreshift_load_forecast_pinball_loss_sessions\{swarm="whole",horizon="600"\} \d+/);
  assert.match(metrics, /foreshift_load_forecast_method_share\{swarm="whole",horizon="600",method="[a-z]+"\} 0\.\d+/);

  const plan = await swarmPlan(store, "whole", endMs + 60_000);
  assert.equal(plan.hours.length, 48);
  assert.equal(plan.basis, "history");
  // The wave's top (640 sessions, 80 an endpoint) asks for all eight, its bottom for three.
  assert.equal(plan.hours[5]?.endpoints, 8);
  assert.ok((plan.hours[18]?.endpoints ?? 0) <= 4);
  assert.ok(plan.ahead.endpointHours >= plan.reactive.endpointHours);
  assert.equal(plan.ahead.cost, plan.ahead.endpointHours * 0.5);
  assert.match(planAsText(plan), /ahead of the load +\d+ +\d+ +\d+\.\d\d +\d+\nfollowing it/);
  await assert.rejects(swarmPlan(store, "nobody", endMs), { code: "UNKNOWN_SWARM" });
});

test("a swarm of the first day follows its peers' course, also after a restart", async () => {
  await store.saveSpec({ ...specOf(), name: "fresh" });
  // At a quarter of the peer's size, in the two hours before the wave's steepest rise.
  await seed("fresh", STEPS_PER_DAY - 24, STEPS_PER_DAY, undefined, 0.25);
  const alone = new SwarmDemand({ ...store, specs: async () => [] });
  const later = NOW_MS + DAY_MS + 60_000;
  const plan = await new SwarmDemand(store).plan("fresh", later);
  assert.equal(plan?.basis, "peers");
  near(plan?.expected[5], 160, 0.15);
  assert.equal((await alone.plan("fresh", later))?.basis, "present");
  const hour = async (demand: SwarmDemand) => (await demand.forecast("fresh", later, async () => 3_000_000))?.sessionsP50 ?? 0;
  const [without, withPeers] = [await hour(alone), await hour(new SwarmDemand(store))];
  // 15.5 sessions more within the hour, of which what is there says nothing. Peers that were never tried yet count for half.
  assert.ok(withPeers > without + 2 && withPeers < 118, `${withPeers} against ${without}`);
});

test("the first word counts, and rows past their retention go", async () => {
  const told = (madeAtMs: number, median: number): ToldForecast => {
    return { madeAtMs, targetAtMs: madeAtMs + 600_000, median, lower: 1, upper: 9, demand: 8, methods: { persistence: 1 } };
  };
  const query = { swarm: "words", sinceMs: 0, untilMs: NOW_MS + DAY_MS, limit: 10 };
  await store.saveLoadForecasts("words", [told(NOW_MS - LIMITS.foresight.forecastsKeptMs - 3_600_000, 1)]);
  assert.equal((await store.loadForecasts(query)).length, 1);
  await store.saveLoadForecasts("words", [told(NOW_MS, 2)]);
  await store.saveLoadForecasts("words", [told(NOW_MS, 3)]);
  await store.saveLoadOutcomes("words", [{ targetAtMs: NOW_MS + 600_000, sessions: 4 }]);
  await store.saveLoadOutcomes("words", [{ targetAtMs: NOW_MS + 600_000, sessions: 5 }]);
  assert.deepEqual(await store.loadForecasts(query), [{ ...told(NOW_MS, 2), actual: 4 }]);
});
