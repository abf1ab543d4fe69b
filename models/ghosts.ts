/** Suspended machines that are not to be woken any more: others are put in their places first. */
import { isOfAnother } from "./image.ts";
import type { Observation } from "./observation.ts";

/** Of another image than the one in force. */
export function staleGhosts({ ghosts, ghostImages = {} }: Observation, inForce: string | undefined): readonly string[] {
  return ghosts.filter((ghost) => isOfAnother(ghostImages[ghost], inForce));
}
