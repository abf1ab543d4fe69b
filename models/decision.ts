/**
 * Between a plan and what is done about it: which steps can begin now, and whether a plan says anything that was not seen before.
 */
import { SCALING_LIMITS } from "./limits-scaling.ts";
import type { Observation } from "./observation.ts";
import type { Plan, Step } from "./plan.ts";

/** Kinds of child runs; each holds its own mutex by its workflow id. */
export type RunKind = "drain" | "lost" | "ghosts" | "add" | "roll" | "relieve";

/** A child run that is under way. `endpoint` is undefined where the run concerns the swarm as a whole. */
export interface RunUnderWay {
  readonly workflowId: string;
  readonly kind: RunKind;
  readonly endpoint: string | undefined;
  /** Ghosts that are promised to this run; no other may wake them. */
  readonly ghosts: readonly string[];
  /** Machines that this run has obtained and brings into service. */
  readonly machines: readonly string[];
  readonly startedAtMs: number;
  /** Of runs that add endpoints beside others (models/step.ts); absent: the first, or of another kind. */
  readonly turn?: number | undefined;
}

const KIND_OF_STEP = {
  "drain-and-replace": "drain",
  "finish-lost": "lost",
  "replenish-ghosts": "ghosts",
  "add-endpoints": "add",
  relieve: "relieve",
  "set-weight": undefined,
  page: undefined,
} as const satisfies Record<Step["kind"], RunKind | undefined>;

export function runKindOf(step: Step): RunKind | undefined {
  return KIND_OF_STEP[step.kind];
}

/** The workflow id that is this run's mutex. */
export function runIdOf(swarm: string, kind: RunKind, endpoint: string | undefined): string {
  return endpoint === undefined ? `${kind}/${swarm}` : `${kind}/${swarm}/${endpoint}`;
}

/** The same of the run that a step begins; undefined where it begins none. */
export function runIdOfStep(swarm: string, step: Step): string | undefined {
  const kind = runKindOf(step);
  if (kind === undefined) return undefined;
  return step.kind === "add-endpoints" ? addRunIdOf(swarm, step.turn) : runIdOf(swarm, kind, endpointOf(step));
}

/** Runs that add endpoints at the same time have turns, the first of which is not written. */
export function addRunIdOf(swarm: string, turn = 1): string {
  return turn === 1 ? runIdOf(swarm, "add", undefined) : `add/${swarm}/${turn}`;
}

/** Of each run that may add endpoints. */
export function addRunIds(swarm: string): readonly string[] {
  return Array.from({ length: SCALING_LIMITS.addRunsMax }, (_, at) => addRunIdOf(swarm, at + 1));
}

export function endpointOf(step: Step): string | undefined {
  return "endpoint" in step ? step.endpoint : undefined;
}

/** The workflow that scores the swarm's endpoints. */
export function predictionIdOf(swarm: string): string {
  return `predict/${swarm}`;
}

/** Without the steps whose run, or whose endpoint, is being handled already. */
export function actionableSteps(swarm: string, steps: readonly Step[], runs: readonly RunUnderWay[]): readonly Step[] {
  return steps.filter((step) => {
    const workflowId = runIdOfStep(swarm, step);
    return workflowId === undefined || !runs.some((run) => run.workflowId === workflowId);
  });
}

/**
 * Without the machines that are in a run's hands: until it ends, they are its to weigh and not plan()'s. A ghost that is promised and
 * still asleep counts as one: the run may yet do without it.
 */
export function withoutHandled(observation: Observation, runs: readonly RunUnderWay[]): Observation {
  const handled = new Set(runs.flatMap((run) => [...run.ghosts, ...run.machines]));
  return {
    ...observation,
    endpoints: observation.endpoints.filter((one) => !handled.has(one.endpoint)),
  };
}

/**
 * Equal for two plans that believe the same and withhold the same steps. Figures and moments do not count, only whether there is one:
 * a moment that plan() notes has to be kept by the workflow before it can grow old.
 */
export function fingerprintOf({ state, withheld }: Plan): string {
  return JSON.stringify({
    endpoints: state.endpoints.map((one) => [
      one.endpoint,
      one.phase,
      one.signal,
      one.weight,
      typeof one.unhealthySinceMs === "number",
    ]),
    frozen: typeof state.frozenSinceMs === "number",
    reflexSilent: typeof state.reflexSilentSinceMs === "number",
    waiting: [state.requested.length, state.pending.length, state.disruptions.length],
    paged: state.paged.map((one) => one.subject),
    ...(typeof state.surplusSinceMs === "number" ? { surplus: true } : {}),
    ...(state.reliefs === undefined ? {} : { reliefs: state.reliefs.map(({ endpoint }) => endpoint) }),
    ...(state.risks === undefined ? {} : { risks: state.risks.map(({ score, band }) => [score.endpoint, band]) }),
    withheld: withheld.map(({ step }) => [step.kind, "endpoint" in step ? step.endpoint : ""]),
  });
}
