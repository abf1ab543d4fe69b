/**
 * Waiting for a condition of the outside world that sends no event: asked again until it holds or the time is up.
 */
import { setTimeout as delay } from "node:timers/promises";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";

export interface AwaitOptions {
  /** What is waited for, as in "… is not ready". */
  readonly what: string;
  readonly timeoutMs: number;
  readonly pollMs?: number;
}

/**
 * The first value of `ask` that is not undefined. An error of `ask` counts as "not yet". NOT_READY once the time is up, with the last
 * error in it.
 */
export async function until<T>(ask: () => Promise<T | undefined>, options: AwaitOptions): Promise<T> {
  const deadline = performance.now() + options.timeoutMs;
  let last = "the condition does not hold";
  for (;;) {
    try {
      const value = await ask();
      if (value !== undefined) return value;
    } catch (thrown) {
      last = messageOf(thrown);
    }
    if (performance.now() > deadline) {
      throw new ForeshiftError("NOT_READY", { value: options.what, detail: `after ${options.timeoutMs} ms: ${last}` });
    }
    await delay(options.pollMs ?? LIMITS.lab.pollMs);
  }
}
