/**
 * How long before they are needed endpoints have to be asked for. A ghost that is woken serves in a moment, a machine that is launched has to
 * boot; and while the endpoints that were asked for are brought up, the need of more grows.
 */

/** Milliseconds until an endpoint that is asked for serves. */
export interface LaunchTimes {
  /** From a ghost. */
  readonly wakeMs: number;
  /** From nothing. */
  readonly launchMs: number;
}

/**
 * The time in which the endpoints asked for now serve, and the time in which those serve that can be asked for next: what is needed
 * until then has to be asked for now. A pool that is emptied is not counted on again: its refill is a launch as well.
 */
export function leadTimeMs(missing: number, ghosts: number, { wakeMs, launchMs }: LaunchTimes): number {
  const nowMs = missing <= ghosts ? wakeMs : launchMs;
  const nextMs = missing < ghosts ? wakeMs : launchMs;
  return nowMs + nextMs;
}
