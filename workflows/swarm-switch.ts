/**
 * The stop switch of a swarm, or of all, as its workflow throws it.
 */
import type { StopRequest } from "../models/swarm-messages.ts";
import { store } from "./queues.ts";

export class SwarmSwitch {
  #throwing = 0;

  /** While a switch is being thrown, what was read of it in the store says nothing. */
  get settled(): boolean {
    return this.#throwing === 0;
  }

  async set(swarm: string, { scope, by, reason }: StopRequest, on: boolean): Promise<void> {
    const summary = `${by} ${on ? "stopped" : "resumed"} automation: ${reason}`;
    this.#throwing += 1;
    try {
      await store.setStopSwitch.executeWithOptions({ summary }, [{ scope: scope === "all" ? "*" : swarm, on, by, reason }]);
    } finally {
      this.#throwing -= 1;
    }
  }
}
