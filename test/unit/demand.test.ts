/** The expected load of a swarm: from the first minutes, through gaps, and ahead of a rise that comes each day. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SwarmDemand } from "../../activities/swarm-demand.ts";
import type { Store, TelemetryQuery, TelemetrySeries } from "../../drivers/ports.ts";
import { DemandForecaster } from "../../models/forecast/demand.ts";

const { stepMs } = DemandForecaster;
const DAY_MS = 86_400_000;
const START = Math.ceil(1_000_000_000_000 / DAY_MS) * DAY_MS;

/** Low by night, four times as many by day, with a steep morning and a little noise. */
function sessionsAt(atMs: number): number {
  const hour = ((atMs % DAY_MS) / DAY_MS) * 24;
  const day = 1 / (1 + Math.exp(-(hour - 8) * 2)) - 1 / (1 + Math.exp(-(hour - 20) * 2));
  const noise = ((Math.imul(atMs / stepMs + 1, 2654435761) >>> 0) / 2 ** 32 - 0.5) * 4;
  return 100 + 300 * day + noise;
}

/** A store with two endpoints that share the sessions since `sinceMs`, and nothing else. */
function storeSince(sinceMs: number, seen: TelemetryQuery[] = []): Store {
  const telemetry = (query: TelemetryQuery): Promise<readonly TelemetrySeries[]> => {
    seen.push(query);
    const points: { atMs: number; count: number; mean: number; min: number; max: number; p95: number }[] = [];
    for (let atMs = Math.max(sinceMs, query.sinceMs); atMs < (query.untilMs ?? 0); atMs += stepMs) {
      const mean = sessionsAt(atMs) / 2;
      points.push({ atMs, count: 300, mean, min: mean, max: mean, p95: mean });
    }
    return Promise.resolve(["ep-1", "ep-2"].map((endpoint) => ({ endpoint, metric: "sessions", points })));
  };
  return { telemetry } as Partial<Store> as Store;
}

test("a swarm that has just begun is expected to go on as it is, give or take", async () => {
  const demand = new SwarmDemand(storeSince(START));
  const nowMs = START + 3 * stepMs + 60_000;
  const found = (await demand.forecast("lab", nowMs)) ?? (await caughtUp(demand, nowMs));
  assert.ok(found !== undefined);
  const now = sessionsAt(START + 2 * stepMs);
  assert.ok(Math.abs(found.sessionsP50 - now) < 2 && found.sessionsUpper > now && found.sessionsUpper < 3 * now);
  assert.match(found.text, /no day of history/);
});

test("after some days the morning is expected before it comes, and history is read in bounded parts", async () => {
  const seen: TelemetryQuery[] = [];
  const demand = new SwarmDemand(storeSince(START, seen));
  const sevenMs = START + 6 * DAY_MS + 7.25 * 3_600_000 + 60_000;
  const found = await caughtUp(demand, sevenMs);
  assert.ok(found !== undefined);
  const present = sessionsAt(sevenMs);
  const coming = sessionsAt(found.atMs + found.horizonMs - stepMs);
  assert.ok(coming > 1.5 * present, "the test's own morning is steep");
  assert.ok(found.sessionsP50 > 1.3 * present, `${found.sessionsP50} of ${coming}, now ${present}`);
  assert.ok(found.sessionsUpper >= 0.95 * coming, `${found.sessionsUpper} of ${coming}`);
  for (const { sinceMs, untilMs = 0 } of seen) assert.ok(untilMs - sinceMs <= DAY_MS);
  const reads = seen.length;
  await demand.forecast("lab", sevenMs + 1_000);
  assert.equal(seen.length, reads, "what is known is not read again");
});

test("gaps are no low demand", () => {
  const forecaster = new DemandForecaster();
  for (let step = 0; step < 1_000; step += 1) {
    if (step % 50 < 5) continue;
    forecaster.observe(START + step * stepMs, 200, step > 700);
  }
  const found = forecaster.forecast();
  assert.ok(found !== undefined && found.sessionsP50 > 190 && found.sessionsUpper < 220, JSON.stringify(found));
});

async function caughtUp(demand: SwarmDemand, nowMs: number) {
  for (let turn = 0; turn < 20; turn += 1) {
    const found = await demand.forecast("lab", nowMs);
    if (found !== undefined) return found;
  }
  return undefined;
}
