/**
 * What the next days will need and cost: endpoints hour by hour as the forecast asks for them, beside a swarm that only follows what is
 * there already. Pure arithmetic on a forecast; nothing is decided by it.
 */
import { endpointsFor } from "./scale.ts";
import type { SwarmSpec } from "./swarm-spec.ts";

const HOUR_MS = 3_600_000;

/** Sessions expected in one hour, its mean. */
export interface ExpectedHour {
  readonly atMs: number;
  readonly expected: number;
  /** What capacity is planned for: the upper end of the 95 % interval. */
  readonly upper: number;
}

export interface PlannedHour {
  readonly atMs: number;
  readonly sessionsP50: number;
  readonly sessionsUpper: number;
  /** With the forecast, and without it. */
  readonly endpoints: number;
  readonly endpointsReactive: number;
}

/** What one way of choosing endpoints takes. Money is in the unit of the swarm file's costs, undefined where it states none. */
export interface PlanCost {
  readonly endpointHours: number;
  readonly launches: number;
  readonly cost: number | undefined;
  /** Hours that begin with more expected sessions than the endpoints of the hour before were to carry: what comes is there before them. */
  readonly lateHours: number;
}

export interface CapacityPlan {
  readonly hours: readonly PlannedHour[];
  readonly ahead: PlanCost;
  readonly reactive: PlanCost;
}

/** `present`: endpoints there are now. Neither way gives an endpoint up before `scaleInAfterMs`. */
export function capacityPlan(spec: SwarmSpec, hours: readonly ExpectedHour[], present: number): CapacityPlan {
  const needed = hours.map(({ expected }) => endpointsFor(spec, expected));
  const wanted = hours.map(({ upper }, hour) => Math.max(needed[hour] ?? 0, endpointsFor(spec, upper)));
  const keepHours = Math.ceil(spec.endpoints.scaleInAfterMs / HOUR_MS);
  const ahead = courseOf(wanted, present, keepHours);
  const reactive = courseOf(needed, present, keepHours);
  return {
    hours: hours.map(({ atMs, expected, upper }, hour) => ({
      atMs,
      sessionsP50: expected,
      sessionsUpper: upper,
      endpoints: ahead[hour] ?? 0,
      endpointsReactive: reactive[hour] ?? 0,
    })),
    ahead: costOf(spec, ahead, present, needed, "ahead"),
    reactive: costOf(spec, reactive, present, needed, "reactive"),
  };
}

/** As many as are wanted in the hour or were within the hours before it; what is there at first counts as wanted then. */
function courseOf(wanted: readonly number[], present: number, keepHours: number): number[] {
  const all = [present, ...wanted];
  return wanted.map((_, hour) => Math.max(...all.slice(Math.max(0, hour + 1 - keepHours), hour + 2)));
}

function costOf(
  spec: SwarmSpec,
  course: readonly number[],
  present: number,
  needed: readonly number[],
  way: "ahead" | "reactive",
): PlanCost {
  const { costPerHour, costPerLaunch = 0 } = spec.endpoints;
  const before = [present, ...course];
  const endpointHours = course.reduce((sum, one) => sum + one, 0);
  const launches = course.reduce((sum, one, hour) => sum + Math.max(0, one - (before[hour] ?? one)), 0);
  const cost = costPerHour === undefined ? undefined : endpointHours * costPerHour + launches * costPerLaunch;
  // Ahead, the machines of an hour are there when it begins; reactive, they are asked for when its sessions are.
  const there = way === "ahead" ? course : before;
  const lateHours = needed.filter((one, hour) => one > (there[hour] ?? one)).length;
  return { endpointHours, launches, cost, lateHours };
}
