/**
 * Sessions that grow beyond what the swarm was made for, under one mode: whether there was another endpoint in time, and what the
 * clients felt of machines that drop what exceeds their allowance. The lab is spoilt for other spans afterwards: a swarm gives up what it
 * has grown by slowly, and remembers the rush.
 */
import { beginFresh, type Size } from "./at-rest.ts";
import { AFTERMATH_MS, LOOK_MS, type Mode, type Outcome } from "./foresight-trial.ts";
import { type Look, lostBetween, watchSpan } from "./span.ts";
import type { BenchLab } from "./with-lab.ts";

export interface GrowthPlan {
  readonly kind: "session-growth";
  /** Sessions that join, evenly over the time. */
  readonly sessions: number;
  readonly buildUpSeconds: number;
}

export async function playGrowth(lab: BenchLab, mode: Mode, plan: GrowthPlan, size: Size): Promise<Outcome> {
  const { open, running } = lab;
  await beginFresh(lab, size);
  await open.lab.resetTraffic();
  const { beginsAtMs } = await open.lab.grow({ sessions: plan.sessions, seconds: plan.buildUpSeconds });
  // From here on there is more than the endpoints of the beginning can carry together.
  const carried = size.endpoints * running.spec.endpoints.capacitySessions;
  const lastMs = beginsAtMs.at(-1) ?? Date.now();
  const failsAtMs = beginsAtMs[carried - size.sessions] ?? lastMs;
  const seen = new Seen(size.endpoints, running.spec.thresholds.lossDegraded);
  const onLook = async (look: Look) => seen.note(look);
  const cost = await watchSpan(open, { untilMs: lastMs + AFTERMATH_MS, lookEveryMs: LOOK_MS, onLook });
  const [first] = cost.steps.filter(({ kind }) => kind === "more-endpoints" || kind === "less-weight");
  return {
    ...cost,
    mode,
    kind: plan.kind,
    sessionsAtRisk: size.sessions + plan.sessions,
    actedBeforeImpact: seen.relievedAtMs <= Math.min(seen.impairedAtMs, failsAtMs),
    actedBeforeFirstLoss: seen.relievedAtMs <= Math.min(seen.firstLossAtMs, failsAtMs),
    leadSeconds: first === undefined ? undefined : (failsAtMs - first.atMs) / 1_000,
    faulty: undefined,
  };
}

/** When there was another endpoint to take sessions, and when clients lost first. Unix milliseconds; infinite: not seen. */
class Seen {
  relievedAtMs = Number.POSITIVE_INFINITY;
  firstLossAtMs = Number.POSITIVE_INFINITY;
  impairedAtMs = Number.POSITIVE_INFINITY;
  readonly #endpoints: number;
  readonly #impairedShare: number;

  constructor(endpoints: number, impairedShare: number) {
    this.#endpoints = endpoints;
    this.#impairedShare = impairedShare;
  }

  /** Impaired is a client that loses its share; which endpoint holds it does not matter. */
  note(look: Look): void {
    const losses = look.after.clients.map(({ publicKey }) => lostBetween(look, publicKey));
    const fromMs = look.before.countedToMs;
    if (losses.some(({ lost }) => lost > 0)) this.firstLossAtMs = Math.min(this.firstLossAtMs, fromMs);
    if (losses.some(({ share }) => share >= this.#impairedShare)) this.impairedAtMs = Math.min(this.impairedAtMs, fromMs);
    const serving = look.members.filter(({ effectiveWeight }) => effectiveWeight > 0).length;
    if (serving > this.#endpoints) this.relievedAtMs = Math.min(this.relievedAtMs, look.atMs);
  }
}
