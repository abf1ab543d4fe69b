/**
 * How likely an endpoint is to fail its users soon: estimates with intervals, the terms they were made of, and what follows from
 * their costs. Pure arithmetic; what is done about it is `foresight.ts`.
 */
import type { ForesightPolicy } from "./swarm-spec.ts";

/** A probability, or a share, 0..1, with a 90 % interval around it. */
export interface Estimate {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** One piece of evidence: what it adds, and the sentence a person reads. */
export interface RiskTerm {
  readonly name: string;
  /** 0..1: the probability of failure that this evidence alone would give. */
  readonly value: number;
  readonly text: string;
}

export interface RiskScore {
  readonly endpoint: string;
  /** Unix milliseconds of the newest measurement in it. */
  readonly atMs: number;
  /** That it fails its users within the policy's window, by itself or with its surroundings. */
  readonly failure: Estimate;
  /** That the sessions it will hold within the window are more than it can carry. */
  readonly overload: Estimate;
  /** False where there is too little telemetry to tell: then nothing is done on its account. */
  readonly carriesSignal: boolean;
  /** The strongest first. */
  readonly terms: readonly RiskTerm[];
  /** Which trained model was asked, or why none was; absent where there is none. */
  readonly model?: string | undefined;
  /** The ways that lead over it; absent where none was measured. */
  readonly paths?: readonly PathRisk[] | undefined;
}

/** The way from a region of clients over an endpoint to an upstream: that it fails its users within the policy's window. */
export interface PathRisk {
  /** Region. */
  readonly clients: string;
  readonly endpoint: string;
  readonly upstream: string;
  readonly risk: Estimate;
  /** The strongest first. */
  readonly terms: readonly RiskTerm[];
}

/** A score, and what is at stake. */
export interface ScoredEndpoint {
  readonly score: RiskScore;
  readonly sessions: number;
}

export const NO_RISK: Estimate = { value: 0, low: 0, high: 0 };

/** That any of several independent things happens: 1 - (1-a)(1-b)…, for the value and for both bounds. */
export function anyOf(estimates: readonly Estimate[]): Estimate {
  const any = (part: (one: Estimate) => number) => 1 - estimates.reduce((none, one) => none * (1 - clamp(part(one))), 1);
  return orderly({ value: any(({ value }) => value), low: any(({ low }) => low), high: any(({ high }) => high) });
}

/** Of several estimates of one thing the highest, the value and the bounds each for itself; `NO_RISK` of none. */
export function highest(estimates: readonly Estimate[]): Estimate {
  const all = estimates.map(orderly);
  const top = (part: (one: Estimate) => number) => Math.max(0, ...all.map(part));
  return orderly({ value: top(({ value }) => value), low: top(({ low }) => low), high: top(({ high }) => high) });
}

/** The same estimate with its bounds in order and everything within 0..1; what is not a number counts as unknown: 0..1 around 0. */
export function orderly({ value, low, high }: Estimate): Estimate {
  const middle = clamp(value);
  return {
    value: middle,
    low: Math.min(middle, clamp(low)),
    high: Math.max(middle, Number.isFinite(high) ? clamp(high) : 1),
  };
}

/**
 * What the sessions on an endpoint are in for: its own failure, or that of its ways. Both are seen in part in the same telemetry, so the
 * larger counts; of the ways the mean, since nobody knows by which of them each session goes.
 */
export function servedRisk({ failure, paths = [] }: Pick<RiskScore, "failure" | "paths">): number {
  const ways = paths.length === 0 ? 0 : paths.reduce((sum, { risk }) => sum + risk.value, 0) / paths.length;
  return Math.max(failure.value, ways);
}

export function widthOf({ low, high }: Estimate): number {
  return high - low;
}

/** One expected-cost comparison, in units of "one session out of service once". */
export interface Stakes {
  /** Expected cost of leaving the sessions where they are. */
  readonly staying: number;
  /** Of a launch or a wake, and of moving every session. */
  readonly replacing: number;
  /** Of sending new sessions elsewhere for a while. */
  readonly reweighting: number;
}

/** Costs are those of the policy; `efficacy` of them is what acting saves. Grows with each probability and with the sessions. */
export function stakesOf(score: RiskScore, sessions: number, policy: ForesightPolicy): Stakes {
  const { costs, efficacy, slaWeight } = policy;
  const harm = score.failure.value * costs.outagePerSession + score.overload.value * costs.overloadPerSession;
  return {
    staying: efficacy * slaWeight * sessions * harm,
    replacing: costs.launch + costs.movePerSession * sessions,
    reweighting: costs.reweight,
  };
}

/**
 * The lower bound of the probability of failure above which moving the sessions is cheaper than leaving them:
 * cost(action) / (cost(failure) x efficacy), where overload that is avoided as well pays for part of the action. Infinite where a
 * failure costs nothing: then nothing is worth doing.
 */
export function actionThreshold({ overload }: Pick<RiskScore, "overload">, sessions: number, policy: ForesightPolicy): number {
  const { costs, efficacy, slaWeight } = policy;
  const gain = efficacy * slaWeight * sessions * costs.outagePerSession;
  const paid = efficacy * slaWeight * sessions * overload.low * costs.overloadPerSession;
  const threshold = Math.max(0, costs.launch + costs.movePerSession * sessions - paid) / gain;
  return gain > 0 && Number.isFinite(threshold) ? threshold : Number.POSITIVE_INFINITY;
}

function clamp(value: number): number {
  return Number.isFinite(value) ? Math.min(1, Math.max(0, value)) : 0;
}
