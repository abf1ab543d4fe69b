/** Chance that can be repeated: a generator with a seed, and cards dealt by it. */

/** Mulberry32, a 32-bit generator with one word of state (Tommy Ettinger, public domain); good enough for a schedule. */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Deals all cards in a random order before it deals one again, so that few rounds meet every kind. */
export function dealer<T>(cards: readonly [T, ...T[]], random: () => number): () => T {
  let left: T[] = [];
  return () => {
    if (left.length === 0) left = [...cards];
    return left.splice(Math.floor(random() * left.length), 1)[0] ?? cards[0];
  };
}
