/** When failure models are trained anew: what the swarm files and the stop switch make of it. */
import type { SwarmSpec } from "../swarm-spec.ts";

export interface RetrainSchedule {
  readonly swarm: string;
  readonly everyMs: number;
  /** Why it stands still; undefined: it does not. */
  readonly pausedBecause: string | undefined;
}

/** Id of a swarm's Schedule, and what the ids of its runs begin with. */
export function retrainIdOf(swarm: string): string {
  return `retrain/${swarm}`;
}

/** Words that a Schedule is paused with by us, and taken up again by: what a person has paused stays so. */
export const STOPPED_BY = "Stopped by";
/** A Schedule's note is nothing that the payload codec seals, so it repeats nobody's words. */
export const STOPPED_NOTE = `${STOPPED_BY} the stop switch; who did it and why: foreshift audit`;

export function wantedSchedules(
  specs: readonly SwarmSpec[],
  switches: readonly { readonly scope: string; readonly by: string; readonly reason: string }[],
): readonly RetrainSchedule[] {
  return specs.flatMap(({ name: swarm, foresight }) => {
    if (foresight.mode === "off" || foresight.retrain?.mode !== "on") return [];
    const held = switches.find(({ scope }) => scope === "*" || scope === swarm);
    const pausedBecause = held === undefined ? undefined : STOPPED_NOTE;
    return [{ swarm, everyMs: foresight.retrain.everyMs, pausedBecause }];
  });
}
