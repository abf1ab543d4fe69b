/**
 * The control slice: a small share of the endpoints that no prediction takes out of service. What became of them is what would have become
 * of the others with the same prediction, which were taken out before it could be seen.
 */

/** The same endpoint is always in it or always not: a hash of its name decides. */
export function isInControlSlice(swarm: string, endpoint: string, share: number): boolean {
  return placeOfHash(`${swarm}/${endpoint}`) < share;
}

/** A place in [0, 1) that a text always has: 32-bit FNV-1a, ended by MurmurHash3's mixing. */
export function placeOfHash(text: string): number {
  let hash = 0x811c9dc5;
  for (const char of text) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}
