/** Suspended machines that are not to be woken any more: others are put in their places first. */
import { isOfAnother } from "./image.ts";
import type { Observation } from "./observation.ts";

/** Of another image than the one in force. */
export function staleGhosts({ ghosts, ghostImages = {} }: Observation, inForce: string | undefined): readonly string[] {
  return ghosts.filter((ghost) => isOfAnother(ghostImages[ghost], inForce));
}

/** Kept for longer than `ageMaxMs`, where the hypervisor tells since when they have been there; undefined: however long. */
export function agedGhosts(
  { ghosts, ghostsSinceMs = {} }: Observation,
  ageMaxMs: number | undefined,
  now: number,
): readonly string[] {
  if (ageMaxMs === undefined) return [];
  return ghosts.filter((ghost) => now - (ghostsSinceMs[ghost] ?? now) >= ageMaxMs);
}
