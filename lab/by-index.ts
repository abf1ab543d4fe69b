/** What the two ends of the lab's traffic keep for each session, under the session's number. */
export class ByIndex<T> extends Map<number, T> {
  required(index: number): T {
    const found = this.get(index);
    if (found === undefined) throw new Error(`there is no session ${index}`);
    return found;
  }

  /** One value for each, as it travels. */
  table<V>(value: (one: T) => V): Record<number, V> {
    return Object.fromEntries([...this].map(([index, one]) => [index, value(one)]));
  }
}
