/** When keys are rotated by themselves: what the swarm files and the stop switch make of it. */
import { KEY_KINDS, type KeyKind, scopeOf } from "./keys.ts";
import { STOPPED_NOTE } from "./retraining/schedule.ts";
import type { SwarmSpec } from "./swarm-spec.ts";

/** Times in milliseconds. */
export interface KeySchedule {
  readonly id: string;
  readonly swarm: string;
  readonly kind: KeyKind;
  readonly everyMs: number;
  readonly jitterMs: number;
  readonly catchUpMs: number;
  /** Why it stands still; undefined: it does not. */
  readonly pausedBecause: string | undefined;
}

/** Id of the Schedule, and what the ids of its runs begin with. */
export function rotationDueId(swarm: string, kind: KeyKind | ""): string {
  return swarm === "" ? "rotate-due/" : `rotate-due/${swarm}/${kind}`;
}

/** Jitter never reaches into the next interval, nor does what is made up for. */
export function wantedRotations(
  specs: readonly Pick<SwarmSpec, "name" | "keys">[],
  switches: readonly { readonly scope: string; readonly by: string; readonly reason: string }[],
): readonly KeySchedule[] {
  const wanted = specs.flatMap(({ name, keys }) =>
    KEY_KINDS.flatMap((kind) => {
      const swarm = scopeOf(kind, name);
      const held = switches.find(({ scope }) => scope === "*" || scope === swarm);
      const pausedBecause = held === undefined ? undefined : STOPPED_NOTE;
      const { catchUpMs, everyMs, jitterMs } = keys[kind];
      if (everyMs === undefined) return [];
      const bounded = { jitterMs: Math.min(jitterMs, Math.floor(everyMs / 2)), catchUpMs: Math.min(catchUpMs, everyMs) };
      return [{ id: rotationDueId(swarm, kind), swarm, kind, everyMs, ...bounded, pausedBecause }];
    }),
  );
  // Of what is everybody's, the swarm counts that wants it most often.
  const byId = Map.groupBy(wanted, ({ id }) => id);
  return [...byId.values()].flatMap((same) => same.toSorted((a, b) => a.everyMs - b.everyMs).slice(0, 1));
}
