/** The load forecasters of the swarms that this worker scores, fed from the rollups of telemetry; cheap to lose and learned anew. */
import type { Store } from "../drivers/ports.ts";
import { DemandForecaster } from "../models/forecast/demand.ts";
import { LIMITS } from "../models/limits.ts";
import type { DemandForecast } from "../models/scale.ts";

const { stepMs } = DemandForecaster;
const { historyMs, judgedMs, stepsAtOnceMax, settleMs } = LIMITS.demand;

export class SwarmDemand {
  readonly #store: Store;
  readonly #swarms = new Map<string, { readonly forecaster: DemandForecaster; readToMs: number }>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Catches up by a bounded number of steps; undefined while it has more to catch up with, or nothing to tell. */
  async forecast(swarm: string, nowMs: number): Promise<DemandForecast | undefined> {
    const endMs = Math.floor((nowMs - settleMs) / stepMs) * stepMs;
    const learning = this.#swarms.get(swarm) ?? { forecaster: new DemandForecaster(), readToMs: endMs - historyMs };
    this.#swarms.set(swarm, learning);
    const { forecaster, readToMs } = learning;
    if (readToMs >= endMs) return forecaster.forecast();
    const untilMs = Math.min(endMs, readToMs + stepsAtOnceMax * stepMs);
    const sums = await this.#sums(swarm, readToMs, untilMs);
    for (let atMs = readToMs; atMs < untilMs; atMs += stepMs) {
      const sessions = sums.get(atMs);
      // Before the first measurement there was no swarm.
      if (sessions === undefined && forecaster.nextAtMs === undefined) continue;
      forecaster.observe(atMs, sessions ?? Number.NaN, atMs >= nowMs - judgedMs);
    }
    learning.readToMs = untilMs;
    return untilMs === endMs ? forecaster.forecast() : undefined;
  }

  /** Sessions of all endpoints together, by the beginning of the step. */
  async #sums(swarm: string, sinceMs: number, untilMs: number): Promise<ReadonlyMap<number, number>> {
    const series = await this.#store.telemetry({ swarm, metric: "sessions", sinceMs, untilMs, stepMs });
    const sums = new Map<number, number>();
    for (const { points } of series) for (const { atMs, mean } of points) sums.set(atMs, (sums.get(atMs) ?? 0) + mean);
    return sums;
  }
}
