/**
 * What foresight is worth: the same faults that build up, on real machines under traffic, once with a swarm that only reacts and once
 * with one that acts on predictions, in turns on one lab. And what it costs: machine hours, and drains for nothing in quiet times.
 */
import { BUILD_UP_KINDS } from "../lab/lab-client.ts";
import { quantile } from "../lab/measure.ts";
import { seededRandom } from "../models/random.ts";
import { type Mode, type Outcome, playQuiet, playTrial, type Size, type TrialPlan } from "./foresight-trial.ts";
import { dealer } from "./random.ts";
import { type BenchLab, machine, withLab } from "./with-lab.ts";

export interface ForesightOptions {
  /** Faults under each mode. */
  readonly trials: number;
  readonly seed: number;
  readonly buildUpSeconds: number;
  /** Of each mode, without a fault. */
  readonly quietSeconds: number;
  readonly onProgress: (text: string) => void;
}

export interface ModeFigures {
  readonly faults: number;
  /** Summed over the faults. */
  readonly sessionsAtRisk: number;
  /**
   * Faults before whose impact every session had left the endpoint. The impact is the first moment at which a client of that endpoint
   * loses the share of its packets that the swarm file calls degraded, or the stated failure time, whichever is first.
   */
  readonly actedBeforeImpact: number;
  /** The same with the first lost packet for the impact, whatever lost it. */
  readonly actedBeforeFirstLoss: number;
  /** Drains, by automation, of endpoints without a fault. */
  readonly falseActions: number;
  /** Of these, those on the strength of a prediction; the others react to what is measured, as they do under both modes. */
  readonly falsePredictions: number;
  /** From the first automatic step on the endpoint (drain or less weight) to the stated failure time; of faults that had one. */
  readonly leadSecondsP50: number | undefined;
  readonly packetsSent: number;
  readonly packetsLost: number;
  /** Packets lost over the rate of packets, summed over clients and directions, halved: what clients were without service. */
  readonly interruptionSeconds: number;
  /** Over the sessions at risk: how many are there by the time of a fault is chance. */
  readonly interruptionSecondsPerSession: number | undefined;
  readonly tcpBroken: number;
  /** Machines that ran (not suspended) times hours; of these the balancer's members. Over the spans that were measured. */
  readonly capacityHours: number;
  readonly endpointHours: number;
}

export interface ForesightFigures {
  readonly machine: ReturnType<typeof machine>;
  readonly seed: number;
  readonly trials: number;
  readonly buildUpSeconds: number;
  readonly quietSeconds: number;
  /** With the quiet spans as a kind of their own. */
  readonly byKind: Readonly<Record<string, Readonly<Record<Mode, ModeFigures>>>>;
  readonly reactive: ModeFigures;
  readonly foresight: ModeFigures;
  /** Foresight over reactive, of each session at risk; undefined where the latter is nothing. */
  readonly interruptionRatio: number | undefined;
  /** Foresight over reactive, machine hours. */
  readonly capacityRatio: number | undefined;
  /** Of foresight; drains that react to what is measured are not its own. */
  readonly falsePredictionsIn50EndpointHours: number;
}

const SIZE: Size & { clients: number; packetsPerSecond: number } = {
  clients: 6,
  sessions: 6,
  endpoints: 3,
  ghosts: 1,
  packetsPerSecond: 100,
};
const MODES: readonly Mode[] = ["reactive", "foresight"];

