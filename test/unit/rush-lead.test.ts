/** Launches lead a rush: second by second, with ghosts that wake quickly once and machines that boot, by reaction and with foresight. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { leadTimeMs } from "../../models/lead-time.ts";
import { initialState, plan, recordLaunchEnd, takeDemand } from "../../models/plan.ts";
import { endpointsFor } from "../../models/scale.ts";
import { sessionsAhead } from "../../models/session-trend.ts";
import { endpointOf, observationOf, specOf } from "./fixtures.ts";

const CAPACITY = 8;
const CALM_SECONDS = 60;
/** What the agents say is known so much later. */
const TELEMETRY_LAG_SECONDS = 2;

interface Times {
  readonly wakeSeconds: number;
  readonly launchSeconds: number;
  readonly refillSeconds: number;
}

interface Outcome {
  /** Sessions beyond what the endpoints can carry, summed over the seconds. */
  readonly short: number;
  readonly endpointSeconds: number;
  readonly most: number;
}

/** Twelve sessions on three endpoints; from the 60th second on `rate` more each second, up to 36. */
function live(mode: "act" | "off", rate: number, times: Times): Outcome {
  const spec = specOf({
    endpoints: { count: 3, countMax: 6, ghosts: 1, capacitySessions: CAPACITY },
    foresight: { mode, windowMs: 60_000 },
  });
  const { wakeSeconds, launchSeconds, refillSeconds } = times;
  const measured = { wakeMs: wakeSeconds * 1_000, launchMs: launchSeconds * 1_000 };
  const sessionsAt = (second: number) => Math.min(36, 12 + Math.floor(rate * Math.max(0, second - CALM_SECONDS)));
  let state = initialState(spec);
  let serving = 3;
  let runs: { readonly endsAt: number; readonly count: number; readonly turn: number | undefined }[] = [];
  let ghostAt = 0;
  const found = { short: 0, endpointSeconds: 0, most: 0 };
  for (let second = 0; second < CALM_SECONDS + 24 / rate + 30; second += 1) {
    const nowMs = second * 1_000;
    for (const { count, turn } of runs.filter(({ endsAt }) => endsAt === second)) {
      serving += count;
      state = recordLaunchEnd(state, "endpoint", turn);
    }
    runs = runs.filter(({ endsAt }) => endsAt > second);
    const sessions = sessionsAt(second);
    const ghosts = ghostAt <= second ? ["ghost"] : [];
    const points = Array.from({ length: Math.min(60, second + 1 - TELEMETRY_LAG_SECONDS) }, (_, ago) => {
      const at = second - TELEMETRY_LAG_SECONDS - ago;
      return { atMs: at * 1_000, value: sessionsAt(at) };
    }).toReversed();
    const leadOf = (wanted: number) => leadTimeMs(Math.max(1, endpointsFor(spec, wanted) - serving), ghosts.length, measured);
    const demand = mode === "off" ? undefined : sessionsAhead(points, 60_000, leadOf);
    if (demand !== undefined) state = takeDemand(state, demand);
    const there = Array.from({ length: serving }, (_, at) =>
      endpointOf(`ep-${at + 1}`, { sessions: Math.floor((sessions + at) / serving) }),
    );
    const decision = plan(state, observationOf(there, { ghosts }), nowMs);
    // A pool that is refilled is another run's matter.
    state = recordLaunchEnd(decision.state, "ghost");
    for (const step of decision.steps) {
      if (step.kind !== "add-endpoints") continue;
      const { count, turn } = step;
      const woken = ghosts.splice(0, count).length;
      runs.push({ endsAt: second + (woken < count ? launchSeconds : wakeSeconds), count, turn });
      if (woken > 0) ghostAt = second + refillSeconds;
    }
    found.short += Math.max(0, sessions - serving * CAPACITY);
    found.endpointSeconds += serving;
    found.most = Math.max(found.most, serving);
  }
  return found;
}

for (const times of [
  { wakeSeconds: 3, launchSeconds: 8, refillSeconds: 6 },
  { wakeSeconds: 3, launchSeconds: 20, refillSeconds: 20 },
]) {
  test(`in a rush foresight is short of about half of what reaction is, with launches of ${times.launchSeconds} s`, () => {
    for (const rate of [0.8, 1.2]) {
      const [ahead, reactive] = [live("act", rate, times), live("off", rate, times)];
      const figures = JSON.stringify({ rate, ahead, reactive });
      assert.ok(ahead.short <= 0.55 * reactive.short, figures);
      assert.equal(ahead.most, reactive.most, figures);
      assert.ok(ahead.endpointSeconds <= 1.08 * reactive.endpointSeconds, figures);
    }
    // Four fifths are reached before anybody could tell a rush: nothing is lost by foresight.
    assert.ok(live("act", 2.4, times).short <= live("off", 2.4, times).short);
  });
}
