/** How long it takes until a machine that is asked for serves, as the last launches and wakes of ghosts took. */
import type { AuditRow, Store } from "../drivers/ports.ts";
import { runIdOf } from "../models/decision.ts";
import { LIMITS } from "../models/limits.ts";

/** Milliseconds from the begin of a run that adds endpoints to its end; an assumption before the first such run. */
export async function measuredLaunchMs(store: Pick<Store, "auditTrail">, swarm: string): Promise<number> {
  const workflowId = runIdOf(swarm, "add", undefined);
  return launchMsOf(await store.auditTrail({ swarm, workflowId, limit: LIMITS.foresight.launchRowsMax }));
}

/** Of the newest few the slowest but one: a single launch that hung, or was halted by the stop switch, does not set the measure. */
export function launchMsOf(rows: readonly Pick<AuditRow, "atMs" | "outcome" | "details">[]): number {
  const took = rows
    .flatMap(({ atMs, outcome, details: { startedAtMs } }) =>
      outcome === "done" && typeof startedAtMs === "number" && atMs > startedAtMs ? [atMs - startedAtMs] : [],
    )
    .slice(-LIMITS.foresight.launchesMax)
    .toSorted((one, other) => other - one);
  return took[1] ?? took[0] ?? LIMITS.foresight.launchMsAssumed;
}
