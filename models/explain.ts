/** Why an endpoint was treated as it was: the prediction, each condition of the policy and whether it was met, and what was done. */
import { isInControlSlice } from "./control-slice.ts";
import { bandAt, carrierAt, type RiskRecord, shadowRisk, takeScore, withCarrier, wouldLeave } from "./foresight.ts";
import { LIMITS } from "./limits.ts";
import { isCommonCause } from "./predicted.ts";
import { actionThreshold, type Estimate, type ScoredEndpoint, widthOf } from "./risk.ts";
import type { ForesightPolicy, SwarmSpec } from "./swarm-spec.ts";

export interface Condition {
  readonly text: string;
  readonly met: boolean;
}

export interface Deed {
  readonly atMs: number;
  readonly action: string;
  readonly outcome: string;
  readonly text: string;
}

export interface Explanation {
  readonly endpoint: string;
  /** Unix milliseconds. */
  readonly atMs: number;
  /** What the swarm's workflow believes; undefined for a moment in the past. */
  readonly belief: string | undefined;
  readonly mode: ForesightPolicy["mode"];
  readonly score: ScoredEndpoint["score"] | undefined;
  readonly sessions: number | undefined;
  /** What has to hold for the sessions to be moved on the strength of the prediction alone. */
  readonly conditions: readonly Condition[];
  /** Latest first. */
  readonly deeds: readonly Deed[];
  /** Steps that were wanted and not taken, and why. */
  readonly withheld: readonly string[];
}

/** How the rest of the swarm stood. */
export interface Around {
  /** Endpoints that were heard, and those of them whose risk was high. */
  readonly members: number;
  readonly high: number;
  /** Risk of what would take the sessions over. */
  readonly shadow: number;
  readonly isBetterAway: boolean;
  /** Its own risk was high and passed, less than a cool-down ago. */
  readonly isCooling: boolean;
}

/** What the swarm's scores made of it, read again from the told ones. `scores`: of all endpoints, oldest first, none after the moment. */
export function aroundOf(
  endpoint: string,
  members: readonly string[],
  scores: readonly ScoredEndpoint[],
  policy: ForesightPolicy,
  atMs: number,
): Around {
  const records = new Map<string, RiskRecord>();
  const othersOf = (name: string) => members.filter((member) => member !== name).map((member) => records.get(member));
  for (const { score, sessions } of scores) {
    const record = takeScore(records.get(score.endpoint), score, sessions, policy, score.atMs);
    records.set(score.endpoint, withCarrier(record, shadowRisk(othersOf(score.endpoint), policy, score.atMs), policy));
  }
  const own = records.get(endpoint);
  const leftHighMs = atMs - (own?.leftHighAtMs ?? Number.NEGATIVE_INFINITY);
  return {
    members: members.length,
    high: members.filter((member) => bandAt(records.get(member), policy, atMs) === "high").length,
    shadow: shadowRisk(othersOf(endpoint), policy, atMs),
    isBetterAway: carrierAt(own, policy, atMs) === "shadow",
    isCooling: own?.band !== "high" && leftHighMs < policy.coolDownMs,
  };
}

