/**
 * What the swarm workflow carries from one decision to the next, and what may happen to it besides a decision: a person's requests,
 * the stop switch, the end of a disruption. Plain JSON: a field that is undefined and one that is absent mean the same.
 */
import { ForeshiftError } from "./errors.ts";
import { type RiskRecord, shadowRisk, takeScore, withCarrier } from "./foresight.ts";
import { LIMITS } from "./limits.ts";
import type { Relief } from "./relieve.ts";
import type { RiskScore } from "./risk.ts";
import type { RollStatus } from "./roll.ts";
import type { DemandForecast } from "./scale.ts";
import type { SwarmSpec } from "./swarm-spec.ts";

export type Signal = "healthy" | "degraded" | "critical";

/**
 * `joining`: seen, not yet healthy. `draining` and `lost`: a run handles it, and it is left alone until that ends.
 * `retired`: done with, until it is seen no more.
 */
export type Phase = "joining" | "active" | "degraded" | "draining" | "lost" | "retired";

/** What Foreshift believes of one endpoint between two decisions. Times are Unix milliseconds. */
export interface EndpointRecord {
  readonly endpoint: string;
  readonly phase: Phase;
  /** When it was first seen. */
  readonly seenAtMs: number;
  /** It has been healthy once: only then does it count as one of the swarm's endpoints. */
  readonly proven: boolean;
  /** Weight last asked for. */
  readonly weight: number;
  /** The present signal, and since when it has been seen without a break. */
  readonly signal: Signal;
  readonly signalSinceMs: number;
  /** Since when it has been anything but healthy, without a break. */
  readonly unhealthySinceMs: number | undefined;
  /** Loss through the tunnel when it ceased to be healthy: what "rising" is measured against. */
  readonly lossAtOnset: number;
  /** The last chosen change of weight. */
  readonly lastActionAtMs: number | undefined;
  /** Begin or end of the last disruption of it. */
  readonly lastMoveAtMs: number | undefined;
  /** The ejection (by its time) that a run has been started for. */
  readonly ejectionHandledAtMs: number | undefined;
  /** Why it is in its phase, one sentence. */
  readonly reason: string;
}

/** A disruption, chosen or suffered; `endedAtMs` undefined while it is under way. */
export interface Disruption {
  readonly endpoint: string;
  readonly startedAtMs: number;
  readonly endedAtMs: number | undefined;
}

export interface Request {
  readonly kind: "drain" | "replace";
  readonly endpoint: string;
  readonly by: string;
}

/** Machines that were asked for and have not been seen yet. */
export interface PendingLaunch {
  readonly kind: "endpoint" | "ghost";
  readonly count: number;
  readonly sinceMs: number;
  /** Of the run that was asked for them (models/step.ts); absent: the first. */
  readonly turn?: number | undefined;
}

/** What the run of a rollout has told of itself last. */
export interface RollTold {
  readonly workflowId: string;
  /** Endpoints that it wants replaced, as the budget allows. */
  readonly endpoints: readonly string[];
  readonly status: RollStatus;
}

/** The swarm workflow's state, carried over continue-as-new. */
export interface SwarmState {
  readonly version: 1;
  readonly spec: SwarmSpec;
  readonly endpoints: readonly EndpointRecord[];
  readonly disruptions: readonly Disruption[];
  readonly stopped: { readonly by: string; readonly reason: string; readonly atMs: number } | undefined;
  /** Frozen by the budget: too many unhealthy. */
  readonly frozenSinceMs: number | undefined;
  /** A person asked for these; they go first, within the budget. */
  readonly requested: readonly Request[];
  readonly pending: readonly PendingLaunch[];
  /** What was paged for and when; kept while its cause lasts, so that it is paged for once. */
  readonly paged: readonly { readonly subject: string; readonly atMs: number }[];
  readonly reflexSilentSinceMs: number | undefined;
  readonly reflexSeq: number;
  /** What is predicted of its endpoints; absent before the first prediction. */
  readonly risks?: readonly RiskRecord[] | undefined;
  /** The newest forecast of the swarm's load. */
  readonly demand?: DemandForecast | undefined;
  /** Since when there have been more endpoints than are wanted, without a break. */
  readonly surplusSinceMs?: number | undefined;
  /** Excess that is being led away, or has just been; absent before the first. */
  readonly reliefs?: readonly Relief[] | undefined;
  /** Rolled out, or being rolled out: in force instead of the swarm file's. */
  readonly image?: string | undefined;
  /** The rollout that is under way, or the last one. */
  readonly roll?: RollTold | undefined;
}

/**
 * How a run ended. `replaced`, `drained`: the endpoint is gone for good. `recovered`: it serves again, in place.
 * `removed`: it was revoked, and its machine has ended. `failed`: everything was put back as it was.
 */
