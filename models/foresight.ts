/**
 * From risk scores to what is wanted on their account: nothing, less weight, or another machine. Scores come one by one; what is
 * believed of each endpoint is carried from one to the next, with confirmations, dwell and a lower bar for leaving than for entering,
 * so that neither one odd score nor a value that hovers moves anybody.
 */
import { LIMITS } from "./limits.ts";
import { actionThreshold, type RiskScore, type ScoredEndpoint, servedRisk, stakesOf, widthOf } from "./risk.ts";
import type { ForesightPolicy } from "./swarm-spec.ts";

/** `elevated`: new sessions go elsewhere in proportion. `high`: its sessions should leave before it fails. */
export type RiskBand = "low" | "elevated" | "high";

/** What is believed of one endpoint's future between two decisions. Plain JSON. */
export interface RiskRecord {
  readonly score: RiskScore;
  /** Sessions it held when it was scored: what is at stake. */
  readonly sessions: number;
  readonly band: RiskBand;
  readonly bandSinceMs: number;
  /** The bands that the newest scores asked for by themselves, the newest last. */
  readonly votes: readonly RiskBand[];
  /** When the band was `high` last, once it is no more. */
  readonly leftHighAtMs?: number | undefined;
  /** Where its sessions are best off; `primary` when absent. */
  readonly carrier?: "primary" | "shadow" | undefined;
}

/** By these words a reason is told to stand on a prediction. */
export const FAILS_WITHIN = "fails within";

/** A confirmation may take so much of the window, which is the time there is to act in. */
const CONFIRM_SHARE_MAX = 0.25;

const ORDER: Readonly<Record<RiskBand, number>> = { low: 0, elevated: 1, high: 2 };

/**
 * The record after one more score. A score that is not newer than the last changes nothing, so that a repeated message is harmless.
 * `everyMs`: how often scores are made; a fleet makes them many times in its window.
 */
export function takeScore(
  before: RiskRecord | undefined,
  score: RiskScore,
  sessions: number,
  policy: ForesightPolicy,
  now: number,
  everyMs: number = policy.windowMs / LIMITS.foresight.scoresPerWindow,
): RiskRecord {
  if (before !== undefined && score.atMs <= before.score.atMs) return before;
  const held = before?.band ?? "low";
  const votes = [...(before?.votes ?? []), vote(score, sessions, policy, held)].slice(-policy.confirmationsOf);
  const { carrier, leftHighAtMs } = before ?? {};
  const kept = { ...(carrier === undefined ? {} : { carrier }), ...(leftHighAtMs === undefined ? {} : { leftHighAtMs }) };
  const next = { score, sessions, votes, ...kept };
  const confirms = confirmed(votes, standsAlone(score, policy, everyMs) ? 1 : policy.confirmations);
  const isCooling = held !== "high" && now - (leftHighAtMs ?? Number.NEGATIVE_INFINITY) < policy.coolDownMs;
  const wanted = confirms === "high" && isCooling ? "elevated" : confirms;
  const sinceMs = before?.bandSinceMs ?? now;
  if (ORDER[wanted] > ORDER[held]) return { ...next, band: wanted, bandSinceMs: now };
  if (ORDER[wanted] === ORDER[held] || now - sinceMs < policy.dwellMs) return { ...next, band: held, bandSinceMs: sinceMs };
  return { ...next, band: wanted, bandSinceMs: now, ...(held === "high" ? { leftHighAtMs: now } : {}) };
}

/** Whether its sessions should leave now: the band is high, and not by its dwell alone, so that what has passed moves nobody. */
export function asksToLeave(record: RiskRecord | undefined, policy: ForesightPolicy, now: number): boolean {
  return bandAt(record, policy, now) === "high" && record?.votes.at(-1) === "high";
}

/** The band that counts at this moment: an old score says nothing of the future. */
export function bandAt(record: RiskRecord | undefined, policy: ForesightPolicy, now: number): RiskBand {
  return isFresh(record, policy, now) ? (record?.band ?? "low") : "low";
}

function isFresh(record: RiskRecord | undefined, policy: ForesightPolicy, now: number): boolean {
  return record !== undefined && now - record.score.atMs <= policy.scoreStaleMs;
}

/** In proportion to the risk, in whole steps, never above the full weight. */
export function riskWeight(full: number, { score }: RiskRecord): number {
  const { degradedWeightMin, weightStepMin } = LIMITS.members;
  const risk = Math.max(score.failure.value, score.overload.value);
  const exact = full * (1 - risk);
  return Math.min(full, Math.max(degradedWeightMin, Math.floor(exact / weightStepMin) * weightStepMin));
}

/** One sentence: the figures, the thresholds and the cost comparison that the band follows from. */
export function riskText(record: RiskRecord, policy: ForesightPolicy): string {
  const { score, sessions } = record;
  const stakes = stakesOf(score, sessions, policy);
  const evidence = score.terms.slice(0, LIMITS.foresight.termsShown).map((term) => term.text);
  const because = evidence.length === 0 ? "" : ` (${evidence.join("; ")})`;
  const failure = `${FAILS_WITHIN} ${span(policy.windowMs)} with probability ${interval(score.failure)}${because}`;
  const overload = score.overload.value > 0 ? `, is overloaded with ${interval(score.overload)}` : "";
  return `${failure}${overload}; leaving ${sessions} sessions there is expected to cost ${units(stakes.staying)}, moving them ${units(stakes.replacing)}`;
}

