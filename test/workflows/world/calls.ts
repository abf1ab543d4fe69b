/** How the ports of a world are called: each call can be made to fail, or to kill its caller, before or after it took effect. */

/** Called for each call on a port, by name as in `agent.adopt`; may throw instead. `operation` is undefined for what only reads. */
export type Interceptor = (call: string, operation: string | undefined, phase: "before" | "after") => void | Promise<void>;

export class Calls {
  intercept: Interceptor = () => undefined;
  readonly #done = new Map<string, unknown>();

  /** Takes effect once for each operation, as every real driver promises; the answer is kept. */
  async change<T>(call: string, operation: string, effect: () => T): Promise<T> {
    await this.intercept(call, operation, "before");
    const key = `${call} ${operation}`;
    if (!this.#done.has(key)) this.#done.set(key, effect());
    await this.intercept(call, operation, "after");
    return this.#done.get(key) as T;
  }

  /** Takes effect each time. */
  async each<T>(call: string, effect: () => T): Promise<T> {
    await this.intercept(call, undefined, "before");
    const answer = effect();
    await this.intercept(call, undefined, "after");
    return answer;
  }

  async read<T>(call: string, look: () => T, operation?: string): Promise<T> {
    await this.intercept(call, operation, "before");
    return look();
  }
}
