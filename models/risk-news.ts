/** Which scores are worth telling: those that changed, enough in a row to be confirmed, and those that are grave, before they grow stale. */
import { LIMITS } from "./limits.ts";
import { type ScoredEndpoint, servedRisk } from "./risk.ts";
import type { ForesightPolicy } from "./swarm-spec.ts";

/** Ways waver more than machines do, and less hangs on them. */
const WAYS_CHANGE_MIN = 0.3;
/** Two scores of one endpoint that are told are at least this share of the interval between scores apart. */
const APART_SHARE_MIN = 0.9;

/** What was told last of one endpoint. */
export interface ToldRisk {
  readonly endpoint: string;
  readonly atMs: number;
  readonly failure: number;
  readonly overload: number;
  /** With its ways. */
  readonly served?: number | undefined;
  /** Times that it was told about this value. */
  readonly times: number;
}

/** Milliseconds between two scores of an endpoint. */
export function scoreIntervalMs({ windowMs }: ForesightPolicy): number {
  const { scoresPerWindow, scoreIntervalMsMin, scoreIntervalMsMax } = LIMITS.foresight;
  return Math.min(scoreIntervalMsMax, Math.max(scoreIntervalMsMin, windowMs / scoresPerWindow));
}

/**
 * Milliseconds until the next look: an interval, or less where something grave was told that awaits its confirmation, which can be had
 * as soon as another score of it may be told.
 */
export function nextLookMs(told: readonly ToldRisk[], policy: ForesightPolicy, now: number): number {
  const intervalMs = scoreIntervalMs(policy);
  const awaited = told
    .filter((one) => isGrave(one) && one.times < policy.confirmationsOf)
    .map(({ atMs }) => Math.ceil(atMs + intervalMs * APART_SHARE_MIN - now))
    .filter((leftMs) => leftMs > 0);
  return Math.min(intervalMs, ...awaited);
}

export function newsAmong(
  scores: readonly ScoredEndpoint[],
  told: readonly ToldRisk[],
  policy: ForesightPolicy,
): readonly ScoredEndpoint[] {
  const last = new Map(told.map((one) => [one.endpoint, one]));
  return scores.filter((one) => isNews(one, last.get(one.score.endpoint), policy));
}

export function toldAfter(told: readonly ToldRisk[], scores: readonly ScoredEndpoint[]): readonly ToldRisk[] {
  const last = new Map(told.map((one) => [one.endpoint, one]));
  for (const { score } of scores) {
    const { endpoint, atMs } = score;
    const before = last.get(endpoint);
    const [failure, overload] = [score.failure.value, score.overload.value];
    const times = before !== undefined && !hasChanged(score, before) ? before.times + 1 : 1;
    const told = { endpoint, atMs, failure, overload, times };
    last.set(endpoint, score.paths === undefined ? told : { ...told, served: servedRisk(score) });
  }
  return [...last.values()].toSorted((a, b) => (a.endpoint < b.endpoint ? -1 : 1));
}

function isNews({ score }: ScoredEndpoint, before: ToldRisk | undefined, policy: ForesightPolicy): boolean {
  const isConcern = isGrave({ failure: servedRisk(score), overload: score.overload.value });
  if (before === undefined) return isConcern;
  // Looks that follow at once see the same measurements: they confirm nothing.
  if (score.atMs <= before.atMs || score.atMs - before.atMs < scoreIntervalMs(policy) * APART_SHARE_MIN) return false;
  if (hasChanged(score, before)) return true;
  if (before.times < policy.confirmationsOf) return true;
  return isConcern && score.atMs - before.atMs >= policy.scoreStaleMs / 3;
}

function isGrave({ failure, overload }: Pick<ToldRisk, "failure" | "overload">): boolean {
  return Math.max(failure, overload) >= LIMITS.foresight.scoreConcernMin;
}

function hasChanged(score: ScoredEndpoint["score"], before: ToldRisk): boolean {
  const { scoreChangeMin } = LIMITS.foresight;
  const served = servedRisk(score) - (before.served ?? before.failure);
  return (
    Math.abs(score.failure.value - before.failure) >= scoreChangeMin ||
    Math.abs(score.overload.value - before.overload) >= scoreChangeMin ||
    Math.abs(served) >= WAYS_CHANGE_MIN
  );
}
