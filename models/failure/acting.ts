/**
 * The fleet's own rule (models/foresight.ts) on the probabilities of one unit of a table, row after row: so that a model is judged by what
 * would have been done on its word. The table's time is stretched so that the model's window is that of the policy.
 */
import { asksToLeave, type RiskRecord, takeScore } from "../foresight.ts";
import { actionThreshold, NO_RISK } from "../risk.ts";
import { ForesightPolicy } from "../swarm-spec.ts";
import type { Probability } from "./model.ts";

/** Sessions that a unit is taken to hold. */
const SESSIONS_AT_STAKE = 100;
const POLICY = ForesightPolicy.parse({ mode: "act" });

/** The probability, and its lower bound, from which the rule asks for sessions to leave; both with confirmations where there is time for them. */
export const ACTS_FROM = {
  probability: POLICY.failureThreshold,
  lowerBound: actionThreshold({ overload: NO_RISK }, SESSIONS_AT_STAKE, POLICY),
};

export class UnitWatch {
  readonly #msPerUnit: number;
  readonly #carriesSignal: boolean;
  /** As often as the newest two rows; of the first row nothing is known. */
  #everyMs = 0;
  #record: RiskRecord | undefined;

  /** `window`: of the model, in the table's unit of time. */
  constructor(window: number, carriesSignal: boolean) {
    this.#msPerUnit = POLICY.windowMs / window;
    this.#carriesSignal = carriesSignal;
  }

  /** One row, in the order of time: whether what the rule asks for after it is that the sessions leave. */
  look({ probability, low, high }: Probability, time: number): boolean {
    const atMs = time * this.#msPerUnit;
    const failure = { value: probability, low, high };
    const score = { endpoint: "", atMs, failure, overload: NO_RISK, carriesSignal: this.#carriesSignal, terms: [] };
    if (this.#record !== undefined) this.#everyMs = atMs - this.#record.score.atMs;
    this.#record = takeScore(this.#record, score, SESSIONS_AT_STAKE, POLICY, atMs, this.#everyMs);
    return asksToLeave(this.#record, POLICY, atMs);
  }
}
