/**
 * One fault that builds up, from its injection to some time after the machine has failed, under one mode of the swarm: who acted when,
 * and what the clients felt.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { BuildUpKind } from "../lab/lab-client.ts";
import { awaitAtRest } from "../lab/open-lab.ts";
import { awaitWhole, sessionsOf } from "../lab/trial.ts";
import type { SessionState } from "../models/session.ts";
import { awaitFullService } from "./at-rest.ts";
import { type AutomaticStep, type Look, lostBetween, type SpanCost, watchSpan } from "./span.ts";
import type { BenchLab } from "./with-lab.ts";

/** Reactive: `foresight.mode` of the swarm file is `off`. Foresight: `act`. */
export type Mode = "reactive" | "foresight";

export interface TrialPlan {
  readonly kind: BuildUpKind;
  /** Which of the endpoints that hold sessions, 0..1 in the order from the busiest to the idlest. */
  readonly place: number;
  readonly buildUpSeconds: number;
}

/** What a span under one mode adds to the figures; a quiet span has no fault. */
export interface Outcome extends SpanCost {
  readonly mode: Mode;
  readonly kind: BuildUpKind | "quiet";
  /** Sessions on the endpoint when the fault began. */
  readonly sessionsAtRisk: number;
  /** All of them had left the endpoint before any of them was impaired, or the failure time if that was earlier. */
  readonly actedBeforeImpact: boolean;
  /** The same before any of their clients lost as much as one packet. */
  readonly actedBeforeFirstLoss: boolean;
  /** From the first automatic step on that endpoint to the stated failure time; negative: after it. Undefined: there was none. */
  readonly leadSeconds: number | undefined;
  /** Drains, by automation, of endpoints without a fault. */
  readonly falseActions: number;
  /** Of these, those on the strength of a prediction. */
  readonly falsePredictions: number;
}

export interface Size {
  readonly endpoints: number;
  readonly ghosts: number;
  readonly sessions: number;
}

/** Long enough for the reactive way to finish, and the same for both modes, so that machine hours compare. */
const AFTERMATH_MS = 15_000;
/** What the launches of the trial before leave behind has passed. */
const REST_MS = 10_000;

export async function playTrial(lab: BenchLab, mode: Mode, plan: TrialPlan, size: Size): Promise<Outcome> {
  const { open, running } = lab;
  await beginFresh(lab, size);
  const endpoint = await endpointAt(lab, plan.place);
  const held = await sessionsOf(open.balancer, endpoint);
  await open.lab.resetTraffic();
  const fault = await open.lab.inject(plan.kind, endpoint, { buildUpSeconds: plan.buildUpSeconds });
  const failsAtMs = fault.failsAtMs ?? fault.atMs;
  const seen = new Seen(held, running.spec.thresholds.lossDegraded);
  const cost = await watchSpan(open, failsAtMs + AFTERMATH_MS, async (look) => {
    seen.note(look, (await sessionsOf(open.balancer, endpoint)).length);
  });
  // Its machine may be gone, and its fault with it.
  await open.lab.heal(endpoint).catch(() => undefined);
  const own = cost.steps.filter((step) => step.endpoint === endpoint);
  return {
    ...cost,
    mode,
    kind: plan.kind,
    sessionsAtRisk: held.length,
    actedBeforeImpact: seen.leftAtMs <= Math.min(seen.impairedAtMs, failsAtMs),
    actedBeforeFirstLoss: seen.leftAtMs <= Math.min(seen.firstLossAtMs, failsAtMs),
    leadSeconds: own[0] === undefined ? undefined : (failsAtMs - own[0].atMs) / 1_000,
    ...falseDrains(cost.steps.filter((step) => step.endpoint !== endpoint)),
  };
}

/** Nothing happens: whatever automation drains is drained for nothing. */
export async function playQuiet(lab: BenchLab, mode: Mode, seconds: number, size: Size): Promise<Outcome> {
  await beginFresh(lab, size);
  await lab.open.lab.resetTraffic();
  const cost = await watchSpan(lab.open, Date.now() + seconds * 1_000, async () => undefined);
  return {
    ...cost,
    mode,
    kind: "quiet",
    sessionsAtRisk: 0,
    actedBeforeImpact: false,
    actedBeforeFirstLoss: false,
    leadSeconds: undefined,
    ...falseDrains(cost.steps),
  };
}

function falseDrains(onOthers: readonly AutomaticStep[]): Pick<Outcome, "falseActions" | "falsePredictions"> {
  const drains = onOthers.filter(({ kind }) => kind === "drain");
  return { falseActions: drains.length, falsePredictions: drains.filter(({ predicted }) => predicted).length };
}

async function beginFresh({ open, running }: BenchLab, { endpoints, ghosts, sessions }: Size): Promise<void> {
  await awaitWhole(open, { count: endpoints, ghosts });
  await awaitAtRest(open);
  await awaitFullService(open, { weight: running.spec.endpoints.weight, sessions });
  await delay(REST_MS);
  await awaitWhole(open, { count: endpoints, ghosts });
}

async function endpointAt({ open }: BenchLab, place: number): Promise<string> {
  const counts = new Map<string, number>();
  for (const { endpoint } of await open.balancer.sessions()) counts.set(endpoint, (counts.get(endpoint) ?? 0) + 1);
  const ranked = [...counts].toSorted(([one, many], [other, more]) => more - many || one.localeCompare(other));
  const [endpoint] = ranked[Math.floor(place * ranked.length)] ?? [];
  if (endpoint === undefined) throw new Error("no endpoint holds a session");
  return endpoint;
}

/** When the sessions had left, and when their clients lost first. Unix milliseconds; infinite: not seen. */
class Seen {
  leftAtMs = Number.POSITIVE_INFINITY;
  firstLossAtMs = Number.POSITIVE_INFINITY;
  impairedAtMs = Number.POSITIVE_INFINITY;
  readonly #held: readonly SessionState[];
  readonly #impairedShare: number;

  constructor(held: readonly SessionState[], impairedShare: number) {
    this.#held = held;
    this.#impairedShare = impairedShare;
  }

  /** A loss is dated to the earliest moment that it can have happened at. */
  note(look: Look, sessionsLeft: number): void {
    const losses = this.#held.map(({ publicKey }) => lostBetween(look, publicKey));
    const fromMs = look.before.countedToMs;
    if (losses.some(({ lost }) => lost > 0)) this.firstLossAtMs = Math.min(this.firstLossAtMs, fromMs);
    if (losses.some(({ share }) => share >= this.#impairedShare)) this.impairedAtMs = Math.min(this.impairedAtMs, fromMs);
    this.leftAtMs = sessionsLeft > 0 ? Number.POSITIVE_INFINITY : Math.min(this.leftAtMs, look.atMs);
  }
}
