/**
 * The child runs of a swarm that are under way: begins them, and keeps which machines are in whose hands.
 */
import { WorkflowExecutionAlreadyStartedError } from "@temporalio/common";
import { ChildWorkflowCancellationType, ParentClosePolicy, startChild, WorkflowIdReusePolicy } from "@temporalio/workflow";
import { type RunUnderWay, runIdOf, runKindOf } from "../models/decision.ts";
import { isOfAnother } from "../models/image.ts";
import type { Observation } from "../models/observation.ts";
import type { Step } from "../models/plan.ts";
import { ROLL_CAUSE } from "../models/roll.ts";
import type * as messages from "../models/swarm-messages.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { addEndpoints } from "./add-endpoints.ts";
import { drainAndReplace } from "./drain-and-replace.ts";
import { drainEndpoint } from "./drain-endpoint.ts";
import { endpointLost } from "./endpoint-lost.ts";
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
    if (kind === undefined) return;
    const endpoint = "endpoint" in step ? step.endpoint : undefined;
    const ghosts = this.#ghostsFor(step, spec, observation);
    const workflowId = runIdOf(this.#swarm, kind, endpoint);
    const run: RunUnderWay = { workflowId, kind, endpoint, ghosts, machines: [], startedAtMs: observation.atMs };
    this.#underWay = [...this.#underWay, run];
    await startRun(step, run, spec, observation);
  }

  async roll(input: RollInput): Promise<void> {
    const { by, image, startedAtMs } = input.roll;
    const workflowId = runIdOf(this.#swarm, "roll", undefined);
    const run: RunUnderWay = { workflowId, kind: "roll", endpoint: undefined, ghosts: [], machines: [], startedAtMs };
    this.#underWay = [...this.#underWay, run];
    await begin(rollImage, run, `${by} asked for every machine to be of ${image}`, input);
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

  /**
   * Those of the image in force before others. While one is being rolled out no other is woken: the former may be what is being got rid of,
   * and on the way back the image may be what made things worse.
   */
  #ghostsFor(step: RunStep, spec: SwarmSpec, observation: Observation): readonly string[] {
    const promised = new Set(this.#underWay.flatMap((run) => run.ghosts));
    const free = observation.ghosts.filter((ghost) => !promised.has(ghost));
    if (step.kind === "replenish-ghosts") return free.filter((ghost) => step.replaces?.includes(ghost) === true);
    const isStale = (ghost: string) => isOfAnother(observation.ghostImages?.[ghost], spec.endpoints.image);
    const fresh = free.filter((ghost) => !isStale(ghost));
    const isRolling = this.#underWay.some((run) => run.kind === "roll") || ("cause" in step && step.cause === ROLL_CAUSE);
    return [...fresh, ...(isRolling ? [] : free.filter(isStale))].slice(0, machinesWanted(step));
  }
}

/** How many machines the run brings into service, each of which a ghost may become. */
function machinesWanted(step: Exclude<RunStep, { kind: "replenish-ghosts" }>): number {
  switch (step.kind) {
    case "add-endpoints":
      return step.count;
    case "finish-lost":
      return 1;
    case "drain-and-replace":
      return step.mode === "replace" ? 1 : 0;
  }
}

async function startRun(step: RunStep, run: RunUnderWay, spec: SwarmSpec, observation: Observation): Promise<void> {
  const { reason } = step;
  const seen = observation.endpoints.find((one) => one.endpoint === run.endpoint);
  const [ghost] = run.ghosts;
  switch (step.kind) {
    case "drain-and-replace": {
      const { endpoint, cause } = step;
      const input = { endpoint, cause, reason, weight: seen?.weight ?? spec.endpoints.weight, spec };
      if (step.mode === "drain") return await begin(drainEndpoint, run, reason, input);
      return await begin(drainAndReplace, run, reason, { ...input, ghost });
    }
    case "finish-lost": {
      const { endpoint, cause } = step;
      const ejectedAtMs = seen?.ejectedAtMs;
      return await begin(endpointLost, run, reason, { endpoint, cause, reason, ejectedAtMs, ghost, spec });
    }
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

/** Starts a run that outlives the swarm's continue-as-new and tells it its last word by signal. */
async function begin<I>(workflow: (input: I) => Promise<unknown>, run: RunUnderWay, reason: string, input: I): Promise<void> {
  try {
    await startChild(workflow, {
      args: [input],
      workflowId: run.workflowId,
      workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
      parentClosePolicy: ParentClosePolicy.ABANDON,
      cancellationType: ChildWorkflowCancellationType.ABANDON,
      staticSummary: reason,
    });
  } catch (thrown) {
    // A run of this id is under way, begun before the swarm knew of it; its word will come.
    if (!(thrown instanceof WorkflowExecutionAlreadyStartedError)) throw thrown;
  }
}
