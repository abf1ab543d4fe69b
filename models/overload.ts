/**
 * Overload told from failure. Both lose probes. But an endpoint that is given more than it can carry goes on carrying what it can, and taking it
 * out only gives its load to the next, which falls silent as well: so it is put out only if the others have room for what it holds.
 */
import { OVERLOAD_LIMITS } from "./limits-overload.ts";

/** Packets from clients, over a stretch of time. */
export interface Throughput {
  /** That the balancer sent to the endpoint. */
  readonly given: number;
  /** That came out of its tunnels. */
  readonly passed: number;
}

export interface Carried {
  /** Since the endpoint fell silent, or during the newest second of that. */
  readonly silence: Throughput;
  /** The end of that, long enough to tell that nothing comes out any more. */
  readonly newest: Throughput;
}

/** What is known of a silent endpoint's load. */
export interface MemberLoad {
  readonly sessions: number;
  /** Sessions that it is said to carry. */
  readonly capacity: number;
  /** Sessions that the others that answer have room for. */
  readonly roomElsewhere: number;
  /** Undefined while its silence was not counted twice. */
  readonly carried: Carried | undefined;
  /** It was found at work a moment ago. */
  readonly wasAtWork?: boolean;
}

export type LoadVerdict =
  /** Its silence counts as anybody's. */
  | { readonly kind: "silent" }
  /** It may be at work, and is about to be counted. */
  | { readonly kind: "unknown" }
  | { readonly kind: "at-work"; readonly because: string };

/** Whether what it carries matters at all: where it holds no more than it can, and the others have room for that, silence is enough. */
export function isLoadInDoubt({ sessions, capacity, roomElsewhere }: MemberLoad): boolean {
  return sessions > capacity || sessions > roomElsewhere;
}

/**
 * `missesInARow`, of which `missesNeeded` would eject. A count that takes longer than one more probe is not waited for; where there is
 * nothing to count, as nothing is sent, a little longer, and so where too little comes out of one that holds more than it can. Who was
 * found at work stays so as long as anything comes out.
 */
export function judgeLoad(load: MemberLoad, missesInARow: number, missesNeeded: number): LoadVerdict {
  const { diedPacketsMin, idleFactor, packetsMin, passedMin, silenceFactor } = OVERLOAD_LIMITS;
  const { carried, sessions, capacity, roomElsewhere } = load;
  if (!isLoadInDoubt(load) || missesInARow >= missesNeeded * silenceFactor) return { kind: "silent" };
  const unless = (isLate: boolean): LoadVerdict => (isLate ? { kind: "silent" } : { kind: "unknown" });
  if (carried === undefined) return unless(missesInARow > missesNeeded);
  const { silence, newest } = carried;
  if (newest.given >= diedPacketsMin && newest.passed === 0) return { kind: "silent" };
  if (silence.given < packetsMin) return unless(missesInARow >= missesNeeded * idleFactor);
  const isEnough = silence.passed >= Math.max(passedMin, silence.given * shareNeeded(load));
  // Packets that wait for a moment of CPU make a short share of a short stretch; what is dead passes none of the newest.
  const comesOut = silence.passed >= passedMin && newest.passed > 0;
  if (!isEnough && !(comesOut && load.wasAtWork === true))
    return comesOut && sessions > capacity ? unless(missesInARow >= missesNeeded * idleFactor) : { kind: "silent" };
  const share = Math.min(100, Math.round((silence.passed / silence.given) * 100));
  const because = `it carries ${share} % of what clients send it, holds ${sessions} sessions of ${capacity} that it is said to carry, and the others have room for ${roomElsewhere}`;
  return { kind: "at-work", because };
}

/** What the others would carry of its load, were it theirs: an ejection has to bring more than it costs. */
function shareNeeded({ sessions, roomElsewhere }: MemberLoad): number {
  const { carriedShareMin, carriedShareMax } = OVERLOAD_LIMITS;
  return Math.min(carriedShareMax, Math.max(carriedShareMin, roomElsewhere / sessions));
}
