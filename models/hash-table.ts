/**
 * The balancer's table of buckets: which slot a client's hash, or its turn, leads to. Shares are exact to one bucket, and a change moves
 * no bucket that need not move: removing a member remaps its own buckets only.
 */
import { LIMITS } from "./limits.ts";

/** A member that takes new sessions; `slot` is above 0 and stable for the member's life, `weight` is relative. */
export interface Share {
  readonly slot: number;
  readonly weight: number;
}

/** Slot of each bucket. */
export type BucketTable = readonly number[];

/**
 * Enough buckets that one more or less is under 1 % of a full share. A table never shrinks, and it grows by a power of two, so that
 * `hash mod size` of a grown table leads where it led before.
 */
export function tableSize(members: number, present: number): number {
  let size = Math.max(LIMITS.reflex.bucketsMin, present);
  while (size < members * LIMITS.reflex.bucketsPerMemberMin && size < LIMITS.reflex.bucketsMax) size *= 2;
  return size;
}

/** Whole buckets for each share, adding up to `size` (largest remainder); all zero when no weight is above 0. */
export function bucketCounts(shares: readonly Share[], size: number): ReadonlyMap<number, number> {
  const total = shares.reduce((sum, share) => sum + share.weight, 0);
  if (total === 0) return new Map();
  const exact = shares.map((share) => ({ slot: share.slot, exact: (share.weight / total) * size }));
  const counts = new Map(exact.map((share) => [share.slot, Math.floor(share.exact)]));
  const given = [...counts.values()].reduce((sum, count) => sum + count, 0);
  const byRemainder = exact.toSorted((a, b) => (b.exact % 1) - (a.exact % 1) || a.slot - b.slot);
  for (const { slot } of byRemainder.slice(0, size - given)) counts.set(slot, (counts.get(slot) ?? 0) + 1);
  return counts;
}

/**
 * The table after `previous` (empty at first) for consistent hashing. Each bucket prefers slots in an order of its own (rendezvous
 * hashing), so that a member that returns gets back most of what it had. Empty when nobody takes sessions.
 */
export function hashTable(
  previous: BucketTable,
  shares: readonly Share[],
  size = tableSize(shares.length, previous.length),
): BucketTable {
  const counts = bucketCounts(shares, size);
  if (counts.size === 0) return [];
  const table = Array.from({ length: size }, (_, bucket) => previous[bucket % Math.max(1, previous.length)] ?? 0);
  const free = releaseSurplus(table, counts);
  const held = new Map<number, number>();
  for (const slot of table) if (slot !== 0) held.set(slot, (held.get(slot) ?? 0) + 1);
  const wanting = new Map(
    [...counts].map(([slot, count]) => [slot, count - (held.get(slot) ?? 0)] as const).filter(([, need]) => need > 0),
  );
  for (const bucket of free) {
    let best = 0;
    let bestScore = -1;
    for (const slot of wanting.keys()) {
      const score = scoreOf(slot, bucket);
      if (score > bestScore) [best, bestScore] = [slot, score];
    }
    table[bucket] = best;
    const need = (wanting.get(best) ?? 0) - 1;
    if (need > 0) wanting.set(best, need);
    else wanting.delete(best);
  }
  return table;
}

/** Empties the buckets of those who hold more than their count, their least preferred first; answers all that are empty, in order. */
function releaseSurplus(table: number[], counts: ReadonlyMap<number, number>): number[] {
  const buckets = new Map<number, number[]>();
  table.forEach((slot, bucket) => {
    const own = buckets.get(slot);
    if (own === undefined) buckets.set(slot, [bucket]);
    else own.push(bucket);
  });
  const free = buckets.get(0) ?? [];
  buckets.delete(0);
  for (const [slot, own] of buckets) {
    const count = counts.get(slot) ?? 0;
    if (own.length <= count) continue;
    const leastPreferred = count === 0 ? own : own.toSorted((a, b) => scoreOf(slot, a) - scoreOf(slot, b));
    free.push(...leastPreferred.slice(0, own.length - count));
  }
  for (const bucket of free) table[bucket] = 0;
  return free.sort((a, b) => a - b);
}

/** The table for taking turns: smooth weighted round robin (as in nginx), so that a heavy member's turns are spread out. */
export function turnTable(shares: readonly Share[], size = tableSize(shares.length, 0)): BucketTable {
  const counts = bucketCounts(shares, size);
  if (counts.size === 0) return [];
  const turns = [...counts].filter(([, count]) => count > 0).map(([slot, count]) => ({ slot, count, credit: 0 }));
  return Array.from({ length: size }, () => {
    let next = turns[0];
    for (const turn of turns) {
      turn.credit += turn.count;
      if (next === undefined || turn.credit > next.credit) next = turn;
    }
    if (next === undefined) return 0;
    next.credit -= size;
    return next.slot;
  });
}

/** A member and the sessions it holds; `weight` stands for its capacity. */
export interface Load extends Share {
  readonly sessions: number;
}

/**
 * Least connections: each member's share of the new sessions is what it lacks to an even load. The level is that of all present
 * sessions and one table's worth of turns for each member more, so a member that is far above it gets none for now. Who takes none,
 * whatever it holds, is no measure for the others.
 */
export function leastConnectionShares(loads: readonly Load[]): readonly Share[] {
  const taking = loads.filter(({ weight }) => weight > 0);
  const capacity = taking.reduce((sum, load) => sum + load.weight, 0);
  if (capacity === 0) return loads.map(({ slot }) => ({ slot, weight: 0 }));
  const sessions = taking.reduce((sum, load) => sum + load.sessions, 0);
  const expected = sessions + Math.max(taking.length, Math.ceil(sessions * 0.1));
  return loads.map(({ slot, weight, sessions: present }) => ({
    slot,
    weight: Math.max(0, (weight / capacity) * expected - present),
  }));
}

/** A member's load, and what it carries. */
export interface Fill extends Load {
  readonly capacity: number;
}

/** Bounded loads: whoever holds as many sessions as it carries takes no new ones while anybody has room. */
export function withinCapacity(fills: readonly Fill[]): readonly Load[] {
  const hasRoom = ({ weight, sessions, capacity }: Fill) => weight > 0 && sessions < capacity;
  const bounds = fills.some(hasRoom);
  return fills.map((fill) => ({
    slot: fill.slot,
    sessions: fill.sessions,
    weight: bounds && !hasRoom(fill) ? 0 : fill.weight,
  }));
}

/** How much a bucket prefers a slot: MurmurHash3's finaliser over both. */
function scoreOf(slot: number, bucket: number): number {
  let mixed = Math.imul(slot, 0x9e3779b1) ^ Math.imul(bucket + 1, 0x85ebca77);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
