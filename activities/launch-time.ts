/** How long it takes until a machine that is asked for serves, as the last launches and wakes of ghosts took. */
import type { AuditRow } from "../drivers/ports.ts";
import { addRunIds, runIdOf } from "../models/decision.ts";
import type { LaunchTimes } from "../models/lead-time.ts";
import { LIMITS } from "../models/limits.ts";

type EndRow = Pick<AuditRow, "atMs" | "outcome" | "details">;

/** Where the runs' last words are. */
export interface LaunchTrail {
  auditTrail(query: {
    readonly swarm: string;
    readonly workflowId: string;
    readonly limit: number;
  }): Promise<readonly EndRow[]>;
}

/** From the begin of a run that adds endpoints, or ghosts, to its end; an assumption before the first such run. */
export async function measuredLaunchTimes(store: LaunchTrail, swarm: string): Promise<LaunchTimes> {
  const rowsOf = (workflowId: string) => store.auditTrail({ swarm, workflowId, limit: LIMITS.foresight.launchRowsMax });
  const [refilled, ...added] = await Promise.all([runIdOf(swarm, "ghosts", undefined), ...addRunIds(swarm)].map(rowsOf));
  return launchTimesOf(
    added.flat().toSorted((one, other) => one.atMs - other.atMs),
    refilled ?? [],
  );
}

/**
 * A run that launched anything is a launch, one that woke all it brought up is a wake. Before the first launch of an endpoint, a ghost's
 * is the measure: the pool is refilled one by one.
 */
export function launchTimesOf(added: readonly EndRow[], refilled: readonly EndRow[]): LaunchTimes {
  const cold = usualOf(added.filter((row) => launchedBy(row) !== 0).map(tookMs));
  const ghost = usualOf(refilled.map((row) => tookMs(row) / (launchedBy(row) ?? 1)));
  const launchMs = cold ?? ghost ?? LIMITS.foresight.launchMsAssumed;
  const wakeMs = usualOf(added.filter((row) => launchedBy(row) === 0).map(tookMs));
  return { launchMs, wakeMs: Math.min(launchMs, wakeMs ?? launchMs) };
}

/** Of the newest few the slowest but one: a single run that hung, or was halted by the stop switch, does not set the measure. */
function usualOf(took: readonly number[]): number | undefined {
  const newest = took.filter((ms) => ms > 0).slice(-LIMITS.foresight.launchesMax);
  const slowest = newest.toSorted((one, other) => other - one);
  return slowest[1] ?? slowest[0];
}

/** Not a number for a row that measures nothing. */
function tookMs({ atMs, outcome, details: { startedAtMs } }: EndRow): number {
  return outcome === "done" && typeof startedAtMs === "number" ? atMs - startedAtMs : Number.NaN;
}

/** Machines that were launched for it rather than woken; undefined in rows that do not say. */
function launchedBy({ details: { launched } }: EndRow): number | undefined {
  return typeof launched === "number" ? launched : undefined;
}