export type DisruptionOutcome = "replaced" | "drained" | "removed" | "recovered" | "failed";

export function initialState(spec: SwarmSpec): SwarmState {
  return {
    version: 1,
    spec,
    endpoints: [],
    disruptions: [],
    stopped: undefined,
    frozenSinceMs: undefined,
    requested: [],
    pending: [],
    paged: [],
    reflexSilentSinceMs: undefined,
    reflexSeq: 0,
  };
}

/** The state under another spec. Refuses (INVALID_FIELD) what cannot change while clients are connected. */
export function applySpec(state: SwarmState, spec: SwarmSpec): SwarmState {
  const { name, vip, key } = state.spec;
  refuseChange("name", name, spec.name);
  refuseChange("vip.v4", vip.v4, spec.vip.v4);
  refuseChange("vip.v6", vip.v6 ?? "none", spec.vip.v6 ?? "none");
  refuseChange("vip.port", vip.port, spec.vip.port);
  refuseChange("key.publicKey", key.publicKey, spec.key.publicKey);
  // A file that says nothing else of the image than before leaves in force what was rolled out since.
  if (state.image === undefined || spec.endpoints.image === state.spec.endpoints.image) return { ...state, spec };
  return { ...state, spec, image: undefined };
}

function refuseChange(field: string, held: string | number, wanted: string | number): void {
  if (held === wanted) return;
  const detail = `it is ${held} and cannot change while clients are connected; make a swarm of another name instead`;
  throw new ForeshiftError("INVALID_FIELD", { field, value: wanted, detail });
}

/** Throws UNKNOWN_ENDPOINT, ALREADY_UNDER_WAY or AUTOMATION_STOPPED when such a request cannot be taken. For update validators. */
export function checkRequest(state: SwarmState, endpoint: string): void {
  const record = state.endpoints.find((one) => one.endpoint === endpoint && one.phase !== "retired");
  if (record === undefined) throw new ForeshiftError("UNKNOWN_ENDPOINT", { field: "endpoint", value: endpoint });
  if (state.stopped !== undefined) {
    throw new ForeshiftError("AUTOMATION_STOPPED", { field: "endpoint", value: state.spec.name });
  }
  if (record.phase === "draining" || record.phase === "lost") {
    throw new ForeshiftError("ALREADY_UNDER_WAY", { field: "endpoint", value: endpoint, detail: record.reason });
  }
  const queued = state.requested.find((one) => one.endpoint === endpoint);
  if (queued !== undefined) {
    const detail = `${queued.by} has asked to ${queued.kind} it, which has not begun; \`foreshift explain ${endpoint}\` says what it waits for`;
    throw new ForeshiftError("ALREADY_UNDER_WAY", { field: "endpoint", value: endpoint, detail });
  }
  if (state.requested.length >= LIMITS.plan.requestsQueuedMax) {
    throw new ForeshiftError("BUDGET_EXCEEDED", { value: endpoint, detail: `${state.requested.length} requests are waiting` });
  }
}

export function requestDrain(state: SwarmState, endpoint: string, by: string): SwarmState {
  return request(state, { kind: "drain", endpoint, by });
}

export function requestReplace(state: SwarmState, endpoint: string, by: string): SwarmState {
  return request(state, { kind: "replace", endpoint, by });
}

function request(state: SwarmState, asked: Request): SwarmState {
  checkRequest(state, asked.endpoint);
  return { ...state, requested: [...state.requested, asked] };
}

/** What the run of a rollout says of itself: from now on machines are launched from `image`, and `endpoints` are to be replaced. */
export function takeRoll(state: SwarmState, image: string, roll: RollTold): SwarmState {
  return { ...state, image, roll };
}

/** Its run has ended without a word: nobody wants anything replaced. */
export function forgetRoll(state: SwarmState): SwarmState {
  return state.roll === undefined ? state : { ...state, roll: { ...state.roll, endpoints: [] } };
}

/** The stop switch: from here on nothing but paging, until `resume`. Stopped twice, the first reason stays. */
export function stop(state: SwarmState, by: string, reason: string, now: number): SwarmState {
  return state.stopped === undefined ? { ...state, stopped: { by, reason, atMs: now } } : state;
}

/** Signals have to hold anew after this: what was seen while nobody acted is old. */
export function resume(state: SwarmState, now: number): SwarmState {
  if (state.stopped === undefined) return state;
  return { ...state, stopped: undefined, endpoints: state.endpoints.map((record) => restartSignal(record, now)) };
}

