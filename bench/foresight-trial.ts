/**
 * One fault that builds up, from its injection to some time after the machine has failed, under one mode of the swarm: who acted when,
 * and what the clients felt. Or nothing at all, for long.
 */
import type { BuildUpKind } from "../lab/lab-client.ts";
import { sessionsOf } from "../lab/trial.ts";
import type { SessionState } from "../models/session.ts";
import { beginFresh, type Size } from "./at-rest.ts";
import { type Look, lostBetween, type SpanCost, watchSpan } from "./span.ts";
import type { BenchLab } from "./with-lab.ts";

/** Reactive: `foresight.mode` of the swarm file is `off`. Foresight: `act`. */
export type Mode = "reactive" | "foresight";

export interface FaultPlan {
  readonly kind: BuildUpKind;
  /** Which of the endpoints, 0..1 in the order of their names. */
  readonly place: number;
  readonly buildUpSeconds: number;
}

/** What a span under one mode adds to the figures; a quiet span has no fault. */
export interface Outcome extends SpanCost {
  readonly mode: Mode;
  readonly kind: BuildUpKind | "session-growth" | "quiet";
  /** Sessions on the endpoint when the fault began; of growth all that there were. */
  readonly sessionsAtRisk: number;
  /** All of them had left the endpoint before any of them was impaired, or the failure time if that was earlier. */
  readonly actedBeforeImpact: boolean;
  /** The same before any of their clients lost as much as one packet. */
  readonly actedBeforeFirstLoss: boolean;
  /** From the first automatic step on that endpoint to the stated failure time; negative: after it. Undefined: there was none. */
  readonly leadSeconds: number | undefined;
  /** The endpoint that is broken: what automation does to others, it does for nothing. */
  readonly faulty: string | undefined;
}

/** Long enough for the reactive way to finish, and the same for both modes, so that machine hours compare. */
export const AFTERMATH_MS = 15_000;
/** A look counts some dozens of packets of each client, so that a single one lost is less than what is called degraded. */
export const LOOK_MS = 1_000;
const QUIET_LOOK_MS = 5_000;

export async function playTrial(lab: BenchLab, mode: Mode, plan: FaultPlan, size: Size): Promise<Outcome> {
  const { open, running } = lab;
  await beginFresh(lab, size);
  const endpoint = await endpointAt(lab, plan.place);
  const held = await sessionsOf(open.balancer, endpoint);
  await open.lab.resetTraffic();
  const fault = await open.lab.inject(plan.kind, endpoint, { buildUpSeconds: plan.buildUpSeconds });
  try {
    const failsAtMs = fault.failsAtMs ?? fault.atMs;
    const seen = new Seen(held, running.spec.thresholds.lossDegraded);
    const cost = await watchSpan(open, {
      untilMs: failsAtMs + AFTERMATH_MS,
      lookEveryMs: LOOK_MS,
      onLook: async (look) => seen.note(look, (await sessionsOf(open.balancer, endpoint)).length),
    });
    const [first] = cost.steps.filter((step) => step.endpoint === endpoint);
    return {
      ...cost,
      mode,
      kind: plan.kind,
      sessionsAtRisk: held.length,
      actedBeforeImpact: seen.leftAtMs <= Math.min(seen.impairedAtMs, failsAtMs),
      actedBeforeFirstLoss: seen.leftAtMs <= Math.min(seen.firstLossAtMs, failsAtMs),
      leadSeconds: first === undefined ? undefined : (failsAtMs - first.atMs) / 1_000,
      faulty: endpoint,
    };
  } finally {
    // Its machine may be gone, and its fault with it.
    await open.lab.heal(endpoint).catch(() => undefined);
  }
}

/** Nothing happens: whatever automation does is done for nothing. */
export async function playQuiet(lab: BenchLab, mode: Mode, seconds: number, size: Size): Promise<Outcome> {
  await beginFresh(lab, size);
  await lab.open.lab.resetTraffic();
  const cost = await watchSpan(lab.open, { untilMs: Date.now() + seconds * 1_000, lookEveryMs: QUIET_LOOK_MS });
  return {
    ...cost,
    mode,
    kind: "quiet",
    sessionsAtRisk: 0,
    actedBeforeImpact: false,
    actedBeforeFirstLoss: false,
    leadSeconds: undefined,
    faulty: undefined,
  };
}

async function endpointAt({ open }: BenchLab, place: number): Promise<string> {
  const names = (await open.balancer.health()).map(({ endpoint }) => endpoint).toSorted((a, b) => a.localeCompare(b));
  const endpoint = names[Math.floor(place * names.length)];
  if (endpoint === undefined) throw new Error("the balancer has no member");
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
