/** The next 48 hours of a swarm, as `swarm plan` shows them. */
import { SwarmDemand } from "../activities/demand.ts";
import type { Store } from "../drivers/ports.ts";
import { type CapacityPlan, capacityPlan, type PlanCost } from "../models/capacity-plan.ts";
import { ForeshiftError } from "../models/errors.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { table } from "./control.ts";

const HOUR_MS = 3_600_000;

export interface SwarmPlan extends CapacityPlan {
  readonly swarm: string;
  readonly mode: SwarmSpec["foresight"]["mode"];
  /** What the forecast is made from, and days of telemetry there are. */
  readonly basis: "history" | "peers" | "present";
  readonly days: number;
  readonly count: number;
  readonly countMax: number | undefined;
}

/** UNKNOWN_SWARM where no swarm file was applied under that name, NOT_READY before anything was measured. */
export async function swarmPlan(store: Store, swarm: string, nowMs: number): Promise<SwarmPlan> {
  const spec = (await store.specs()).find(({ name }) => name === swarm);
  if (spec === undefined) throw new ForeshiftError("UNKNOWN_SWARM", { value: swarm });
  const load = await new SwarmDemand(store, { warmUpMs: 0 }).plan(swarm, nowMs);
  if (load === undefined) {
    throw new ForeshiftError("NOT_READY", {
      value: `the plan of ${swarm}`,
      detail: "no sessions were measured for five minutes yet",
    });
  }
  const hours = load.expected.map((expected, hour) => {
    return { atMs: load.fromMs + hour * HOUR_MS, expected, upper: load.upper[hour] ?? expected };
  });
  const serving = (await store.heartbeats(swarm)).filter(({ atMs, tunnelUp }) => tunnelUp && nowMs - atMs < HOUR_MS).length;
  const { count, countMax } = spec.endpoints;
  const { basis, days } = load;
  const { mode } = spec.foresight;
  return { swarm, mode, basis, days, count, countMax, ...capacityPlan(spec, hours, Math.max(1, serving)) };
}

const BASIS = {
  history: (days: number) => `from ${days.toFixed(1)} days of its own`,
  peers: () => "from what other swarms do at this time of day: there is less than a day of its own",
  present: () => "as it is at this moment: there is less than a day of its own, and no peer to learn from",
} as const;

export function planAsText(plan: SwarmPlan): string {
  const { swarm, hours, ahead, reactive, basis, days, countMax, mode, count } = plan;
  const rows = hours.map(({ atMs, sessionsP50, sessionsUpper, endpoints, endpointsReactive }) => {
    const expected = `${Math.round(sessionsP50)}`;
    return [
      new Date(atMs).toISOString().slice(5, 16),
      expected,
      `${Math.ceil(sessionsUpper)}`,
      `${endpoints}`,
      `${endpointsReactive}`,
    ];
  });
  const cost = ahead.cost === undefined ? [] : ["COST"];
  const row = (name: string, of: PlanCost) => {
    const money = of.cost === undefined ? [] : [of.cost.toFixed(2)];
    return [name, String(of.endpointHours), String(of.launches), ...money, String(of.lateHours)];
  };
  const fixed = countMax === undefined ? ` It keeps its ${count} endpoints: the swarm file states no endpoints.countMax.` : "";
  const advice = countMax !== undefined && mode !== "act" ? ` Nothing is done ahead while foresight.mode is ${mode}.` : "";
  const lines = [
    `Sessions of ${swarm} in the next ${hours.length} hours, ${BASIS[basis](days)}.${fixed}${advice}`,
    "",
    table([["HOUR (UTC)", "EXPECTED", "UP TO (97.5 %)", "ENDPOINTS", "WITHOUT FORECAST"], ...rows]),
    "",
    table([
      ["", "ENDPOINT HOURS", "LAUNCHES", ...cost, "HOURS SHORT AT FIRST"],
      row("ahead of the load", ahead),
      row("following it", reactive),
    ]),
  ];
  if (ahead.cost === undefined)
    lines.push("", "State endpoints.costPerHour and endpoints.costPerLaunch in the swarm file to see what it costs.");
  return lines.join("\n");
}
