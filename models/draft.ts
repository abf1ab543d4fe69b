/**
 * A plan in the making: takes wanted steps one by one, lets through what the gates allow, and keeps account of budget, capacity and
 * ghosts as it goes, so that two steps of one plan cannot exceed together what each may do alone.
 */
import type { Belief } from "./belief.ts";
import { budgetUse, type Capacity, capacityOf, sessionsAt, whyBelowCapacity, whyOverBudget, whyOverloaded } from "./budget.ts";
import { LIMITS } from "./limits.ts";
import type { Observation } from "./observation.ts";
import type { WantedPage } from "./pages.ts";
import { whyStays } from "./predicted.ts";
import type { Relief } from "./relieve.ts";
import type { Scale } from "./scale.ts";
import type { Decision, RelieveStep, Step, Withheld } from "./step.ts";
import type { Disruption, EndpointRecord, PendingLaunch, SwarmState } from "./swarm-state.ts";
import { countUnhealthy, isLive } from "./unhealthy.ts";

type DrainStep = Extract<Step, { kind: "drain-and-replace" }>;
type LostStep = Extract<Step, { kind: "finish-lost" }>;
type WeightStep = Extract<Step, { kind: "set-weight" }>;
type LaunchStep = Extract<Step, { kind: "replenish-ghosts" | "add-endpoints" }>;

/** What whoever carries the steps out knows to do. */
export interface Abilities {
  /** Runs that add endpoints at a time. */
  readonly addRunsMax: number;
  /** Leading away what an endpoint holds too many. */
  readonly relieves: boolean;
  /** Sending to the others at once what an ill endpoint holds: its users feel it already, and a machine has to come first. */
  readonly spreads: boolean;
}

export class Draft {
  readonly #state: SwarmState;
  readonly #now: number;
  readonly #observation: Observation;
  readonly #abilities: Abilities;
  readonly #reflexAnswers: boolean;
  readonly #frozen: string | undefined;
  readonly #steps: Step[] = [];
  readonly #withheld: Withheld[] = [];
  readonly #records: Map<string, EndpointRecord>;
  #disruptions: readonly Disruption[];
  #capacity: Capacity;
  #requested: SwarmState["requested"];
  #pending: SwarmState["pending"];
  #paged: SwarmState["paged"];
  #reliefs: readonly Relief[];
  #replacementsShort = 0;

  constructor(state: SwarmState, beliefs: readonly Belief[], observation: Observation, now: number, abilities: Abilities) {
    this.#state = state;
    this.#abilities = abilities;
    this.#now = now;
    this.#observation = observation;
    this.#reflexAnswers = observation.reflexAnswers;
    this.#frozen = whyFrozen(state, beliefs, now);
    this.#records = new Map(state.endpoints.map((record) => [record.endpoint, record]));
    this.#disruptions = state.disruptions;
    this.#capacity = capacityOf(state.spec, state.endpoints, state.disruptions, observation);
    this.#requested = state.requested;
    this.#pending = state.pending;
    this.#paged = state.paged;
    this.#reliefs = state.reliefs ?? [];
  }

