/**
 * Replication lag: from an endpoint's observation of a session to the moment its announcement was handled here.
 */
import { LIMITS } from "../../models/limits.ts";

export interface LagSummary {
  /** Changes measured since the start; the percentiles are over the last of them. */
  readonly samples: number;
  readonly lagMsP50: number | undefined;
  readonly lagMsP99: number | undefined;
  readonly lagMsMax: number | undefined;
  readonly lagMsLast: number | undefined;
}

export class Lag {
  readonly #recent: number[] = [];
  #samples = 0;

  add(lagMs: number): void {
    this.#recent[this.#samples % LIMITS.collector.lagSamplesMax] = lagMs;
    this.#samples += 1;
  }

  summary(): LagSummary {
    const sorted = [...this.#recent].sort((one, other) => one - other);
    const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
    const last = this.#samples === 0 ? undefined : this.#recent[(this.#samples - 1) % LIMITS.collector.lagSamplesMax];
    return { samples: this.#samples, lagMsP50: at(0.5), lagMsP99: at(0.99), lagMsMax: sorted.at(-1), lagMsLast: last };
  }
}
