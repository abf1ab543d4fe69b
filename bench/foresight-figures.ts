/** From what was seen of spans to the figures that are printed. */
import { quantile } from "../lab/measure.ts";
import type { Mode, Outcome } from "./foresight-trial.ts";

export interface ModeFigures {
  readonly faults: number;
  /** Summed over the faults. */
  readonly sessionsAtRisk: number;
  /**
   * Faults before whose impact every session had left the endpoint (of growth: another endpoint served). The impact is the first moment
   * at which a client of that endpoint (of growth: any client) loses the share of its packets that the swarm file calls degraded, or the
   * stated failure time, whichever is first.
   */
  readonly actedBeforeImpact: number;
  /** The same with the first lost packet for the impact, whatever lost it. */
  readonly actedBeforeFirstLoss: number;
  /** Drains, by automation, of endpoints without a fault. */
  readonly falseActions: number;
  /** Of these, those on the strength of a prediction; the others react to what is measured, as they do under both modes. */
  readonly falsePredictions: number;
  /** Ejections by the reflex, and lowered weights, of endpoints without a fault; of growth no weight is lowered for nothing. */
  readonly falseEjections: number;
  readonly falseWeights: number;
  /** From the first automatic step on the endpoint to the stated failure time; of faults that had one. */
  readonly leadSecondsP50: number | undefined;
  readonly packetsSent: number;
  readonly packetsLost: number;
  /** Packets lost over the rate of packets, summed over clients and directions, halved: what clients were without service. */
  readonly interruptionSeconds: number;
  /** Over the sessions at risk. */
  readonly interruptionSecondsPerSession: number | undefined;
  readonly tcpBroken: number;
  /** Machines that ran (not suspended) times hours; of these the balancer's members. Over the spans that were measured. */
  readonly capacityHours: number;
  readonly endpointHours: number;
  readonly perEndpointHour: Readonly<Record<"falseActions" | "falseEjections" | "falseWeights", number>> | undefined;
}

export type ByMode = Readonly<Record<Mode, ModeFigures>>;

export function byMode(outcomes: readonly Outcome[], packetsPerSecond: number): ByMode {
  const of = (mode: Mode) =>
    figuresOf(
      outcomes.filter((one) => one.mode === mode),
      packetsPerSecond,
    );
  return { reactive: of("reactive"), foresight: of("foresight") };
}

export function figuresOf(outcomes: readonly Outcome[], packetsPerSecond: number): ModeFigures {
  const faults = outcomes.filter(({ kind }) => kind !== "quiet");
  const sum = (value: (one: Outcome) => number) => outcomes.reduce((total, one) => total + value(one), 0);
  const count = (is: (one: Outcome) => boolean) => faults.filter(is).length;
  const packetsLost = sum((one) => one.packetsLost);
  const sessionsAtRisk = sum((one) => one.sessionsAtRisk);
  const endpointHours = sum((one) => one.endpointHours);
  const interruptionSeconds = packetsLost / packetsPerSecond / 2;
  const falseOnes = {
    falseActions: sum((one) => falseSteps(one, "drain").length),
    falseEjections: sum((one) => falseSteps(one, "ejection").length),
    falseWeights: sum((one) => (one.kind === "session-growth" ? 0 : falseSteps(one, "less-weight").length)),
  };
  return {
    faults: faults.length,
    sessionsAtRisk,
    actedBeforeImpact: count((one) => one.actedBeforeImpact),
    actedBeforeFirstLoss: count((one) => one.actedBeforeFirstLoss),
    ...falseOnes,
    falsePredictions: sum((one) => falseSteps(one, "drain").filter(({ predicted }) => predicted).length),
    leadSecondsP50: quantile(
      faults.flatMap(({ leadSeconds }) => leadSeconds ?? []),
      0.5,
    ),
    packetsSent: sum((one) => one.packetsSent),
    packetsLost,
    interruptionSeconds,
    interruptionSecondsPerSession: ratio(interruptionSeconds, sessionsAtRisk),
    tcpBroken: sum((one) => one.tcpBroken),
    capacityHours: sum((one) => one.capacityHours),
    endpointHours,
    perEndpointHour:
      endpointHours === 0
        ? undefined
        : {
            falseActions: falseOnes.falseActions / endpointHours,
            falseEjections: falseOnes.falseEjections / endpointHours,
            falseWeights: falseOnes.falseWeights / endpointHours,
          },
  };
}

function falseSteps({ steps, faulty }: Outcome, kind: Outcome["steps"][number]["kind"]): Outcome["steps"] {
  return steps.filter((step) => step.kind === kind && step.endpoint !== faulty);
}

export function ratio(one = 0, other = 0): number | undefined {
  return other > 0 ? one / other : undefined;
}

export function inWords(outcome: Outcome): string {
  const { kind, sessionsAtRisk, actedBeforeImpact, leadSeconds, packetsLost, endpointHours } = outcome;
  const counts = (["drain", "ejection", "less-weight"] as const).map((one) => falseSteps(outcome, one).length);
  const forNothing = `${counts[0]} drains, ${counts[1]} ejections and ${counts[2]} lowered weights of sound endpoints`;
  if (kind === "quiet") return `${endpointHours.toFixed(2)} endpoint-hours, ${packetsLost} packets lost, ${forNothing}`;
  const lead = leadSeconds === undefined ? "no step on it" : `first step ${leadSeconds.toFixed(1)} s before the failure`;
  const acted = actedBeforeImpact ? "acted before impact" : "not before impact";
  return `${sessionsAtRisk} sessions at risk, ${acted}, ${lead}, ${packetsLost} packets lost, ${forNothing}`;
}
