/** Launches lead the load: a day minute by minute, machines that take their time to boot, with the forecast and without it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { launchTimesOf } from "../../activities/launch-time.ts";
import { demandForecast, FORECASTER, LoadForecaster } from "../../models/forecast/forecaster.ts";
import { LIMITS } from "../../models/limits.ts";
import { initialState, plan, recordDisruptionEnd, recordLaunchEnd, takeDemand } from "../../models/plan.ts";
import { seededRandom } from "../../models/random.ts";
import { endpointOf, observationOf, specOf } from "./fixtures.ts";

const MINUTE_MS = 60_000;
const STEP_MINUTES = FORECASTER.stepMs / MINUTE_MS;
const DAY_MINUTES = 1_440;
const CAPACITY = 100;

/** Sessions at a minute of a day: a flat night, a steep morning, a long evening. */
function sessionsAt(minute: number, noise: number): number {
  const day = minute % DAY_MINUTES;
  const rise = 1 / (1 + Math.exp(-(day - 480) / 20));
  const fall = 1 / (1 + Math.exp(-(day - 1_140) / 60));
  return Math.round((120 + 500 * (rise - fall)) * (1 + 0.02 * noise));
}

function learnt(days: number): LoadForecaster {
  const forecaster = new LoadForecaster();
  const random = seededRandom(2);
  for (let minute = 0; minute < days * DAY_MINUTES; minute += STEP_MINUTES) {
    forecaster.observe(sessionsAt(minute, 2 * random() - 1));
    if (minute >= (days - 1) * DAY_MINUTES) forecaster.forecasts();
  }
  return forecaster;
}

interface Day {
  /** Minutes in which some endpoint had to carry more than it is to carry. */
  readonly late: number;
  readonly endpointHours: number;
  readonly drains: number;
}

/** A day of a swarm whose machines serve `launchMinutes` after they were asked for. */
function live(mode: "act" | "advise", launchMinutes: number): Day {
  const spec = specOf({
    endpoints: { count: 2, countMax: 10, capacitySessions: CAPACITY, ghosts: 0, scaleInAfterMs: 1_800_000 },
    foresight: { mode, overloadThreshold: 0.8 },
  });
  const forecaster = learnt(4);
  const random = seededRandom(8);
  const startMs = 4 * DAY_MINUTES * MINUTE_MS;
  const serving = ["ep-1", "ep-2"];
  const booting: { readonly name: string; readonly readyAt: number }[] = [];
  let state = initialState(spec);
  let made = serving.length;
  const found = { late: 0, endpointHours: 0, drains: 0 };
  for (let minute = 0; minute < DAY_MINUTES; minute++) {
    const nowMs = startMs + minute * MINUTE_MS;
    const sessions = sessionsAt(minute, 2 * random() - 1);
    if (booting.length > 0 && booting.every(({ readyAt }) => readyAt <= minute)) {
      serving.push(...booting.splice(0).map(({ name }) => name));
      state = recordLaunchEnd(state, "endpoint");
    }
    if (minute % STEP_MINUTES === 0) {
      forecaster.observe(sessionsAt(minute - STEP_MINUTES + DAY_MINUTES, 2 * random() - 1));
      const demand = demandForecast(forecaster.forecasts(), nowMs, launchMinutes * MINUTE_MS, 4);
      if (demand !== undefined) state = takeDemand(state, demand);
    }
    const there = serving.map((name) => endpointOf(name, { sessions: Math.ceil(sessions / serving.length) }));
    const decision = plan(state, observationOf(there, { ghosts: [] }), nowMs + LIMITS.foresight.demandDelayMs);
    state = decision.state;
    for (const step of decision.steps) {
      if (step.kind === "add-endpoints") {
        for (let one = 0; one < step.count; one++) booting.push({ name: `ep-${++made}`, readyAt: minute + launchMinutes });
      } else if (step.kind === "drain-and-replace") {
        assert.equal(step.mode, "drain", step.reason);
        serving.splice(serving.indexOf(step.endpoint), 1);
        state = recordDisruptionEnd(state, step.endpoint, "drained", nowMs + LIMITS.foresight.demandDelayMs);
        found.drains += 1;
      }
    }
    if (sessions > serving.length * CAPACITY * 0.8 * 1.03) found.late += 1;
    found.endpointHours += serving.length / 60;
  }
  return found;
}

for (const launchMinutes of [8, 20]) {
  test(`machines that take ${launchMinutes} min are there before the morning's rise, at a bounded price`, () => {
    const [ahead, reactive] = [live("act", launchMinutes), live("advise", launchMinutes)];
    const figures = JSON.stringify({ ahead, reactive });
    assert.ok(reactive.late >= launchMinutes, `the test shows something: ${figures}`);
    assert.ok(ahead.late <= 0.34 * reactive.late, figures);
    assert.ok(ahead.endpointHours <= 1.25 * reactive.endpointHours, figures);
    assert.ok(ahead.drains > 0 && ahead.drains <= 10, `it goes back in the evening, once: ${figures}`);
  });
}

test("the time of a launch is measured: of the last five runs that went well the slowest but one, and wakes apart from launches", () => {
  const row = (tookMs: number, launched?: number, outcome: "done" | "failed" = "done") => {
    const details = { startedAtMs: 10_000_000 - tookMs, ...(launched === undefined ? {} : { launched }) };
    return { atMs: 10_000_000, outcome, details };
  };
  const assumed = { launchMs: LIMITS.foresight.launchMsAssumed, wakeMs: LIMITS.foresight.launchMsAssumed };
  assert.deepEqual(launchTimesOf([], []), assumed);
  assert.deepEqual(launchTimesOf([{ atMs: 5, outcome: "done", details: {} }, row(9_000, 1, "failed"), row(-1)], []), assumed);
  assert.deepEqual(launchTimesOf([row(40_000)], []), { launchMs: 40_000, wakeMs: 40_000 });
  // The first lies six runs back; one was halted for an hour.
  const runs = [500_000, 30_000, 3_600_000, 31_000, 32_000, 29_000].map((ms) => row(ms, 1));
  assert.equal(launchTimesOf(runs, []).launchMs, 32_000);
  // Five wakes since are no measure of a launch.
  const wakes = [2_000, 2_500, 2_100, 2_200, 9_000].map((ms) => row(ms, 0));
  assert.deepEqual(launchTimesOf([row(40_000, 2), ...wakes], []), { launchMs: 40_000, wakeMs: 2_500 });
  // Nothing but wakes: a refill of the pool says how long a launch takes, each ghost of it.
  assert.deepEqual(launchTimesOf(wakes, [row(60_000, 3), row(21_000, 1)]), { launchMs: 20_000, wakeMs: 2_500 });
  assert.deepEqual(launchTimesOf(wakes, []), { launchMs: LIMITS.foresight.launchMsAssumed, wakeMs: 2_500 });
});
