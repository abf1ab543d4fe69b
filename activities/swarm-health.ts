/**
 * The health monitors of the swarms that this worker scores, fed from the collector's window. They are worth keeping and cheap to lose:
 * after a restart they learn from the window anew.
 */
import type { TelemetryWindow } from "../drivers/ports.ts";
import { HealthMonitor } from "../models/health/monitor.ts";
import { LIMITS } from "../models/limits.ts";

export interface Oddity {
  readonly severity: number;
  readonly text: string;
}

interface Fed {
  readonly monitor: HealthMonitor;
  fedToMs: number;
}

export class SwarmHealth {
  readonly #swarms = new Map<string, Fed>();

  /** What is odd about each endpoint alone; what all of them show blames none. */
  observe(window: TelemetryWindow): ReadonlyMap<string, Oddity> {
    const fed = this.#swarms.get(window.swarm) ?? { monitor: new HealthMonitor(), fedToMs: 0 };
    this.#swarms.set(window.swarm, fed);
    // The newest second may not be complete.
    const toMs = window.untilMs - window.stepMs;
    const fromMs = Math.max(fed.fedToMs, toMs - LIMITS.foresight.healthCatchUpMs, window.fromMs);
    for (let atMs = alignedUp(fromMs, window); atMs < toMs; atMs += window.stepMs) {
      fed.monitor.observe(atMs, rowAt(window, (atMs - window.fromMs) / window.stepMs));
      fed.fedToMs = atMs + window.stepMs;
    }
    const odd = new Map<string, Oddity>();
    for (const { endpoint, explanation, scope, severity } of fed.monitor.anomalies()) {
      if (scope === "endpoint" && severity >= LIMITS.foresight.severityMin && !odd.has(endpoint))
        odd.set(endpoint, { severity, text: explanation });
    }
    return odd;
  }
}

function alignedUp(atMs: number, { fromMs, stepMs }: TelemetryWindow): number {
  return fromMs + Math.ceil((atMs - fromMs) / stepMs) * stepMs;
}

function rowAt(window: TelemetryWindow, step: number): Record<string, Record<string, number | null | undefined>> {
  return Object.fromEntries(
    Object.entries(window.endpoints).map(([endpoint, series]) => [
      endpoint,
      Object.fromEntries(Object.entries(series).map(([name, { values }]) => [name, values[step]])),
    ]),
  );
}