export async function benchForesight(options: ForesightOptions): Promise<ForesightFigures> {
  const { trials, seed, buildUpSeconds, quietSeconds, onProgress } = options;
  const plans = plansOf(options);
  return await withLab({ ...SIZE, spec: { foresight: { mode: "off" } }, onProgress }, async (lab) => {
    const outcomes: Outcome[] = [];
    const play = async (mode: Mode, what: string, one: () => Promise<Outcome>) => {
      await setMode(lab, mode);
      const outcome = await one();
      outcomes.push(outcome);
      onProgress(`${what}, ${mode}: ${inWords(outcome)}`);
      for (const { endpoint, kind, text } of outcome.steps) onProgress(`    ${kind} of ${endpoint}: ${text}`);
    };
    for (const mode of quietSeconds > 0 ? MODES : []) await play(mode, "quiet", () => playQuiet(lab, mode, quietSeconds, SIZE));
    for (const [at, plan] of plans.entries()) {
      // Neither mode always comes first.
      for (const mode of at % 2 === 0 ? MODES : MODES.toReversed())
        await play(mode, `${at + 1} of ${trials}, ${plan.kind}`, () => playTrial(lab, mode, plan, SIZE));
    }
    const { reactive, foresight } = byMode(outcomes);
    return {
      machine: machine(),
      seed,
      trials,
      buildUpSeconds,
      quietSeconds,
      byKind: Object.fromEntries(
        [...BUILD_UP_KINDS, "quiet"].map((kind) => [kind, byMode(outcomes.filter((one) => one.kind === kind))]),
      ),
      reactive,
      foresight,
      interruptionRatio: ratio(foresight.interruptionSecondsPerSession, reactive.interruptionSecondsPerSession),
      capacityRatio: ratio(foresight.capacityHours, reactive.capacityHours),
      falsePredictionsIn50EndpointHours: (foresight.falsePredictions / foresight.endpointHours) * 50,
    };
  });
}

/** Both modes play the same sequence. */
function plansOf({ trials, seed, buildUpSeconds }: ForesightOptions): readonly TrialPlan[] {
  const random = seededRandom(seed);
  const deal = dealer(BUILD_UP_KINDS, random);
  return Array.from({ length: trials }, () => ({ kind: deal(), place: random(), buildUpSeconds }));
}

async function setMode({ open, running }: BenchLab, mode: Mode): Promise<void> {
  const { foresight, ...rest } = running.spec;
  const spec = { ...rest, foresight: { ...foresight, mode: mode === "foresight" ? ("act" as const) : ("off" as const) } };
  await open.temporal.applySwarm({ spec, by: "bench" });
}

function byMode(outcomes: readonly Outcome[]): Readonly<Record<Mode, ModeFigures>> {
  const of = (mode: Mode) => figuresOf(outcomes.filter((one) => one.mode === mode));
  return { reactive: of("reactive"), foresight: of("foresight") };
}

function figuresOf(outcomes: readonly Outcome[]): ModeFigures {
  const faults = outcomes.filter(({ kind }) => kind !== "quiet");
  const sum = (value: (one: Outcome) => number) => outcomes.reduce((total, one) => total + value(one), 0);
  const count = (is: (one: Outcome) => boolean) => faults.filter(is).length;
  const leads = faults.flatMap(({ leadSeconds }) => leadSeconds ?? []);
  const packetsLost = sum((one) => one.packetsLost);
  const sessionsAtRisk = sum((one) => one.sessionsAtRisk);
  return {
    faults: faults.length,
    sessionsAtRisk,
    actedBeforeImpact: count((one) => one.actedBeforeImpact),
    actedBeforeFirstLoss: count((one) => one.actedBeforeFirstLoss),
    falseActions: sum((one) => one.falseActions),
    falsePredictions: sum((one) => one.falsePredictions),
    leadSecondsP50: quantile(leads, 0.5),
    packetsSent: sum((one) => one.packetsSent),
    packetsLost,
    interruptionSeconds: interruptionSeconds(packetsLost),
    interruptionSecondsPerSession: ratio(interruptionSeconds(packetsLost), sessionsAtRisk),
    tcpBroken: sum((one) => one.tcpBroken),
    capacityHours: sum((one) => one.capacityHours),
    endpointHours: sum((one) => one.endpointHours),
  };
}

function interruptionSeconds(packetsLost: number): number {
  return packetsLost / SIZE.packetsPerSecond / 2;
}

function ratio(one = 0, other = 0): number | undefined {
  return other > 0 ? one / other : undefined;
}

function inWords({ sessionsAtRisk, actedBeforeImpact, leadSeconds, packetsLost, falseActions }: Outcome): string {
  const lead = leadSeconds === undefined ? "no step on it" : `first step ${leadSeconds.toFixed(1)} s before the failure`;
  const acted = actedBeforeImpact ? "acted before impact" : "not before impact";
  return `${sessionsAtRisk} sessions at risk, ${acted}, ${lead}, ${packetsLost} packets lost, ${falseActions} false drains`;
}
