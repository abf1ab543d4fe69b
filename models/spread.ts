/**
 * Which of the remaining members takes each session of an endpoint that leaves: its designated shadow while that has room, else the
 * member with the smallest load for its weight.
 */
import { ForeshiftError } from "./errors.ts";
import { counted } from "./words.ts";

export interface SpreadMember {
  readonly endpoint: string;
  /** 1..100. */
  readonly weight: number;
  /** Sessions it holds now. */
  readonly sessions: number;
}

export interface SpreadSession {
  readonly publicKey: string;
  /** As designated before; it may be no member any more. */
  readonly shadow: string | undefined;
}

/** What one member takes. */
export interface Share {
  readonly to: string;
  readonly publicKeys: readonly string[];
}

/**
 * `capacitySessions`: what one member carries at weight 100. Sorted by member and by key: the same input in any order gives the same
 * shares. CAPACITY_EXCEEDED when a session finds no member with room.
 */
export function spreadSessions(
  from: string,
  sessions: readonly SpreadSession[],
  members: readonly SpreadMember[],
  capacitySessions: number,
): readonly Share[] {
  const targets: readonly Target[] = members
    .filter((member) => member.endpoint !== from && member.weight > 0)
    .map(({ endpoint, weight, sessions: held }) => ({ endpoint, weight, held, room: (capacitySessions * weight) / 100 - held }))
    .sort((a, b) => (a.endpoint < b.endpoint ? -1 : 1));
  const shares = new Map<string, string[]>();
  for (const { publicKey, shadow } of [...sessions].sort((a, b) => (a.publicKey < b.publicKey ? -1 : 1))) {
    const open = targets.filter((target) => target.room >= 1);
    const target = open.find((candidate) => candidate.endpoint === shadow) ?? leastLoaded(open);
    if (target === undefined) {
      const detail = `${counted(sessions.length, "session")} to move, and ${counted(targets.length, "other member")} without room for all of them`;
      throw new ForeshiftError("CAPACITY_EXCEEDED", { field: "endpoint", value: from, detail });
    }
    target.held += 1;
    target.room -= 1;
    shares.set(target.endpoint, [...(shares.get(target.endpoint) ?? []), publicKey]);
  }
  return [...shares].sort(([a], [b]) => (a < b ? -1 : 1)).map(([to, publicKeys]) => ({ to, publicKeys }));
}

interface Target {
  readonly endpoint: string;
  readonly weight: number;
  held: number;
  room: number;
}

/** Counted with the session to come, so that an empty member of little weight does not win over a big one. */
function leastLoaded(targets: readonly Target[]): Target | undefined {
  const load = ({ held, weight }: Target) => (held + 1) / weight;
  return targets.reduce<Target | undefined>(
    (least, next) => (least !== undefined && load(least) <= load(next) ? least : next),
    undefined,
  );
}
