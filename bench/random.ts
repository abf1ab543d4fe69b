/** Chance that can be repeated: a generator with a seed, and cards dealt by it. */

/** Deals all cards in a random order before it deals one again, so that few rounds meet every kind. */
export function dealer<T>(cards: readonly [T, ...T[]], random: () => number): () => T {
  let left: T[] = [];
  return () => {
    if (left.length === 0) left = [...cards];
    return left.splice(Math.floor(random() * left.length), 1)[0] ?? cards[0];
  };
}
