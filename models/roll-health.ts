/**
 * Whether an image makes things worse: endpoints that serve from it are held against those that do not, over the same time. What fails
 * for both alike is not the image's fault.
 */
import { ROLL_LIMITS } from "./limits-roll.ts";
import type { EndpointObservation, Observation } from "./observation.ts";
import { isServing, type RoundTrips, read, roundTrips } from "./signals.ts";
import type { Thresholds } from "./swarm-spec.ts";

/** What a rollout has seen of one endpoint. */
export interface Seen {
  readonly endpoint: string;
  /** It is of the image that is rolled out. */
  readonly isNew: boolean;
  /** Unix milliseconds since when it has been anything but healthy, without a break. */
  readonly suspectSinceMs?: number | undefined;
  /** What was wrong with it, for so long that the swarm itself would replace it; it stays known. */
  readonly bad?: string | undefined;
}

interface Rollout {
  readonly image: string;
  readonly previous: string;
  readonly seen: readonly Seen[];
}

export function judged(roll: Rollout, thresholds: Thresholds, observation: Observation, now: number): readonly Seen[] {
  const trips = roundTrips(observation);
  const known = new Map(roll.seen.map((one) => [one.endpoint, one]));
  for (const one of observation.endpoints) {
    const before = known.get(one.endpoint);
    const isJudged = before !== undefined || (isServing(one) && one.image !== undefined && one.revoked !== true);
    if (isJudged) known.set(one.endpoint, judge(one, before, roll, thresholds, trips, now));
  }
  return [...known.values()].slice(-ROLL_LIMITS.seenMax);
}

function judge(
  one: EndpointObservation,
  before: Seen | undefined,
  roll: Rollout,
  thresholds: Thresholds,
  trips: RoundTrips | undefined,
  now: number,
): Seen {
  const { endpoint } = one;
  const held: Seen = { endpoint, isNew: before?.isNew ?? one.image === roll.image };
  if (before?.bad !== undefined) return { ...held, bad: before.bad };
  // While it is taken out of service on purpose, whatever is missed says nothing of the image; but what was in doubt before may be why.
  const isInDoubt = held.isNew && before?.suspectSinceMs !== undefined;
  if (one.revoked === true || (one.draining && !isInDoubt)) return held;
  const isDead = one.ejected || one.machine === "gone";
  if (!isDead && !isServing(one) && !one.draining) return held;
  const { signal, text } = read(one, undefined, thresholds, trips);
  if (signal === "healthy") return held;
  const suspectSinceMs = before?.suspectSinceMs ?? now;
  const { holdMs, replaceAfterMs } = thresholds;
  const patienceMs = signal === "critical" ? holdMs : Math.max(holdMs, replaceAfterMs);
  return isDead || now - suspectSinceMs >= patienceMs ? { ...held, bad: text } : { ...held, suspectSinceMs };
}

/**
 * Why the image is worse, undefined while it is not: the share of bad ones among those of the image, less their share among the others,
 * is above what is tolerated.
 */
export function worse(seen: readonly Seen[], worseShareMax: number): string | undefined {
  const [of, others] = [seen.filter((one) => one.isNew), seen.filter((one) => !one.isNew)];
  const [bad, badOthers] = [of, others].map((group) => group.filter((one) => one.bad !== undefined)) as [Seen[], Seen[]];
  const excess = shareOf(bad.length, of.length) - shareOf(badOthers.length, others.length);
  if (bad.length === 0 || excess <= worseShareMax) return undefined;
  const first = bad[0];
  const elsewhere = `${badOthers.length} of ${others.length} of the others`;
  return `${bad.length} of ${of.length} endpoints of the new image went bad and ${elsewhere} (${first?.endpoint}: ${first?.bad}).`;
}

function shareOf(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}
