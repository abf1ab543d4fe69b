/** The collector's memory of a world: series that a story states, one value a second up to this moment. */
import type { Telemetry, TelemetryWindow } from "../../../drivers/ports.ts";
import type { Calls } from "./calls.ts";

const STEP_MS = 1_000;

export class SimulatedTelemetry {
  /** By endpoint and series: the value so many seconds ago (0: now). */
  readonly series = new Map<string, Readonly<Record<string, (secondsAgo: number) => number>>>();
  readonly port: Telemetry;

  constructor(calls: Calls) {
    this.port = { window: (swarm, { sinceMs }) => calls.read("telemetry.window", () => this.#window(swarm, sinceMs)) };
  }

  #window(swarm: string, sinceMs: number): TelemetryWindow {
    const untilMs = Math.floor(Date.now() / STEP_MS) * STEP_MS;
    const steps = Math.max(0, Math.ceil((untilMs - sinceMs) / STEP_MS));
    const valuesOf = (value: (secondsAgo: number) => number) => Array.from({ length: steps }, (_, at) => value(steps - 1 - at));
    const endpoints = Object.fromEntries(
      [...this.series].map(([endpoint, stated]) => [
        endpoint,
        Object.fromEntries(
          Object.entries(stated).map(([name, value]) => [name, { values: valuesOf(value), statistics: NO_STATISTICS }]),
        ),
      ]),
    );
    return { swarm, stepMs: STEP_MS, fromMs: untilMs - steps * STEP_MS, untilMs, endpoints };
  }
}

const NO_STATISTICS = { count: 0, last: 0, lastAtMs: 0, mean: 0, variance: 0, min: 0, max: 0, weight: 0 };