  /** Each subject once, as long as its cause lasts. The stop switch does not silence pages. */
  page(wanted: readonly WantedPage[]): void {
    const lasting = new Set(wanted.map((one) => one.subject));
    const isKept = (one: { subject: string; atMs: number }) =>
      lasting.has(one.subject) || this.#now - one.atMs < LIMITS.plan.pageRepeatMs;
    this.#paged = this.#paged.filter(isKept);
    for (const { subject, reason } of wanted) {
      if (this.#paged.some((one) => one.subject === subject)) continue;
      this.#paged = [...this.#paged, { subject, atMs: this.#now }];
      this.#steps.push({ kind: "page", subject, reason });
    }
  }

  /** Not limited by budget, freeze or capacity, but counted by the budget afterwards. */
  finishLost(step: LostStep, ejectedAtMs: number | undefined): void {
    if (!this.#passes(step, this.#whyNotAct())) return;
    // Of a revoked one nothing but its end is under way: what is missing then is launched like anything that is missing.
    if (step.cause !== "revoked") this.#claimGhost();
    this.#begin(step.endpoint, "lost", step.reason, { ejectionHandledAtMs: ejectedAtMs });
  }

  /** `chosen`: by automation, and therefore subject to the cool-down; a person's request is not. */
  drain(asked: DrainStep, { chosen }: { chosen: boolean }): void {
    const step = this.#inReach(asked);
    const record = this.#records.get(step.endpoint);
    if (record === undefined || record.phase === "lost" || record.phase === "draining" || this.#isTaken(step.endpoint)) return;
    const because =
      this.#whyNotAct() ??
      this.#frozen ??
      this.#whyRelieved(step.endpoint) ??
      (chosen ? this.#whyNotChosen(record) : undefined);
    if (!this.#passes(step, because ?? this.#whyNotBudget() ?? this.#whyNotDrain(step))) return;
    const { capacity, serving } = this.#capacity;
    this.#capacity = {
      ...this.#capacity,
      capacity: capacity - this.#sessionsAt(step.endpoint) + this.#replacementSessions(step),
      serving: new Map([...serving].filter(([name]) => name !== step.endpoint)),
    };
    if (step.mode !== "drain") this.#claimGhost();
    this.#begin(step.endpoint, "draining", step.reason, {});
  }

  /** Nobody leaves service by it, so that its own bounds hold (models/relieve.ts) instead of the budget. */
  relieve(step: RelieveStep): void {
    if ([step, ...step.to].some(({ endpoint }) => this.#isTaken(endpoint))) return;
    if (!this.#passes(step, this.#whyNotAct() ?? this.#frozen)) return;
    this.#reliefs = [...this.#reliefs, { endpoint: step.endpoint, to: step.to, endedAtMs: undefined }];
  }

  setWeight(step: WeightStep): void {
    const record = this.#records.get(step.endpoint);
    if (record === undefined || this.#isTaken(step.endpoint)) return;
    const weight = this.#capacity.serving.get(step.endpoint) ?? 0;
    const lowered = sessionsAt(this.#state.spec, Math.max(0, weight - step.weight));
    const lastAtMs = Math.max(
      record.lastActionAtMs ?? Number.NEGATIVE_INFINITY,
      record.lastMoveAtMs ?? Number.NEGATIVE_INFINITY,
    );
    const cooling = this.#whyCooling(lastAtMs);
    const capacity =
      step.weight < record.weight ? whyBelowCapacity(this.#capacity, lowered, 0, this.#capacity.serving.size) : undefined;
    if (!this.#passes(step, this.#whyNotAct() ?? this.#frozen ?? cooling ?? capacity)) return;
    const serving = new Map(
      [...this.#capacity.serving].map(([name, held]) => [name, name === step.endpoint ? Math.min(held, step.weight) : held]),
    );
    this.#capacity = { ...this.#capacity, capacity: this.#capacity.capacity - lowered, serving };
    this.#records.set(step.endpoint, { ...record, weight: step.weight, lastActionAtMs: this.#now });
  }

  /** As chosen by automation where the policy lets predictions act; else it is shown what would be done. */
  predicted(step: DrainStep | WeightStep | undefined): void {
    if (step === undefined || this.#isTaken(step.endpoint)) return;
    if (this.#state.spec.foresight.mode !== "act") {
      this.#withheld.push({ step, because: "advice only: foresight.mode of the swarm file is not `act`" });
    } else if (step.kind === "set-weight") this.setWeight(step);
    else {
      const because = whyStays(this.#state, step.endpoint, this.#now);
      if (because === undefined) this.drain(step, { chosen: true });
      else this.#withheld.push({ step, because });
    }
  }

  /** Endpoints that only the forecast asks for: none where predictions may not act; then it is shown what would be done. */
  foreseen(scale: Scale, there: number): number {
    const missing = scale.wanted - there;
    if (missing <= 0 || scale.wanted === scale.floor) return 0;
    if (this.#state.spec.foresight.mode === "act") return missing;
    const step: Step = { kind: "add-endpoints", count: missing, reason: `${scale.reason}.` };
    this.#withheld.push({ step, because: "advice only: foresight.mode of the swarm file is not `act`" });
    return 0;
  }

  /** Asks for the ghosts that are missing; while a run refills the pool, for no more. */
  replenish(missing: number, reason: string, replaces: readonly string[]): void {
    const count = Math.max(0, missing);
    if ((count === 0 && replaces.length === 0) || this.#pending.some(({ kind }) => kind === "ghost")) return;
    const step: Step = {
      kind: "replenish-ghosts",
      count,
      ...(replaces.length === 0 ? {} : { replaces }),
      reason,
    };
    if (this.#passes(step, this.#whyStopped())) this.#pending = [...this.#pending, pendingOf(step, this.#now)];
  }

  /**
   * Asks for the endpoints that are missing beyond those that runs under way are to bring, in runs beside theirs: what a ghost becomes
   * serves long before what is launched, and does not wait for it.
   */
  launch(missing: number, reason: string): void {
    const underWay = this.#pending.filter(({ kind }) => kind === "endpoint");
    const taken = new Set(underWay.map(({ turn = 1 }) => turn));
    const { addRunsMax } = this.#abilities;
    const turns = Array.from({ length: addRunsMax }, (_, at) => at + 1).filter((turn) => !taken.has(turn));
    const pending = underWay.reduce((sum, { count }) => sum + count, 0);
    const wanted = missing - pending;
    const woken = turns.length < 2 ? 0 : Math.min(wanted, Math.max(0, this.#capacity.freeGhosts - pending));
    const counts = [woken, wanted - woken].filter((count) => count > 0);
    for (const [at, turn] of turns.slice(0, counts.length).entries()) {
      const step = { kind: "add-endpoints", count: counts[at] ?? 0, ...(turn === 1 ? {} : { turn }), reason } as const;
      if (this.#passes(step, this.#whyNotAct())) this.#pending = [...this.#pending, pendingOf(step, this.#now)];
    }
  }

  /** Replacements that capacity forbids while every ghost is spoken for, by a step that was chosen before them or after. */
  ghostsMissed(): number {
    return this.#capacity.freeGhosts > 0 ? 0 : this.#replacementsShort;
  }

  decision(): Decision<SwarmState> {
    const state: SwarmState = {
      ...this.#state,
      endpoints: this.#state.endpoints.map((record) => this.#records.get(record.endpoint) ?? record),
      disruptions: this.#disruptions,
      requested: this.#requested,
      pending: this.#pending,
      paged: this.#paged,
      ...(this.#reliefs.length === 0 && this.#state.reliefs === undefined ? {} : { reliefs: this.#reliefs }),
    };
    return { state, steps: this.#steps, withheld: this.#withheld };
  }

  #passes(step: Step, because: string | undefined): boolean {
    if (because === undefined) this.#steps.push(step);
    else this.#withheld.push({ step, because });
    return because === undefined;
  }

  #isTaken(endpoint: string): boolean {
    return this.#steps.some((step) => "endpoint" in step && step.endpoint === endpoint);
  }

  #begin(endpoint: string, phase: "lost" | "draining", reason: string, more: Partial<EndpointRecord>): void {
    const record = this.#records.get(endpoint);
    if (record !== undefined) this.#records.set(endpoint, { ...record, ...more, phase, reason, lastMoveAtMs: this.#now });
    this.#disruptions = [...this.#disruptions, { endpoint, startedAtMs: this.#now, endedAtMs: undefined }];
    this.#requested = this.#requested.filter((one) => one.endpoint !== endpoint);
  }

  #claimGhost(): void {
    this.#capacity = { ...this.#capacity, freeGhosts: Math.max(0, this.#capacity.freeGhosts - 1) };
  }

  #whyNotAct(): string | undefined {
    if (!this.#reflexAnswers)
      return this.#whyStopped() ?? "the reflex does not answer, so only the past is known of the data path";
    return this.#whyStopped();
  }

  #whyStopped(): string | undefined {
    const { stopped } = this.#state;
    return stopped ? `automation was stopped by ${stopped.by}: ${stopped.reason}` : undefined;
  }

  #whyNotChosen({ endpoint, lastMoveAtMs }: EndpointRecord): string | undefined {
    const { spec } = this.#state;
    return this.#whyCooling(lastMoveAtMs) ?? this.#whyExcess(endpoint) ?? whyOverloaded(spec, endpoint, this.#observation);
  }

  #whyCooling(lastAtMs: number | undefined): string | undefined {
    const { coolDownMs } = this.#state.spec.thresholds;
    const leftMs = (lastAtMs ?? Number.NEGATIVE_INFINITY) + coolDownMs - this.#now;
    return leftMs > 0 ? `cool-down: ${Math.ceil(leftMs / 1000)} of ${Math.ceil(coolDownMs / 1000)} s are left` : undefined;
  }

  /** Until that has been tried, and its probes are all newer, nobody knows whether it is ill or was only too full. */
  #whyExcess(endpoint: string): string | undefined {
    const relief = this.#reliefs.find((one) => one.endpoint === endpoint);
    if (relief === undefined || relief.failed === true) return undefined;
    return "overload: what it held too many has just been led away, and it is seen first what that helped";
  }

  /** What two runs led away at a time would be neither's to account for. */
  #whyRelieved(endpoint: string): string | undefined {
    const underWay = this.#reliefs.filter(({ endedAtMs }) => typeof endedAtMs !== "number");
    if (underWay.some((relief) => relief.endpoint === endpoint)) return "what it holds too many is being led away";
    const comes = underWay.find(({ to }) => to.some((one) => one.endpoint === endpoint));
    return comes === undefined ? undefined : `sessions of ${comes.endpoint} are being led to it`;
  }

  #whyNotBudget(): string | undefined {
    const live = [...this.#records.values()].filter(isLive).length;
    return whyOverBudget(budgetUse(this.#state.spec, this.#disruptions, live, this.#now), this.#state.spec.budget.windowMs);
  }

  /** Spread at once only where the others can take its sessions and keep some room; else a machine takes its place first. */
  #inReach(step: DrainStep): DrainStep {
    if (step.mode !== "spread") return step;
    const { serving, capacity, sessions } = this.#capacity;
    const hasOthers = [...serving.keys()].some((name) => name !== step.endpoint);
    const usable = (capacity - this.#sessionsAt(step.endpoint)) * this.#state.spec.foresight.overloadThreshold;
    return hasOthers && usable >= sessions ? step : { ...step, mode: "replace" };
  }

  #whyNotDrain(step: DrainStep): string | undefined {
    const others = this.#capacity.serving.size - (this.#capacity.serving.has(step.endpoint) ? 1 : 0);
    const left = others + (step.mode === "replace" ? 1 : 0);
    const because = whyBelowCapacity(this.#capacity, this.#sessionsAt(step.endpoint), this.#replacementSessions(step), left);
    if (because === undefined || step.mode === "drain") return because;
    this.#replacementsShort += 1;
    if (this.#capacity.freeGhosts > 0) return because;
    return `${because}; no ghost is free to take its place`;
  }

  /** What the swarm can carry less without it. */
  #sessionsAt(endpoint: string): number {
    return sessionsAt(this.#state.spec, this.#capacity.serving.get(endpoint) ?? 0);
  }

  /** A replacement counts only when a ghost is there to become it: a launch may fail. */
  #replacementSessions(step: DrainStep): number {
    const { spec } = this.#state;
    return step.mode === "replace" && this.#capacity.freeGhosts > 0 ? sessionsAt(spec, spec.endpoints.weight) : 0;
  }
}

function pendingOf(step: LaunchStep, now: number): PendingLaunch {
  const { count } = step;
  if (step.kind === "replenish-ghosts") return { kind: "ghost", count, sinceMs: now };
  return { kind: "endpoint", count, sinceMs: now, ...(step.turn === undefined ? {} : { turn: step.turn }) };
}

function whyFrozen(state: SwarmState, beliefs: readonly Belief[], now: number): string | undefined {
  if (typeof state.frozenSinceMs !== "number") return undefined;
  const { members, unhealthy, doubtful } = countUnhealthy(state.spec, beliefs, now);
  const bad = Math.max(unhealthy.length, doubtful);
  return `frozen: ${bad} of ${members} endpoints are unhealthy, more than ${state.spec.budget.freezeUnhealthyPercent} %`;
}
