/**
 * The child runs of a swarm that are under way: begins them, and keeps which machines are in whose hands.
 */
import { WorkflowExecutionAlreadyStartedError } from "@temporalio/common";
import {
  ChildWorkflowCancellationType,
  ParentClosePolicy,
  patched,
  sleep,
  startChild,
  WorkflowIdReusePolicy,
} from "@temporalio/workflow";
import { endpointOf, type RunUnderWay, runIdOf, runIdOfStep, runKindOf } from "../models/decision.ts";
import { RUN_LIMITS } from "../models/limits-runs.ts";
import type { Observation } from "../models/observation.ts";
import type { Step } from "../models/plan.ts";
import { ghostsFor } from "../models/promised-ghosts.ts";
import type * as messages from "../models/swarm-messages.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { addEndpoints } from "./add-endpoints.ts";
import { drainAndReplace } from "./drain-and-replace.ts";
import { drainEndpoint } from "./drain-endpoint.ts";
import { endpointLost } from "./endpoint-lost.ts";
import { relieveEndpoint } from "./relieve-endpoint.ts";
import { replenishGhosts } from "./replenish-ghosts.ts";
import { type RollInput, rollImage } from "./roll-image.ts";

export type RunStep = Exclude<Step, { kind: "set-weight" | "page" }>;

export class SwarmRuns {
  readonly #swarm: string;
  #underWay: readonly RunUnderWay[];

  constructor(swarm: string, underWay: readonly RunUnderWay[]) {
    this.#swarm = swarm;
    this.#underWay = underWay;
  }

  get underWay(): readonly RunUnderWay[] {
    return this.#underWay;
  }

  async start(step: RunStep, spec: SwarmSpec, observation: Observation): Promise<void> {
    const kind = runKindOf(step);
    const workflowId = runIdOfStep(this.#swarm, step);
    if (kind === undefined || workflowId === undefined) return;
    const ghosts = ghostsFor(step, this.#underWay, observation, spec.endpoints.image);
    const known = { workflowId, kind, endpoint: endpointOf(step), ghosts, machines: [], startedAtMs: observation.atMs };
    const run: RunUnderWay = step.kind === "add-endpoints" && step.turn !== undefined ? { ...known, turn: step.turn } : known;
    this.#underWay = [...this.#underWay, run];
    await startRun(step, run, spec, observation);
  }

  /** False when another rollout is under way that the swarm did not know of. */
  async roll(input: RollInput): Promise<boolean> {
    const { by, image, startedAtMs } = input.roll;
    const workflowId = runIdOf(this.#swarm, "roll", undefined);
    const run: RunUnderWay = { workflowId, kind: "roll", endpoint: undefined, ghosts: [], machines: [], startedAtMs };
    this.#underWay = [...this.#underWay, run];
    const begun = await begin(rollImage, run, `${by} asked for every machine to be of ${image}`, input);
    if (!begun) this.end(workflowId);
    return begun;
  }

  machineObtained({ workflowId, machine }: messages.MachineObtained): void {
    this.#underWay = this.#underWay.map((run) =>
      run.workflowId === workflowId ? { ...run, machines: [...run.machines, machine] } : run,
    );
  }

  /** The run, which is under way no more; undefined when it was not. */
  end(workflowId: string): RunUnderWay | undefined {
    const ended = this.#underWay.find((run) => run.workflowId === workflowId);
    this.#underWay = this.#underWay.filter((run) => run !== ended);
    return ended;
  }
}

async function startRun(step: RunStep, run: RunUnderWay, spec: SwarmSpec, observation: Observation): Promise<boolean> {
  const { reason } = step;
  const seen = observation.endpoints.find((one) => one.endpoint === run.endpoint);
  const [ghost] = run.ghosts;
  switch (step.kind) {
    case "drain-and-replace": {
      const { endpoint, cause } = step;
      const input = { endpoint, cause, reason, weight: seen?.weight ?? spec.endpoints.weight, spec };
      if (step.mode === "drain") return await begin(drainEndpoint, run, reason, input);
      const spread = step.mode === "spread" ? { spread: true } : {};
      return await begin(drainAndReplace, run, reason, { ...input, ghost, ...spread });
    }
    case "finish-lost": {
      const { endpoint, cause } = step;
      const ejectedAtMs = seen?.ejectedAtMs;
      return await begin(endpointLost, run, reason, { endpoint, cause, reason, ejectedAtMs, ghost, spec });
    }
    case "relieve":
      return await begin(relieveEndpoint, run, reason, { endpoint: step.endpoint, to: step.to, reason, spec });
    case "replenish-ghosts":
      return await begin(replenishGhosts, run, reason, {
        count: step.count,
        reason,
        ...(run.ghosts.length === 0 ? {} : { replaces: run.ghosts }),
        spec,
      });
    case "add-endpoints":
      return await begin(addEndpoints, run, reason, { count: step.count, reason, ghosts: run.ghosts, spec });
  }
}

type RunWorkflow<I> = (input: I) => Promise<unknown>;

/**
 * Begins a run that outlives the swarm's continue-as-new and tells it its last word by signal. A run that has told it may take a moment
 * longer to end; what is under way after that was begun before the swarm knew of it, and its word will come: false.
 */
async function begin<I>(workflow: RunWorkflow<I>, run: RunUnderWay, reason: string, input: I): Promise<boolean> {
  if (await started(workflow, run, reason, input)) return true;
  // Histories from before took it for begun.
  if (!patched("begin-again")) return true;
  for (const pauseMs of RUN_LIMITS.beginAgainAfterMs) {
    await sleep(pauseMs);
    if (await started(workflow, run, reason, input)) return true;
  }
  return false;
}

/** False while another run of its id is under way. */
async function started<I>(workflow: RunWorkflow<I>, run: RunUnderWay, reason: string, input: I): Promise<boolean> {
  try {
    await startChild(workflow, {
      args: [input],
      workflowId: run.workflowId,
      workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
      parentClosePolicy: ParentClosePolicy.ABANDON,
      cancellationType: ChildWorkflowCancellationType.ABANDON,
      staticSummary: reason,
    });
    return true;
  } catch (thrown) {
    if (thrown instanceof WorkflowExecutionAlreadyStartedError) return false;
    throw thrown;
  }
}
