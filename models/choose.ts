/**
 * Chooses the steps: what is wanted for each endpoint, in order of urgency, each passed through the gates (stop switch, silence of
 * the reflex, freeze, cool-down, budget, capacity). What does not pass is withheld, with the reason.
 */
import { type Belief, isUnhealthyFor } from "./belief.ts";
import { type Abilities, Draft } from "./draft.ts";
import { agedGhosts, staleGhosts } from "./ghosts.ts";
import { imageInForce, shortImage } from "./image.ts";
import { LIMITS } from "./limits.ts";
import type { EndpointObservation, Observation } from "./observation.ts";
import { wantedPages } from "./pages.ts";
import { isBetterAway, predictedMoves, predictedWeight, riskOf } from "./predicted.ts";
import { wantedReliefs } from "./relieve.ts";
import { ROLL_CAUSE } from "./roll.ts";
import type { Reading } from "./signals.ts";
import type { Decision, Step } from "./step.ts";
import { scaleOf } from "./surplus.ts";
import type { EndpointRecord, SwarmState } from "./swarm-state.ts";
import { counted } from "./words.ts";

export function chooseSteps(
  state: SwarmState,
  beliefs: readonly Belief[],
  observation: Observation,
  now: number,
  abilities: Abilities,
): Decision<SwarmState> {
  const draft = new Draft(state, beliefs, observation, now, abilities);
  draft.page(wantedPages(state, beliefs, now));
  for (const belief of beliefs) {
    const step = lostStep(belief, state, now);
    if (step !== undefined) draft.finishLost(step, belief.seen?.ejectedAtMs);
  }
  chooseRequested(draft, state);
  if (abilities.relieves) for (const step of wantedReliefs(state, beliefs, observation, now)) draft.relieve(step);
  for (const { belief, cause, reason } of byUrgency(wantedMoves(state, beliefs, now))) {
    const { endpoint } = belief.record;
    const mode = modeFor(endpoint, abilities.spreads ? "spread" : "replace", state, observation);
    draft.drain({ kind: "drain-and-replace", endpoint, mode, cause, reason }, { chosen: true });
  }
  chooseRolled(draft, state, beliefs);
  for (const step of predictedMoves(state, beliefs, now))
    draft.predicted({ ...step, mode: modeFor(step.endpoint, step.mode, state, observation) });
  for (const belief of beliefs) {
    const step = weightStep(belief, state, now);
    if (step !== undefined) draft.setWeight(step);
    else if (isSteady(belief)) draft.predicted(predictedWeight(belief, state, now));
  }
  chooseLaunches(draft, state, observation, now);
  chooseSurplus(draft, state, observation, now);
  return draft.decision();
}

type MoveMode = Extract<Step, { kind: "drain-and-replace" }>["mode"];

/** One machine in its place would be as overfull: what is more than one can carry is spread over the others. */
function modeFor(endpoint: string, usual: MoveMode, { spec }: SwarmState, observation: Observation): MoveMode {
  const sessions = observation.endpoints.find((one) => one.endpoint === endpoint)?.sessions ?? 0;
  return sessions > spec.endpoints.capacitySessions ? "drain" : usual;
}

interface WantedMove {
  readonly belief: Belief;
  readonly cause: string;
  readonly reason: string;
}

/** The reflex has taken its sessions away, or its machine is gone: what a dead machine began has to be finished. */
function lostStep(
  { record, seen }: Belief,
  state: SwarmState,
  now: number,
): Extract<Step, { kind: "finish-lost" }> | undefined {
  if (isHandled(record) || seen === undefined) return undefined;
  const { endpoint } = record;
  const retryAtMs = (record.lastMoveAtMs ?? Number.NEGATIVE_INFINITY) + LIMITS.plan.lostRetryMs;
  if (seen.revoked === true) {
    // A member's sessions first: the reflex calls them away and puts it out within a second.
    const isOnItsWay = typeof seen.weight === "number" && !seen.ejected && seen.machine !== "gone";
    if (isOnItsWay || now < retryAtMs) return undefined;
    return { kind: "finish-lost", endpoint, cause: "revoked", reason: `${endpoint} was revoked: its machine has to end.` };
  }
  if (seen.machine === "gone") {
    if (now < retryAtMs) return undefined;
    return { kind: "finish-lost", endpoint, cause: "machine-gone", reason: `The machine of ${endpoint} is gone.` };
  }
  if (!seen.ejected) return undefined;
  const isNew = (seen.ejectedAtMs ?? 0) !== (record.ejectionHandledAtMs ?? -1);
  const isStillDead = seen.innerMissesInARow >= state.spec.outlier.missesToEject;
  if (!isNew && (now < retryAtMs || !isStillDead)) return undefined;
  const misses = `${seen.innerMissesInARow} probes in a row missed through the tunnel`;
  const outside = seen.outerAnswers ? "outside of it the machine answers" : "outside of it the machine does not answer either";
  const reason = `The reflex has ejected ${endpoint}: ${misses} (ejected from ${state.spec.outlier.missesToEject}), ${outside}.`;
  return { kind: "finish-lost", endpoint, cause: seen.outerAnswers ? "tunnel-dead" : "machine-dead", reason };
}

