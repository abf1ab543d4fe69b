/**
 * Many machines in one call. What is asked of several within a moment goes out together; EC2 refuses such a call as a whole when it
 * cannot do it to one of them, so it is then made for each alone, and only those fail that must.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type ErrorCode, ForeshiftError } from "../../../models/errors.ts";
import { CLOUD_LIMITS } from "../../../models/limits-cloud.ts";

/** Of these each single call would fail alike. */
const OF_ALL = new Set<ErrorCode>(["CLOUD_THROTTLED", "UNAUTHORISED", "UNREACHABLE"]);

export class Batch {
  readonly #call: (ids: string[]) => Promise<unknown>;
  #waiting = new Set<string>();
  #flight: Promise<ReadonlyMap<string, unknown>> | undefined;

  constructor(call: (ids: string[]) => Promise<unknown>) {
    this.#call = call;
  }

  /** Resolves once the call that had `id` in it was answered well; throws what was said of `id`. */
  async add(id: string): Promise<void> {
    this.#waiting.add(id);
    this.#flight ??= this.#send();
    const failures = await this.#flight;
    if (failures.has(id)) throw failures.get(id);
  }

  async #send(): Promise<ReadonlyMap<string, unknown>> {
    await delay(CLOUD_LIMITS.batchWaitMs);
    const ids = [...this.#waiting];
    this.#waiting = new Set();
    this.#flight = undefined;
    const failures = new Map<string, unknown>();
    for (let from = 0; from < ids.length; from += CLOUD_LIMITS.batchSizeMax)
      await this.#sendSome(ids.slice(from, from + CLOUD_LIMITS.batchSizeMax), failures);
    return failures;
  }

  async #sendSome(ids: string[], failures: Map<string, unknown>): Promise<void> {
    try {
      await this.#call(ids);
    } catch (thrown) {
      const concernsAll = thrown instanceof ForeshiftError && OF_ALL.has(thrown.code);
      if (ids.length > 1 && !concernsAll) for (const id of ids) await this.#sendSome([id], failures);
      else for (const id of ids) failures.set(id, thrown);
    }
  }
}
