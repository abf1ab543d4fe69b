/** The health monitor behind the risks: fed from overlapping windows, each second once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SwarmHealth } from "../../activities/swarm-health.ts";
import type { TelemetryWindow } from "../../drivers/ports.ts";

const STEP_MS = 1_000;
const FROM_MS = 1_000_000_000;
const NO_STATISTICS = { count: 0, last: 0, lastAtMs: 0, mean: 0, variance: 0, min: 0, max: 0, weight: 0 };

/** A window of a minute that ends so many seconds after the beginning; ep-1's round trips grow twentyfold at `fromS`. */
function windowAt(second: number, fromS: number): TelemetryWindow {
  const fromMs = FROM_MS + (second - 60) * STEP_MS;
  const series = (slow: boolean) => ({
    innerRttMsP75: {
      values: Array.from({ length: 60 }, (_, at) => {
        const now = second - 60 + at;
        return (slow && now >= fromS ? 60 : 3) + ((Math.imul(now + 1, 2654435761) >>> 0) % 100) / 200;
      }),
      statistics: NO_STATISTICS,
    },
  });
  const endpoints = { "ep-1": series(true), "ep-2": series(false), "ep-3": series(false) };
  return { swarm: "lab", stepMs: STEP_MS, fromMs, untilMs: fromMs + 60 * STEP_MS, endpoints };
}

test("an endpoint that differs from its past and its peers is odd, the others are not", () => {
  const health = new SwarmHealth();
  for (let second = 60; second <= 998; second += 2)
    assert.equal(health.observe(windowAt(second, 1_000)).size, 0, `${second} s`);
  let odd = health.observe(windowAt(1_000, 1_000));
  for (let second = 1_002; second <= 1_060; second += 2) odd = health.observe(windowAt(second, 1_000));
  assert.deepEqual([...odd.keys()], ["ep-1"]);
  assert.ok((odd.get("ep-1")?.severity ?? 0) > 0.3);
  assert.match(odd.get("ep-1")?.text ?? "", /innerRttMsP75/);
});