/** Keeps the signal, and begins anew to count how long it has held. */
export function restartSignal(record: EndpointRecord, now: number): EndpointRecord {
  return { ...record, signalSinceMs: now, unhealthySinceMs: record.signal === "healthy" ? undefined : now };
}

/** The weight that the balancer holds: setting another one came to nothing. */
export function believeWeight(state: SwarmState, endpoint: string, weight: number): SwarmState {
  const endpoints = state.endpoints.map((record) => (record.endpoint === endpoint ? { ...record, weight } : record));
  return { ...state, endpoints };
}

/** To be called when the run of a `drain-and-replace` or `finish-lost` has ended. Called twice, the second changes nothing. */
export function recordDisruptionEnd(state: SwarmState, endpoint: string, outcome: DisruptionOutcome, now: number): SwarmState {
  const disruptions = state.disruptions.map((one) =>
    one.endpoint === endpoint && one.endedAtMs === undefined ? { ...one, endedAtMs: now } : one,
  );
  const endpoints = state.endpoints.map((record) =>
    record.endpoint === endpoint && (record.phase === "draining" || record.phase === "lost")
      ? afterDisruption(record, outcome, now)
      : record,
  );
  return { ...state, disruptions, endpoints };
}

function afterDisruption(record: EndpointRecord, outcome: DisruptionOutcome, now: number): EndpointRecord {
  const moved = { ...record, lastMoveAtMs: now };
  switch (outcome) {
    case "replaced":
      return { ...moved, phase: "retired", reason: "Another endpoint has taken its place." };
    case "drained":
      return { ...moved, phase: "retired", reason: "Drained: the other members have its sessions." };
    case "removed":
      return { ...moved, phase: "retired", reason: "It was revoked, and its machine has ended." };
    case "recovered":
      return { ...restartSignal({ ...moved, signal: "healthy" }, now), phase: "active", reason: "Recovered in place." };
    case "failed":
      return {
        ...restartSignal(moved, now),
        phase: "active",
        reason: "The last attempt to move its sessions failed and was undone.",
      };
  }
}

/** What the newest scores make of what is believed of the endpoints' future. `sessions`: what each holds. */
export function takeScores(
  state: SwarmState,
  scores: readonly { readonly score: RiskScore; readonly sessions: number }[],
  now: number,
): SwarmState {
  const held = new Map((state.risks ?? []).map((record) => [record.score.endpoint, record]));
  const known = new Set(state.endpoints.filter(isPredictable).map((record) => record.endpoint));
  for (const { score, sessions } of scores) {
    const { endpoint } = score;
    if (known.has(endpoint)) held.set(endpoint, takeScore(held.get(endpoint), score, sessions, state.spec.foresight, now));
  }
  return { ...state, risks: withCarriers(state, held, now) };
}

/** Weighed anew with every score: one endpoint's is what another's shadows are judged by. */
function withCarriers(state: SwarmState, held: ReadonlyMap<string, RiskRecord>, now: number): readonly RiskRecord[] {
  const { foresight } = state.spec;
  const serving = state.endpoints.filter(isServing).map(({ endpoint }) => endpoint);
  return [...held].map(([endpoint, record]) => {
    const others = serving.filter((other) => other !== endpoint).map((other) => held.get(other));
    return withCarrier(record, shadowRisk(others, foresight, now), foresight);
  });
}

export function isServing({ phase }: Pick<EndpointRecord, "phase">): boolean {
  return phase === "active" || phase === "degraded";
}

/** The newest forecast counts; one that is older than what is known changes nothing. */
export function takeDemand(state: SwarmState, demand: DemandForecast): SwarmState {
  return state.demand !== undefined && demand.atMs <= state.demand.atMs ? state : { ...state, demand };
}

/** In a run's hands, or done with, an endpoint has no future to predict; one that comes back is judged anew. */
export function isPredictable({ phase }: EndpointRecord): boolean {
  return phase === "active" || phase === "degraded" || phase === "joining";
}

/** To be called when the run of `replenish-ghosts` or `add-endpoints` has ended, well or not. `turn`: the step's. */
export function recordLaunchEnd(state: SwarmState, kind: PendingLaunch["kind"], turn = 1): SwarmState {
  return { ...state, pending: state.pending.filter((one) => one.kind !== kind || (one.turn ?? 1) !== turn) };
}

/** To be called when the run of a `relieve` has ended. `failed`: not all of the sessions came over. */
export function recordReliefEnd(state: SwarmState, endpoint: string, failed: boolean, now: number): SwarmState {
  const reliefs = (state.reliefs ?? []).map((one) =>
    one.endpoint === endpoint && typeof one.endedAtMs !== "number" ? { ...one, endedAtMs: now, failed } : one,
  );
  return { ...state, reliefs };
}
