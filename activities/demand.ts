/** What a swarm will have to carry: sessions of all its endpoints, read from telemetry in five-minute steps, and forecast online. */
import { setImmediate } from "node:timers/promises";
import type { Store, TelemetrySeries } from "../drivers/ports.ts";
import { demandForecast, FORECASTER, LoadForecaster } from "../models/forecast/forecaster.ts";
import { HISTORY } from "../models/forecast/series-history.ts";
import { LIMITS } from "../models/limits.ts";
import type { DemandForecast } from "../models/scale.ts";

const DAY_MS = 86_400_000;

interface Followed {
  readonly forecaster: LoadForecaster;
  /** Beginning of the first step that was not observed yet. */
  nextAtMs: number;
}

/** Keeps one forecaster a swarm; it is made anew from telemetry after a restart. */
export class SwarmDemand {
  private readonly store: Pick<Store, "telemetry">;
  private readonly followed = new Map<string, Followed>();

  constructor(store: Pick<Store, "telemetry">) {
    this.store = store;
  }

  /** `launchMs`: the measured time until a machine that is asked for serves. Undefined while nothing was measured. */
  async forecast(swarm: string, nowMs: number, launchMs: number): Promise<DemandForecast | undefined> {
    const followed = this.followed.get(swarm) ?? {
      forecaster: new LoadForecaster(),
      nextAtMs: stepOf(nowMs - HISTORY.windowDays * DAY_MS),
    };
    this.followed.set(swarm, followed);
    await this.catchUp(swarm, followed, stepOf(nowMs - LIMITS.foresight.demandDelayMs));
    return demandForecast(followed.forecaster, followed.nextAtMs, launchMs);
  }

  /** Observes the whole steps before `untilMs`; a day at a time, so that an answer stays within its limit. */
  private async catchUp(swarm: string, followed: Followed, untilMs: number): Promise<void> {
    const warmFromMs = untilMs - LIMITS.foresight.demandWarmUpMs;
    while (followed.nextAtMs < untilMs) {
      const sinceMs = followed.nextAtMs;
      const dayEndMs = Math.min(untilMs, sinceMs + DAY_MS);
      const query = { swarm, metric: "sessions", sinceMs, untilMs: dayEndMs, stepMs: FORECASTER.stepMs };
      const sums = sumByStep(await this.store.telemetry(query));
      for (let atMs = sinceMs; atMs < dayEndMs; atMs += FORECASTER.stepMs) {
        const sessions = sums.get(atMs) ?? Number.NaN;
        followed.nextAtMs = atMs + FORECASTER.stepMs;
        // Before the first value ever there is nothing to follow.
        if (Number.isNaN(sessions) && followed.forecaster.observations === 0) continue;
        followed.forecaster.observe(sessions);
        if (atMs < warmFromMs) continue;
        // Its own past forecasts calibrate it; other activities get their turn in between.
        followed.forecaster.forecasts();
        await setImmediate();
      }
    }
  }
}

function stepOf(atMs: number): number {
  return Math.floor(atMs / FORECASTER.stepMs) * FORECASTER.stepMs;
}

function sumByStep(series: readonly TelemetrySeries[]): ReadonlyMap<number, number> {
  const sums = new Map<number, number>();
  for (const { points } of series)
    for (const { atMs, mean } of points) sums.set(stepOf(atMs), (sums.get(stepOf(atMs)) ?? 0) + mean);
  return sums;
}
