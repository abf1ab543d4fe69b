/**
 * Weights that plan() asks for, set beside the main loop: one after the other, so that the last one asked for stands.
 */
import type { Step } from "../models/plan.ts";
import { reasonOf } from "./failures.ts";
import { balancerForNow } from "./queues.ts";

type WeightStep = Extract<Step, { kind: "set-weight" }>;

export interface WeightRequest {
  readonly swarm: string;
  readonly operation: string;
  readonly step: WeightStep;
  readonly note: (line: string) => void;
  /** plan() compares with what was asked for: what the balancer holds must be believed again. */
  readonly failed: () => void;
}

export class SwarmWeights {
  #last: Promise<void> = Promise.resolve();
  #underWay = 0;

  get idle(): boolean {
    return this.#underWay === 0;
  }

  /** Returns at once. */
  set({ swarm, operation, step, note, failed }: WeightRequest): void {
    const { endpoint, weight, cause, reason } = step;
    const summary = `${endpoint} gets weight ${weight}: ${reason}`;
    this.#underWay += 1;
    this.#last = this.#last
      .then(async () => {
        const input = { swarm, operation, reason, endpoint, weight, draining: false, cause };
        await balancerForNow.setWeight.executeWithOptions({ summary }, [input]);
        note(`${summary}.`);
      })
      .catch((thrown: unknown) => {
        failed();
        note(`The weight of ${endpoint} could not be set: ${reasonOf(thrown)}.`);
      })
      .finally(() => {
        this.#underWay -= 1;
      });
  }
}
