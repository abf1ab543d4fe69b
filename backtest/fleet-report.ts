/**
 * `foreshift backtest fleet`: what automation does to a made-up fleet that is sound, and how early it leaves machines that are about to
 * fail, through the models as they run on a fleet.
 */
import { SwarmSpec } from "../models/swarm-spec.ts";
import { type FleetStep, playFleet, START_MS } from "./fleet.ts";
import { FLEET_FAULTS, type FleetFault, faultPlan } from "./fleet-faults.ts";

export interface FleetReport {
  readonly seed: number;
  readonly quiet: QuietReport;
  readonly faults: FaultReport & { readonly byKind: Readonly<Record<FleetFault, FaultReport>> };
}

export interface QuietReport {
  readonly endpointHours: number;
  /** Drains of sound endpoints: on predictions, and in reaction to what was measured. */
  readonly falseDrains: { readonly predicted: number; readonly measured: number };
  /** Weights lowered, likewise. */
  readonly falseWeights: { readonly predicted: number; readonly measured: number };
  /** Of the drains on predictions. */
  readonly falseDrainsIn50EndpointHours: number;
  /** One line for each false drain on a prediction. */
  readonly reasons: readonly string[];
}

export interface FaultReport {
  /** Without those of machines that had been replaced before. */
  readonly trials: number;
  /** The sessions began to leave before their users suffered. */
  readonly drainedBeforeImpact: number;
  /** That, or new sessions were kept away from the machine. */
  readonly actedBeforeImpact: number;
  /** From the beginning of the drain, and from the first step, to the impact; medians of those that came before it. */
  readonly drainLeadSecondsP50: number | null;
  readonly leadSecondsP50: number | null;
  /** Drains of other endpoints meanwhile, on predictions. */
  readonly falseDrains: number;
}

export interface FleetBacktestOptions {
  readonly spec: SwarmSpec;
  /** Of sound endpoints: hours times endpoints. */
  readonly endpointHours: number;
  readonly trials: number;
  readonly seed: number;
}

/** Ten endpoints under the policy that a swarm file has when it states none. */
export const DEFAULT_FLEET: SwarmSpec = SwarmSpec.parse({
  apiVersion: "foreshift/v1",
  kind: "Swarm",
  name: "fleet",
  vip: { v4: "198.19.0.1" },
  key: { secret: { path: "swarms/fleet/wireguard", version: 1 }, publicKey: "made-up" },
  endpoints: { count: 10 },
  foresight: { mode: "act", controlShare: 0 },
});

/** A quiet fleet is played for so long before the next one is made, with other machines. */
const RUN_SECONDS_MAX = 4 * 3_600;

export function backtestFleet(options: FleetBacktestOptions): FleetReport {
  const trials = Array.from({ length: options.trials }, (_, trial) => options.seed * 1_000 + trial);
  const outcomes = trials.flatMap((seed) => playFault(options.spec, seed) ?? []);
  const of = (kind: FleetFault) => faultReport(outcomes.filter((outcome) => outcome.kind === kind));
  return {
    seed: options.seed,
    quiet: quietReport(options),
    faults: { ...faultReport(outcomes), byKind: byKind(of) },
  };
}

function byKind(of: (kind: FleetFault) => FaultReport): Readonly<Record<FleetFault, FaultReport>> {
  const [leak, loss, steal, incident] = FLEET_FAULTS;
  return { [leak]: of(leak), [loss]: of(loss), [steal]: of(steal), [incident]: of(incident) };
}

function quietReport({ spec, endpointHours, seed }: FleetBacktestOptions): QuietReport {
  const steps: FleetStep[] = [];
  let leftS = Math.round((endpointHours / spec.endpoints.count) * 3_600);
  for (let run = 0; leftS > 0; run++) {
    const seconds = Math.min(leftS, RUN_SECONDS_MAX);
    steps.push(...playFleet({ spec, seed: seed * 100 + run, seconds }));
    leftS -= seconds;
  }
  const count = (kind: FleetStep["kind"], isPredicted: boolean) =>
    steps.filter((step) => step.kind === kind && step.isPredicted === isPredicted).length;
  const predicted = count("drain", true);
  return {
    endpointHours,
    falseDrains: { predicted, measured: count("drain", false) },
    falseWeights: { predicted: count("weight", true), measured: count("weight", false) },
    falseDrainsIn50EndpointHours: endpointHours > 0 ? (predicted / endpointHours) * 50 : 0,
    reasons: steps.filter(({ kind, isPredicted }) => kind === "drain" && isPredicted).map(({ reason }) => reason),
  };
}

interface FaultOutcome {
  readonly kind: FleetFault;
  readonly impactS: number;
  readonly drainS: number | undefined;
  readonly firstS: number | undefined;
  readonly falseDrains: number;
}

/** Undefined where the machine had been replaced for another reason before its fault. */
function playFault(spec: SwarmSpec, seed: number): FaultOutcome | undefined {
  const plan = faultPlan(spec, seed, START_MS);
  let impactS = Number.POSITIVE_INFINITY;
  const steps = playFleet({
    spec,
    seed,
    seconds: plan.beginsS + 2 * plan.buildUpS,
    fault: plan.fault,
    announced: plan.announced,
    isOver: (second, seen) => {
      const machine = seen.find(({ endpoint }) => endpoint === plan.endpoint);
      if (second === plan.beginsS) impactS = plan.impactS(machine?.series["memoryShare"] ?? 0);
      return second >= impactS;
    },
  });
  const drains = steps.filter(({ endpoint, kind }) => endpoint === plan.endpoint && kind === "drain");
  if (drains.some(({ second }) => second < plan.beginsS)) return undefined;
  const own = steps.filter(({ endpoint, second }) => endpoint === plan.endpoint && second >= plan.beginsS);
  return {
    kind: plan.kind,
    impactS,
    drainS: own.find(({ kind }) => kind === "drain")?.second,
    firstS: own[0]?.second,
    falseDrains: steps.filter(
      ({ endpoint, isPredicted, kind }) => endpoint !== plan.endpoint && isPredicted && kind === "drain",
    ).length,
  };
}

function faultReport(outcomes: readonly FaultOutcome[]): FaultReport {
  const leads = (of: (one: FaultOutcome) => number | undefined) =>
    outcomes.flatMap((one) => {
      const atS = of(one);
      return atS === undefined || atS >= one.impactS ? [] : [one.impactS - atS];
    });
  const drains = leads(({ drainS }) => drainS);
  const first = leads(({ firstS }) => firstS);
  return {
    trials: outcomes.length,
    drainedBeforeImpact: drains.length,
    actedBeforeImpact: first.length,
    drainLeadSecondsP50: middle(drains),
    leadSecondsP50: middle(first),
    falseDrains: outcomes.reduce((sum, one) => sum + one.falseDrains, 0),
  };
}

function middle(values: readonly number[]): number | null {
  return values.toSorted((one, other) => one - other)[values.length >> 1] ?? null;
}
