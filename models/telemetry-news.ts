/**
 * What of a heartbeat is worth waking whoever decides for the swarm, instead of waiting until they look again.
 */
import { LIMITS } from "./limits.ts";
import type { Heartbeat } from "./observation.ts";

export type TelemetryNews =
  | "joined"
  | "restarted"
  | "tunnel-up"
  | "tunnel-down"
  | "cpu-up"
  | "cpu-down"
  | "silent"
  | "outside-events";

/** What was last told of an endpoint. */
export interface Told {
  readonly startedAtMs: number;
  readonly tunnelUp: boolean;
  /** How many of the thresholds its CPU is above. */
  readonly cpuBand: number;
  readonly silent: boolean;
}

/** What is told after a heartbeat, and the news in it, if there are any. */
export function newsOf(told: Told | undefined, heartbeat: Heartbeat): { readonly told: Told; readonly news?: TelemetryNews } {
  const { startedAtMs, tunnelUp, cpuShare } = heartbeat;
  const cpuBand = cpuShare === undefined ? (told?.cpuBand ?? 0) : bandOf(cpuShare, told?.cpuBand ?? 0);
  const now: Told = { startedAtMs, tunnelUp, cpuBand, silent: false };
  if (told === undefined || told.silent) return { told: now, news: "joined" };
  if (told.startedAtMs !== startedAtMs) return { told: now, news: "restarted" };
  if (told.tunnelUp !== tunnelUp) return { told: now, news: tunnelUp ? "tunnel-up" : "tunnel-down" };
  if (told.cpuBand !== cpuBand) return { told: now, news: cpuBand > told.cpuBand ? "cpu-up" : "cpu-down" };
  return { told: now };
}

/** A threshold that was crossed counts until the value is clearly below it, so that a value that dithers there is no news. */
function bandOf(cpuShare: number, before: number): number {
  const { wakeCpuShares, wakeHysteresisShare } = LIMITS.telemetry;
  return wakeCpuShares.filter((threshold, index) => cpuShare >= threshold - (index < before ? wakeHysteresisShare : 0)).length;
}