/**
 * S2.6 with hysteresis: the shadow carries when the primary is above the threshold and the shadow is below it and the better one; it
 * goes back when the primary is below a share of the threshold and no worse than the shadow, or so far below that it does not matter. In
 * all other cases it stays where it is.
 */
export function determineOptimalAppliance(
  risks: { readonly primary: number; readonly shadow: number },
  threshold: number,
  current: "primary" | "shadow",
  leaveShare: number,
): "primary" | "shadow" {
  const { primary, shadow } = risks;
  if (current === "primary") return primary >= threshold && shadow < threshold && shadow < primary ? "shadow" : "primary";
  const isCalm = primary < threshold * leaveShare && (primary <= shadow || primary < threshold * leaveShare * leaveShare);
  return isCalm ? "primary" : "shadow";
}

/** The record with what carries best, given the risk of what would take the sessions over. */
export function withCarrier(record: RiskRecord, shadow: number, policy: ForesightPolicy): RiskRecord {
  const risks = { primary: servedRisk(record.score), shadow };
  const { failureThreshold, leaveShare } = policy;
  const carrier = determineOptimalAppliance(risks, failureThreshold, record.carrier ?? "primary", leaveShare);
  return carrier === (record.carrier ?? "primary") ? record : { ...record, carrier };
}

/** What carries best at this moment: an old score says nothing against the primary. */
export function carrierAt(record: RiskRecord | undefined, policy: ForesightPolicy, now: number): "primary" | "shadow" {
  return isFresh(record, policy, now) ? (record?.carrier ?? "primary") : "primary";
}

/**
 * The risk of what would take the sessions of an endpoint over: its sessions' shadows are spread over the others, and a machine that
 * takes its place stands where they do, so it is the middle one of theirs. An old score, or none, is no risk.
 */
export function shadowRisk(others: readonly (RiskRecord | undefined)[], policy: ForesightPolicy, now: number): number {
  const values = others.map((record) => (record !== undefined && isFresh(record, policy, now) ? servedRisk(record.score) : 0));
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

/** Whether this score alone asks for the sessions to leave. */
export function wouldLeave({ score, sessions }: ScoredEndpoint, policy: ForesightPolicy): boolean {
  return vote(score, sessions, policy, "low") === "high";
}

/** What this score alone asks for. Entry is at the thresholds, leaving at a share of them. */
function vote(score: RiskScore, sessions: number, policy: ForesightPolicy, held: RiskBand): RiskBand {
  if (!score.carriesSignal) return "low";
  if (isHigh(score, sessions, policy, bar(held === "high", policy))) return "high";
  return isElevated(score, sessions, policy, bar(held !== "low", policy)) ? "elevated" : "low";
}

/**
 * Likely, sure, and worth its price even at the lower bound of the probability. An uncertain score asks for the cheap and reversible
 * step first.
 */
function isHigh(score: RiskScore, sessions: number, policy: ForesightPolicy, share: number): boolean {
  const { failure } = score;
  const isLikely = failure.value >= policy.failureThreshold * share;
  const isSure = widthOf(failure) <= policy.uncertainWidth;
  return isLikely && isSure && failure.low > actionThreshold(score, sessions, policy) * share;
}

function isElevated(score: RiskScore, sessions: number, policy: ForesightPolicy, share: number): boolean {
  const { failure, overload } = score;
  const stakes = stakesOf(score, sessions, policy);
  const elevatedAt = policy.failureThreshold * LIMITS.foresight.elevatedShare;
  const isLikely = failure.value >= elevatedAt * share || overload.value >= policy.overloadThreshold * share;
  return isLikely && stakes.staying >= stakes.reweighting * share;
}

function bar(isHeld: boolean, policy: ForesightPolicy): number {
  return isHeld ? policy.leaveShare : 1;
}

/** Where another look would take too much of the window to wait for, and even the lower bound is at the threshold. */
function standsAlone({ failure }: RiskScore, policy: ForesightPolicy, everyMs: number): boolean {
  return everyMs > CONFIRM_SHARE_MAX * policy.windowMs && failure.low >= policy.failureThreshold;
}

/** The highest band that enough of the newest scores ask for, or exceed. */
function confirmed(votes: readonly RiskBand[], needed: number): RiskBand {
  const reaching = (band: RiskBand) => votes.filter((one) => ORDER[one] >= ORDER[band]).length;
  if (reaching("high") >= needed) return "high";
  return reaching("elevated") >= needed ? "elevated" : "low";
}

function interval({ value, low, high }: { value: number; low: number; high: number }): string {
  return `${percent(value)} (${percent(low)} to ${percent(high)})`;
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

function span(ms: number): string {
  return ms >= 120_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 1_000)} s`;
}

function units(cost: number): string {
  return String(Number(cost.toFixed(2)));
}
