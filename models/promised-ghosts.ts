/** Which suspended machines are promised to which run: one machine to one run. */
import type { RunUnderWay } from "./decision.ts";
import { isOfAnother } from "./image.ts";
import type { Observation } from "./observation.ts";
import { ROLL_CAUSE } from "./roll.ts";
import type { Step } from "./step.ts";

/**
 * Ghosts that the run of this step may wake, or that it is to replace: none that is promised to another run. Those of the image in force
 * before others. While one is being rolled out no other is woken: the former may be what is being got rid of, and on the way back the
 * image may be what made things worse.
 */
export function ghostsFor(
  step: Step,
  underWay: readonly RunUnderWay[],
  observation: Observation,
  inForce: string | undefined,
): readonly string[] {
  const promised = new Set(underWay.flatMap((run) => run.ghosts));
  const free = observation.ghosts.filter((ghost) => !promised.has(ghost));
  if (step.kind === "replenish-ghosts") return free.filter((ghost) => step.replaces?.includes(ghost) === true);
  const isStale = (ghost: string) => isOfAnother(observation.ghostImages?.[ghost], inForce);
  const fresh = free.filter((ghost) => !isStale(ghost));
  const isRolling = underWay.some((run) => run.kind === "roll") || ("cause" in step && step.cause === ROLL_CAUSE);
  return [...fresh, ...(isRolling ? [] : free.filter(isStale))].slice(0, machinesWanted(step));
}

/** How many machines the run brings into service, each of which a ghost may become. */
function machinesWanted(step: Exclude<Step, { kind: "replenish-ghosts" }>): number {
  switch (step.kind) {
    case "add-endpoints":
      return step.count;
    case "finish-lost":
      return 1;
    case "drain-and-replace":
      return step.mode === "drain" ? 0 : 1;
    case "set-weight":
    case "relieve":
    case "page":
      return 0;
  }
}