/** `scores`: of the endpoint, latest first, none newer than the moment that is explained. */
export function conditionsOf(
  scores: readonly ScoredEndpoint[],
  { name, foresight: policy }: Pick<SwarmSpec, "name" | "foresight">,
  around: Around,
  atMs: number,
): readonly Condition[] {
  const [newest] = scores;
  if (newest === undefined) return [];
  const { score, sessions } = newest;
  const threshold = actionThreshold(score, sessions, policy);
  const agreeing = scores.slice(0, policy.confirmationsOf).filter((one) => wouldLeave(one, policy)).length;
  const ageMs = atMs - score.atMs;
  return [
    { text: "there is telemetry that carries a signal", met: score.carriesSignal },
    {
      text: `the score is ${seconds(ageMs)} old, and counts for ${seconds(policy.scoreStaleMs)}`,
      met: ageMs <= policy.scoreStaleMs,
    },
    {
      text: `the probability of failure within ${seconds(policy.windowMs)} is ${percent(score.failure.value)}, and ${percent(policy.failureThreshold)} are needed`,
      met: score.failure.value >= policy.failureThreshold,
    },
    {
      text: `its interval is ${percent(widthOf(score.failure))} wide, and ${percent(policy.uncertainWidth)} are the most`,
      met: widthOf(score.failure) <= policy.uncertainWidth,
    },
    {
      text: `it is ${percent(score.failure.low)} at the lower bound; with ${sessions} sessions on it, moving them is worth its cost ${priceOf(threshold)}`,
      met: score.failure.low > threshold,
    },
    {
      text: `${agreeing} of the newest ${policy.confirmationsOf} scores that were told say so, and ${policy.confirmations} have to`,
      met: agreeing >= policy.confirmations,
    },
    {
      text: `its risk was not high and over again in the last ${seconds(policy.coolDownMs)}`,
      met: !around.isCooling,
    },
    {
      text: `${around.high} of ${around.members} endpoints are at high risk at once, and half of them would be a common cause`,
      met: !isCommonCause(around.high, around.members),
    },
    {
      text: `what would take its sessions over fails with ${percent(around.shadow)}, and has to be below ${percent(policy.failureThreshold)} and better`,
      met: around.isBetterAway,
    },
    {
      text: `it is not in the control slice of ${percent(policy.controlShare)} of the endpoints, on which no prediction acts`,
      met: !isInControlSlice(name, score.endpoint, policy.controlShare),
    },
    { text: `predictions may act (foresight.mode is ${policy.mode})`, met: policy.mode === "act" },
  ];
}

export function explanationAsText(explanation: Explanation): string {
  const { atMs, belief, conditions, deeds, endpoint, mode, score, sessions, withheld } = explanation;
  const lines = [`${endpoint} at ${time(atMs)}`];
  if (belief !== undefined) lines.push("", `Believed: ${belief}`);
  if (score === undefined) {
    const why =
      mode === "off" ? "foresight.mode is off" : `no risk of ${percent(LIMITS.foresight.scoreConcernMin)} or more was seen`;
    lines.push("", `Predicted: nothing that was worth telling (${why}).`);
  } else {
    const overload = score.overload.value > 0 ? `; is overloaded with ${interval(score.overload)}` : "";
    lines.push("", `Predicted at ${time(score.atMs)}, with ${sessions ?? 0} sessions on it:`);
    lines.push(`  fails with probability ${interval(score.failure)}${overload}`);
    if (score.model !== undefined) lines.push(`  ${score.model}`);
    for (const term of score.terms) lines.push(`  - ${percent(term.value)} ${term.name}: ${term.text}`);
    for (const { clients, upstream, risk, terms } of score.paths ?? []) {
      lines.push(`  the way ${clients} -> ${endpoint} -> ${upstream} fails with ${interval(risk)}`);
      for (const term of terms) lines.push(`  - ${percent(term.value)} ${term.name}: ${term.text}`);
    }
    lines.push("", "To move its sessions on the strength of that alone, all of these have to hold:");
    for (const { text, met } of conditions) lines.push(`  ${met ? "yes" : "no "}  ${text}`);
  }
  if (withheld.length > 0) lines.push("", "Wanted and not done:", ...withheld.map((text) => `  ${text}`));
  lines.push("", deeds.length === 0 ? "Nothing was done about it." : "Done, latest first:");
  for (const deed of deeds) lines.push(`  ${time(deed.atMs)}  ${deed.action}, ${deed.outcome}: ${deed.text}`);
  return lines.join("\n");
}

function interval({ value, low, high }: Estimate): string {
  return `${percent(value)} (${percent(low)} to ${percent(high)})`;
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

function seconds(ms: number): string {
  return `${Number((ms / 1_000).toFixed(1))} s`;
}

/** Cost of the action over what it saves. */
function priceOf(threshold: number): string {
  return threshold < 1 ? `above ${Number((threshold * 100).toFixed(1))} %` : "at no probability";
}

function time(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
