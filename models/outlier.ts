/**
 * Outlier ejection, after Envoy's: when a member that does not answer is put out, for how long, and when the prober is doubted instead.
 */
import { LIMITS } from "./limits.ts";
import { OVERLOAD_LIMITS } from "./limits-overload.ts";
import { judgeLoad, type MemberLoad } from "./overload.ts";
import type { OutlierPolicy } from "./steering.ts";

/** What is known of one member between two probes. Times are Unix milliseconds. */
export interface OutlierRecord {
  readonly endpoint: string;
  readonly missesInARow: number;
  readonly answersInARow: number;
  /** It has answered at least once since it became a member: only then does silence mean anything. */
  readonly proven: boolean;
  readonly ejectedAtMs: number | undefined;
  /** All its ejections so far. */
  readonly ejections: number;
  /** Ejections in quick succession: what the next ejection's length grows with. */
  readonly streak: number;
  readonly returnedAtMs: number | undefined;
  /** When it was last found overloaded; undefined once that has passed. */
  readonly overloadedAtMs: number | undefined;
}

export function newRecord(endpoint: string): OutlierRecord {
  return {
    endpoint,
    missesInARow: 0,
    answersInARow: 0,
    proven: false,
    ejectedAtMs: undefined,
    ejections: 0,
    streak: 0,
    returnedAtMs: undefined,
    overloadedAtMs: undefined,
  };
}

export function afterAnswer(record: OutlierRecord): OutlierRecord {
  return { ...record, missesInARow: 0, answersInARow: record.answersInARow + 1, proven: true };
}

export function afterMiss(record: OutlierRecord): OutlierRecord {
  return { ...record, missesInARow: record.missesInARow + 1, answersInARow: 0 };
}

export type EjectionDecision =
  | { readonly kind: "none" }
  | { readonly kind: "eject" }
  /** It may be overloaded rather than dead, which the next count of its packets says. */
  | { readonly kind: "wait" }
  /** It is overloaded: it stays, and gets few new sessions. */
  | { readonly kind: "tolerate"; readonly because: string }
  /** `panic`: so many are silent that the prober itself is doubted. */
  | { readonly kind: "refuse"; readonly panic: boolean; readonly because: string };

/** Whether `endpoint` is to be ejected, given what is known of all members, and of its load unless its WireGuard is known to be gone. */
export function decideEjection(
  endpoint: string,
  members: readonly OutlierRecord[],
  policy: OutlierPolicy,
  load?: MemberLoad,
): EjectionDecision {
  const record = members.find((member) => member.endpoint === endpoint);
  if (record === undefined || record.ejectedAtMs !== undefined || !isSilent(record, policy)) return { kind: "none" };
  const needed = missesNeeded(record, members, policy);
  if (record.missesInARow < needed) return { kind: "none" };
  const wasAtWork = isOverloaded(record);
  const verdict = load === undefined ? undefined : judgeLoad({ ...load, wasAtWork }, record.missesInARow, needed);
  if (verdict?.kind === "unknown") return { kind: "wait" };
  if (verdict?.kind === "at-work") return { kind: "tolerate", because: verdict.because };
  // Who was just found at work is silent for another reason than the prober's.
  const answers = (member: OutlierRecord) => !isSilent(member, policy) || isOverloaded(member);
  const healthy = members.filter((member) => member !== record && member.ejectedAtMs === undefined && answers(member)).length;
  if (healthy === 0 || healthy * 100 < members.length * policy.panicThresholdPercent) {
    const because = `only ${healthy} of ${members.length} members answer, below the panic threshold of ${policy.panicThresholdPercent} %`;
    return { kind: "refuse", panic: true, because };
  }
  const ejected = members.filter((member) => member.ejectedAtMs !== undefined).length;
  const ejectedMax = Math.max(1, Math.floor((members.length * policy.ejectedShareMaxPercent) / 100));
  if (ejected >= ejectedMax) {
    return {
      kind: "refuse",
      panic: false,
      because: `${ejected} of ${members.length} members are ejected already, ${ejectedMax} may be`,
    };
  }
  return { kind: "eject" };
}

/** Members that fall silent together have more likely a prober in common than a fault: the silence has to last longer. */
function missesNeeded(record: OutlierRecord, members: readonly OutlierRecord[], policy: OutlierPolicy): number {
  const others = members.filter((member) => member !== record && member.proven && member.ejectedAtMs === undefined);
  const missing = others.filter((member) => member.missesInARow > 0).length;
  const isCommon = missing > 0 && missing * 2 >= others.length;
  return policy.missesToEject * (isCommon ? LIMITS.reflex.commonSilenceFactor : 1);
}

function isSilent(record: OutlierRecord, policy: OutlierPolicy): boolean {
  return record.proven && record.missesInARow >= policy.missesToEject;
}

function isOverloaded({ overloadedAtMs }: OutlierRecord): boolean {
  return overloadedAtMs !== undefined;
}

export function tolerated(record: OutlierRecord, nowMs: number): OutlierRecord {
  return { ...record, overloadedAtMs: nowMs };
}

/** The record once its overload has passed; the very same one while there is nothing to forget. */
export function afterOverload(record: OutlierRecord, nowMs: number): OutlierRecord {
  const { overloadedAtMs } = record;
  if (overloadedAtMs === undefined || nowMs - overloadedAtMs < OVERLOAD_LIMITS.holdMs) return record;
  return { ...record, overloadedAtMs: undefined };
}

export function ejected(record: OutlierRecord, policy: OutlierPolicy, nowMs: number): OutlierRecord {
  const quietSince = record.returnedAtMs;
  const flapping = quietSince !== undefined && nowMs - quietSince < policy.ejectionLongestMs;
  return {
    ...record,
    ejectedAtMs: nowMs,
    ejections: record.ejections + 1,
    streak: flapping ? record.streak + 1 : 1,
    answersInARow: 0,
    returnedAtMs: undefined,
    overloadedAtMs: undefined,
  };
}

/** How long the present ejection lasts at least. */
export function ejectionMs(record: OutlierRecord, policy: OutlierPolicy): number {
  return Math.min(policy.ejectionBaseMs * 2 ** Math.max(0, record.streak - 1), policy.ejectionLongestMs);
}

export function mayReturn(record: OutlierRecord, policy: OutlierPolicy, nowMs: number): boolean {
  if (record.ejectedAtMs === undefined || record.answersInARow < policy.answersToReturn) return false;
  return nowMs - record.ejectedAtMs >= ejectionMs(record, policy);
}

export function returned(record: OutlierRecord, nowMs: number): OutlierRecord {
  return { ...record, ejectedAtMs: undefined, returnedAtMs: nowMs, missesInARow: 0 };
}

/**
 * Weight in force: none while ejected or draining, next to none while overloaded (where everybody is, all have as little); after a return
 * from a small share up to the full one, in ten steps.
 */
export function effectiveWeight(
  weight: number,
  draining: boolean,
  record: OutlierRecord,
  policy: OutlierPolicy,
  nowMs: number,
): number {
  if (draining || weight === 0 || record.ejectedAtMs !== undefined) return 0;
  if (isOverloaded(record)) return 1;
  if (record.returnedAtMs === undefined || policy.slowStartMs === 0) return weight;
  const first = LIMITS.members.slowStartSharePercent;
  const elapsed = Math.max(0, nowMs - record.returnedAtMs) / policy.slowStartMs;
  const percent = Math.min(100, Math.max(first, Math.floor(elapsed * 10) * 10));
  return Math.max(1, Math.round((weight * percent) / 100));
}
