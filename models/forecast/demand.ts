/** The forecast of a swarm's sessions: the most there will be within the next hour, as capacity is planned for. */
import type { DemandForecast } from "../scale.ts";
import { LeadModel, type LoadForecast } from "./lead-model.ts";
import { SeriesHistory } from "./series-history.ts";

const STEP_MS = 300_000;
/** 10, 15, 30 and 60 minutes. */
const LEADS = [2, 3, 6, 12] as const;

/** Observations come one for each five minutes, in order; what is missing is said so. */
export class DemandForecaster {
  static readonly stepMs = STEP_MS;
  readonly #history = new SeriesHistory(STEP_MS / 1_000);
  readonly #models = LEADS.map((lead) => new LeadModel(this.#history, lead));
  #atMs: number | undefined;
  #newest: readonly LoadForecast[] = [];

  /** Unix milliseconds at which the next observation begins; undefined before the first. */
  get nextAtMs(): number | undefined {
    return this.#atMs === undefined ? undefined : this.#atMs + STEP_MS;
  }

  /** Mean sessions over the five minutes from `atMs` on; NaN where nobody could tell. `learn`: forecast from here, to be judged later. */
  observe(atMs: number, sessions: number, learn: boolean): void {
    for (let gap = this.nextAtMs ?? atMs; gap < atMs; gap += STEP_MS) this.#push(Number.NaN);
    this.#push(sessions);
    this.#atMs = atMs;
    if (learn) this.#newest = this.#models.flatMap((model) => model.forecast() ?? []);
  }

  /** Of the newest observation; undefined before there is one to learn from. */
  forecast(): DemandForecast | undefined {
    if (this.#atMs === undefined || this.#newest.length === 0) return undefined;
    const days = Math.floor(this.#history.count / this.#history.stepsPerDay);
    const horizonMs = LEADS[LEADS.length - 1] as number;
    return {
      atMs: this.#atMs + STEP_MS,
      horizonMs: horizonMs * STEP_MS,
      sessionsP50: Math.max(0, ...this.#newest.map(({ median }) => median)),
      sessionsUpper: Math.max(0, ...this.#newest.map(({ upper }) => upper)),
      text:
        days === 0
          ? "from the level of now; there is no day of history yet"
          : `from ${days === 1 ? "a day" : `${days} days`} of history`,
    };
  }

  #push(sessions: number): void {
    this.#history.push(sessions);
    for (const model of this.#models) model.observed();
  }
}