function chooseRequested(draft: Draft, state: SwarmState): void {
  for (const { kind, endpoint, by } of state.requested) {
    const verb = kind === "drain" ? "drained" : "replaced";
    const reason = `${by} asked for ${endpoint} to be ${verb}.`;
    draft.drain({ kind: "drain-and-replace", endpoint, mode: kind, cause: "requested", reason }, { chosen: false });
  }
}

/** What the run of a rollout wants replaced: chosen like anything else, and in its hands a machine of the new image takes its place. */
function chooseRolled(draft: Draft, state: SwarmState, beliefs: readonly Belief[]): void {
  const { roll } = state;
  for (const { record, seen } of beliefs) {
    const { endpoint } = record;
    if (roll?.endpoints.includes(endpoint) !== true || isHandled(record) || isOut(seen)) continue;
    const reason = `${endpoint} gets another image: ${shortImage(imageInForce(state) ?? "")}, asked for by ${roll.status.by}.`;
    draft.drain({ kind: "drain-and-replace", endpoint, mode: "replace", cause: ROLL_CAUSE, reason }, { chosen: true });
  }
}

function wantedMoves(state: SwarmState, beliefs: readonly Belief[], now: number): readonly WantedMove[] {
  return beliefs.flatMap((belief) => wantedMove(belief, state, now) ?? []);
}

/** Alive, but too bad or too long bad to keep. */
function wantedMove(belief: Belief, state: SwarmState, now: number): WantedMove | undefined {
  const { record, seen, reading } = belief;
  if (isHandled(record) || isOut(seen) || reading === undefined) return undefined;
  const { holdMs, replaceAfterMs } = state.spec.thresholds;
  const { endpoint } = record;
  if (record.phase === "joining") {
    const waitedMs = now - record.seenAtMs;
    if (typeof seen?.weight !== "number" || waitedMs < LIMITS.plan.launchTimeoutMs) return undefined;
    const reason = `${endpoint} has been a member for ${seconds(waitedMs)} and was never healthy: ${reading.text}.`;
    return { belief, cause: "never-healthy", reason };
  }
  const { cause, text } = reading;
  if (record.signal === "critical" && now - record.signalSinceMs >= holdMs) {
    const reason = `${endpoint} is critical: ${text}, for ${seconds(now - record.signalSinceMs)} (believed after ${seconds(holdMs)}).`;
    return { belief, cause, reason };
  }
  if (!isUnhealthyFor(record, Math.max(holdMs, replaceAfterMs), now)) return undefined;
  const since = seconds(now - (record.unhealthySinceMs ?? now));
  return {
    belief,
    cause,
    reason: `${endpoint} has been degraded for ${since} (replaced after ${seconds(replaceAfterMs)}): ${text}.`,
  };
}

/** Critical before degraded, the worse before the less bad, then by name. */
function byUrgency(moves: readonly WantedMove[]): readonly WantedMove[] {
  const urgency = ({ belief }: WantedMove) => (belief.record.signal === "critical" ? 2 : 0) + (belief.reading?.severity ?? 0);
  return [...moves].sort((a, b) => urgency(b) - urgency(a) || (a.belief.record.endpoint < b.belief.record.endpoint ? -1 : 1));
}

/** Lowered in proportion to severity, raised at once to the full weight: the slow start is the reflex's. */
function weightStep(
  { record, seen, reading }: Belief,
  state: SwarmState,
  now: number,
): Extract<Step, { kind: "set-weight" }> | undefined {
  if (isHandled(record) || isOut(seen) || reading === undefined || record.phase === "joining") return undefined;
  const { endpoint, weight } = record;
  const full = state.spec.endpoints.weight;
  const { holdMs, recoverAfterMs } = state.spec.thresholds;
  if (isUnhealthyFor(record, holdMs, now)) {
    const target = degradedWeight(full, reading);
    if (target > weight - LIMITS.members.weightStepMin) return undefined;
    const since = seconds(now - (record.unhealthySinceMs ?? now));
    const reason = `${endpoint} is ${record.signal} for ${since}: ${reading.text}. Weight ${weight} becomes ${target}.`;
    return { kind: "set-weight", endpoint, weight: target, reason };
  }
  const healthyMs = now - record.signalSinceMs;
  if ((riskOf(state, endpoint, now)?.band ?? "low") !== "low" || isBetterAway(state, endpoint, now)) return undefined;
  if (record.signal !== "healthy" || weight === full || healthyMs < recoverAfterMs) return undefined;
  const reason = `${endpoint} has been healthy for ${seconds(healthyMs)} (believed after ${seconds(recoverAfterMs)}). Weight ${weight} becomes ${full}.`;
  return { kind: "set-weight", endpoint, weight: full, reason };
}

