/**
 * Overload told from failure. Both lose probes. But an endpoint that is given more than it can carry goes on carrying what it can, and taking it
 * out only gives its load to the next, which falls silent as well: so it is put out only if the others have room for what it holds.
 */
import { OVERLOAD_LIMITS } from "./limits-overload.ts";

/** Packets from clients during a stretch of an endpoint's silence. */
export interface Carried {
  /** That the balancer sent to it. */
  readonly given: number;
  /** That came out of its tunnels. */
  readonly passed: number;
}

/** What is known of a silent endpoint's load. */
export interface MemberLoad {
  readonly sessions: number;
  /** Sessions that it is said to carry. */
  readonly capacity: number;
  /** Sessions that the others that answer have room for. */
  readonly roomElsewhere: number;
  /** Over the newest stretch of its silence; undefined while that was not counted. */
  readonly carried: Carried | undefined;
}

export type LoadVerdict =
  /** Its silence counts as anybody's. */
  | { readonly kind: "silent" }
  /** It may be at work, and is about to be counted. */
  | { readonly kind: "unknown" }
  | { readonly kind: "at-work"; readonly because: string };

/** Whether what it carries matters at all: where it holds no more than it can, and the others have room, silence is enough to move. */
export function isLoadInDoubt({ sessions, capacity, roomElsewhere }: MemberLoad): boolean {
  return sessions > capacity || sessions > roomElsewhere;
}

/** `missesInARow`, of which `missesNeeded` would eject. What cannot be counted within one more probe is not waited for. */
export function judgeLoad(load: MemberLoad, missesInARow: number, missesNeeded: number): LoadVerdict {
  if (!isLoadInDoubt(load) || missesInARow >= missesNeeded * OVERLOAD_LIMITS.silenceFactor) return { kind: "silent" };
  const { carried, sessions, capacity, roomElsewhere } = load;
  if (carried === undefined) return missesInARow > missesNeeded ? { kind: "silent" } : { kind: "unknown" };
  const { given, passed } = carried;
  if (given < OVERLOAD_LIMITS.packetsMin || passed < given * OVERLOAD_LIMITS.carriedShareMin) return { kind: "silent" };
  const share = Math.min(100, Math.round((passed / given) * 100));
  const because = `it carries ${share} % of what clients send it, holds ${sessions} sessions of ${capacity} that it is said to carry, and the others have room for ${roomElsewhere}`;
  return { kind: "at-work", because };
}