/** It serves, and nothing is wrong with it yet. */
function isSteady({ record, seen, reading }: Belief): boolean {
  const serves = record.phase === "active" || record.phase === "degraded";
  return serves && !isOut(seen) && reading !== undefined && record.signal === "healthy";
}

/** In whole steps, so that a small change of severity changes nothing. */
function degradedWeight(full: number, { severity }: Reading): number {
  const { degradedWeightMin, weightStepMin } = LIMITS.members;
  const first = (full * LIMITS.plan.degradedFirstSharePercent) / 100;
  const exact = first - (first - degradedWeightMin) * severity;
  return Math.min(full, Math.max(degradedWeightMin, Math.round(exact / weightStepMin) * weightStepMin));
}

function chooseLaunches(draft: Draft, state: SwarmState, observation: Observation, now: number): void {
  const { ghosts } = state.spec.endpoints;
  const there = state.endpoints.filter((record) => record.phase !== "retired").length;
  const scale = scaleOf(state, observation, now);
  const isGrowth = scale.wanted > state.spec.endpoints.count;
  const are = (number: number) => (number === 1 ? "is" : "are");
  const why = `${there} of ${counted(scale.wanted, "endpoint")} ${are(scale.wanted)} there${isGrowth ? `: ${scale.reason}` : ""}.`;
  draft.launch(Math.max(scale.floor - there, draft.foreseen(scale, there)), why);
  const wanted = ghosts + draft.ghostsMissed();
  const { stale, why: replaced } = ghostsToReplace(state, observation, now);
  const suspended = observation.ghosts.length - stale.length;
  const ready = `${suspended} of ${counted(wanted, "ghost")} ${are(wanted)} suspended and ready.${replaced}`;
  draft.replenish(wanted - suspended, ready, stale);
}

function ghostsToReplace(state: SwarmState, observation: Observation, now: number): { stale: readonly string[]; why: string } {
  const others = staleGhosts(observation, imageInForce(state));
  const aged = agedGhosts(observation, state.spec.endpoints.ghostAgeMaxMs, now).filter((ghost) => !others.includes(ghost));
  const sentence = (what: string, names: readonly string[]) =>
    names.length === 0 ? "" : ` ${what}, and to be replaced: ${names.join(", ")}.`;
  return { stale: [...others, ...aged], why: `${sentence("Of another image", others)}${sentence("Too old", aged)}` };
}

/** One at a time, the one with the fewest sessions, once there have been too many for long. */
function chooseSurplus(draft: Draft, state: SwarmState, observation: Observation, now: number): void {
  const { scaleInAfterMs } = state.spec.endpoints;
  if (typeof state.surplusSinceMs !== "number" || now - state.surplusSinceMs < scaleInAfterMs) return;
  const active = new Set(state.endpoints.filter((record) => record.phase === "active").map((record) => record.endpoint));
  const [emptiest] = observation.endpoints
    .filter((one) => active.has(one.endpoint) && !isOut(one))
    .toSorted((a, b) => a.sessions - b.sessions || (a.endpoint < b.endpoint ? -1 : 1));
  if (emptiest === undefined) return;
  const scale = scaleOf(state, observation, now);
  const reason = `There have been more than the ${scale.kept} endpoints that are to be kept for ${seconds(now - state.surplusSinceMs)}: ${scale.reason}.`;
  draft.drain(
    { kind: "drain-and-replace", endpoint: emptiest.endpoint, mode: "drain", cause: "surplus", reason },
    { chosen: true },
  );
}

function isHandled(record: EndpointRecord): boolean {
  return record.phase === "draining" || record.phase === "lost" || record.phase === "retired";
}

/** Ejected or gone: a matter for `finish-lost`, not for weights and drains. */
function isOut(seen: EndpointObservation | undefined): boolean {
  return seen === undefined || seen.ejected || seen.machine === "gone";
}

function seconds(ms: number): string {
  return `${Number((ms / 1000).toFixed(1))} s`;
}
