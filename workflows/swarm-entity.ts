/**
 * What the swarm workflow is made of: its state, what updates and signals do to it, and one turn of its main loop.
 */
import { WorkflowExecutionAlreadyStartedError } from "@temporalio/common";
import {
  CancellationScope,
  ChildWorkflowCancellationType,
  condition,
  isCancellation,
  ParentClosePolicy,
  setCurrentDetails,
  startChild,
  upsertSearchAttributes,
  WorkflowIdReusePolicy,
} from "@temporalio/workflow";
import type { WatchResult } from "../activities/watch.ts";
import { actionableSteps, fingerprintOf, type RunUnderWay, runIdOf, runKindOf, withoutHandled } from "../models/decision.ts";
import { ForeshiftError } from "../models/errors.ts";
import type { Observation } from "../models/observation.ts";
import { parseInput } from "../models/parse.ts";
import { plan, type Step } from "../models/plan.ts";
import { checkSwarmSpec } from "../models/swarm-check.ts";
import type * as messages from "../models/swarm-messages.ts";
import { SwarmSpec } from "../models/swarm-spec.ts";
import * as states from "../models/swarm-state.ts";
import { addEndpoints } from "./add-endpoints.ts";
import { drainAndReplace } from "./drain-and-replace.ts";
import { endpointLost } from "./endpoint-lost.ts";
import { checked, failure, reasonOf } from "./failures.ts";
import { balancerForNow, store, watcher } from "./queues.ts";
import { replenishGhosts } from "./replenish-ghosts.ts";
import { operationKey, SEARCH_ATTRIBUTES } from "./run.ts";
import { swarmPage } from "./swarm-page.ts";

const RECENT_LINES_MAX = 12;

/** What continue-as-new carries. Deadlines in it are absolute. */
export interface SwarmCarried {
  readonly version: 1;
  readonly state: states.SwarmState;
  readonly runs: readonly RunUnderWay[];
  readonly lastPlan: messages.LastPlan | undefined;
  readonly seen: string;
  /** Counts operations over the whole life of the swarm, so that their keys never repeat. */
  readonly operations: number;
  readonly recent: readonly string[];
}

type WeightStep = Extract<Step, { kind: "set-weight" }>;
type RunStep = Exclude<Step, { kind: "set-weight" | "page" }>;

export class SwarmEntity {
  lastPlan: messages.LastPlan | undefined;
  readonly #swarm: string;
  #state: states.SwarmState | undefined;
  #runs: readonly RunUnderWay[] = [];
  #seen = "";
  #operations = 0;
  #recent: readonly string[] = [];
  #locked = false;
  #phase = "";
  /** Weights that are being set; one after the other, so that the last one asked for stands. */
  #weights: Promise<void> = Promise.resolve();
  #weightsUnderWay = 0;
  #endWatch: (() => void) | undefined;
  /** Grows with each change that a message makes: an observation from before one may lack what the state takes for granted. */
  #changes = 0;
  /** Switches that are being thrown: the store says nothing of the switch until they are. */
  #switching = 0;

  constructor(swarm: string, carried: SwarmCarried | undefined) {
    this.#swarm = swarm;
    upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.swarm, value: swarm }]);
    if (carried !== undefined) {
      this.#state = carried.state;
      this.#runs = carried.runs;
      this.lastPlan = carried.lastPlan;
      this.#seen = carried.seen;
      this.#operations = carried.operations;
      this.#recent = carried.recent;
    }
    this.#show();
  }

  get applied(): boolean {
    return this.#state !== undefined;
  }

  /** Nothing is under way that would be cut off by continue-as-new. */
  get idle(): boolean {
    return !this.#locked && this.#weightsUnderWay === 0;
  }

  carried(): SwarmCarried {
    return {
      version: 1,
      state: this.#known(),
      runs: this.#runs,
      lastPlan: this.lastPlan,
      seen: this.#seen,
      operations: this.#operations,
      recent: this.#recent,
    };
  }

  status(): messages.SwarmStatus {
    return {
      swarm: this.#swarm,
      stopped: this.#state?.stopped,
      frozenSinceMs: this.#state?.frozenSinceMs,
      endpoints: this.#state?.endpoints ?? [],
      runs: this.#runs,
      spec: this.#state?.spec,
      recent: this.#recent,
    };
  }

  checkApply(request: messages.ApplySwarmRequest): void {
    checked(() => {
      const spec = parseInput(SwarmSpec, request.spec, "swarm file");
      checkSwarmSpec(spec);
      if (spec.name !== this.#swarm) {
        throw new ForeshiftError("INVALID_FIELD", { field: "name", value: spec.name, detail: `this is swarm ${this.#swarm}` });
      }
      if (this.#state?.stopped !== undefined) throw new ForeshiftError("AUTOMATION_STOPPED", { value: this.#swarm });
      if (this.#state !== undefined) states.applySpec(this.#state, spec);
    });
  }

  async apply(request: messages.ApplySwarmRequest): Promise<messages.ApplySwarmResult> {
    return await this.#withLock(async () => {
      this.checkApply(request);
      const spec = checked(() => parseInput(SwarmSpec, request.spec, "swarm file"));
      const created = this.#state === undefined;
      const reason = `${request.by} applied the swarm file`;
      const steering = { swarm: this.#swarm, operation: this.#nextOperation("apply"), reason, spec };
      await balancerForNow.applySteeringPolicy.executeWithOptions({ summary: reason }, [steering]);
      await store.saveSpec.executeWithOptions({ summary: "Keep the swarm file" }, [{ spec }]);
      this.#state = this.#state === undefined ? states.initialState(spec) : states.applySpec(this.#state, spec);
      this.#note(`${reason}.`);
      this.#wake();
      return { created };
    });
  }

  checkRequest(request: messages.EndpointRequest): void {
    checked(() => states.checkRequest(this.#known(), request.endpoint));
  }

  async request(kind: "drain" | "replace", request: messages.EndpointRequest): Promise<messages.EndpointRequestAccepted> {
    return await this.#withLock(() => {
      this.checkRequest(request);
      const take = kind === "drain" ? states.requestDrain : states.requestReplace;
      this.#state = take(this.#known(), request.endpoint, request.by);
      this.#note(`${request.by} asked to ${kind} ${request.endpoint}.`);
      this.#wake();
      return Promise.resolve({ workflowId: runIdOf(this.#swarm, "drain", request.endpoint) });
    });
  }

  checkStop(request: messages.StopRequest): void {
    checked(() => {
      this.#known();
      if (request.by === "")
        throw new ForeshiftError("INVALID_FIELD", { field: "by", value: "nothing", detail: "say who asks" });
    });
  }

  /** Takes no lock: it must hold at once, whatever is under way. Steps that are under way read the switch in the store. */
  async stop(request: messages.StopRequest): Promise<messages.StopResult> {
    this.#state = states.stop(this.#known(), request.by, request.reason, Date.now());
    this.#note(`${request.by} stopped automation: ${request.reason}.`);
    this.#wake();
    await this.#setSwitch(request, true);
    return { stopped: true };
  }

  async resume(request: messages.StopRequest): Promise<messages.StopResult> {
    await this.#setSwitch(request, false);
    this.#state = states.resume(this.#known(), Date.now());
    this.#note(`${request.by} resumed automation: ${request.reason}.`);
    this.#wake();
    // Another switch may hold it still; the watch says so within one look.
    return { stopped: false };
  }

  machineObtained({ workflowId, machine }: messages.MachineObtained): void {
    this.#runs = this.#runs.map((run) =>
      run.workflowId === workflowId ? { ...run, machines: [...run.machines, machine] } : run,
    );
    this.#wake();
  }

  drainFinished(fact: messages.DrainFinished): void {
    const outcome = fact.outcome === "replaced" ? "replaced" : "failed";
    this.#runEnded(fact, (state) => states.recordDisruptionEnd(state, fact.endpoint, outcome, Date.now()));
  }

  lossHandled(fact: messages.LossHandled): void {
    this.#runEnded(fact, (state) => states.recordDisruptionEnd(state, fact.endpoint, fact.outcome, Date.now()));
  }

  ghostsReplenished(fact: messages.MachinesAdded): void {
    this.#runEnded(fact, (state) => states.recordLaunchEnd(state, "ghost"));
  }

  endpointsAdded(fact: messages.MachinesAdded): void {
    this.#runEnded(fact, (state) => states.recordLaunchEnd(state, "endpoint"));
  }

  /** One turn of the main loop: watch until there is something to decide, decide, act. */
  async turn(): Promise<void> {
    const changes = this.#changes;
    const seen = await this.#watch();
    if (seen === undefined) return;
    await this.#withLock(async () => {
      if (changes !== this.#changes) return;
      if (this.#switching === 0) this.#takeSwitch(seen.stopped);
      for (const workflowId of seen.vanished) this.#runVanished(workflowId);
      await this.#decide(seen.observation);
    });
  }

  /** Undefined when it was cut short, because the state has changed. */
  async #watch(): Promise<WatchResult | undefined> {
    const input = { swarm: this.#swarm, state: this.#known(), runs: this.#runs, seen: this.#seen };
    const scope = new CancellationScope();
    this.#endWatch = () => scope.cancel();
    try {
      return await scope.run(() =>
        watcher.watchSwarm.executeWithOptions({ summary: "Watch until there is something to decide" }, [input]),
      );
    } catch (thrown) {
      if (isCancellation(thrown) && !CancellationScope.current().consideredCancelled) return undefined;
      throw thrown;
    } finally {
      this.#endWatch = undefined;
    }
  }

  async #decide(seen: Observation): Promise<void> {
    const observation = withoutHandled(seen, this.#runs);
    const decision = plan(this.#known(), observation, observation.atMs);
    this.#state = decision.state;
    this.#seen = fingerprintOf(decision);
    this.lastPlan = { atMs: observation.atMs, steps: decision.steps, withheld: decision.withheld };
    for (const step of actionableSteps(this.#swarm, decision.steps, this.#runs)) {
      if (step.kind === "set-weight") this.#setWeight(step, observation);
      else if (step.kind === "page") await this.#page(step.subject, step.reason);
      else await this.#startRun(step, observation);
    }
    this.#show();
  }

  #setWeight(step: WeightStep, observation: Observation): void {
    const { endpoint, weight, reason } = step;
    const operation = this.#nextOperation(`weight-${endpoint}`);
    const summary = `${endpoint} gets weight ${weight}: ${reason}`;
    this.#weightsUnderWay += 1;
    this.#weights = this.#weights
      .then(async () => {
        const input = { swarm: this.#swarm, operation, reason, endpoint, weight, draining: false };
        await balancerForNow.setWeight.executeWithOptions({ summary }, [input]);
        this.#note(`${summary}.`);
      })
      .catch((thrown: unknown) => {
        // plan() compares with what was asked for: what the balancer holds is believed again.
        const held = observation.endpoints.find((one) => one.endpoint === endpoint)?.weight;
        if (held !== undefined) this.#believeWeight(endpoint, held);
        this.#note(`The weight of ${endpoint} could not be set: ${reasonOf(thrown)}.`);
      })
      .finally(() => {
        this.#weightsUnderWay -= 1;
      });
  }

  #believeWeight(endpoint: string, weight: number): void {
    const state = this.#known();
    const endpoints = state.endpoints.map((record) => (record.endpoint === endpoint ? { ...record, weight } : record));
    this.#state = { ...state, endpoints };
  }

  async #page(subject: string, text: string): Promise<void> {
    const operation = this.#nextOperation("page");
    this.#note(`Paged: ${subject}. ${text}`);
    await store.page.executeWithOptions({ summary: `Page a person: ${subject}` }, [
      { operation, swarm: this.#swarm, subject, text },
    ]);
  }

  async #startRun(step: RunStep, observation: Observation): Promise<void> {
    const kind = runKindOf(step);
    if (kind === undefined) return;
    const endpoint = "endpoint" in step ? step.endpoint : undefined;
    const ghosts = kind === "ghosts" ? [] : this.#freeGhosts(observation).slice(0, "count" in step ? step.count : 1);
    const workflowId = runIdOf(this.#swarm, kind, endpoint);
    const run: RunUnderWay = { workflowId, kind, endpoint, ghosts, machines: [], startedAtMs: observation.atMs };
    this.#runs = [...this.#runs, run];
    this.#note(step.reason);
    await this.#startChild(step, run, observation);
  }

  async #startChild(step: RunStep, run: RunUnderWay, observation: Observation): Promise<void> {
    const { spec } = this.#known();
    const { reason } = step;
    const seen = observation.endpoints.find((one) => one.endpoint === run.endpoint);
    const [ghost] = run.ghosts;
    switch (step.kind) {
      case "drain-and-replace": {
        const { endpoint, cause } = step;
        const weight = seen?.weight ?? spec.endpoints.weight;
        return await begin(drainAndReplace, run, reason, { endpoint, cause, reason, weight, ghost, spec });
      }
      case "finish-lost": {
        const { endpoint, cause } = step;
        const ejectedAtMs = seen?.ejectedAtMs;
        return await begin(endpointLost, run, reason, { endpoint, cause, reason, ejectedAtMs, ghost, spec });
      }
      case "replenish-ghosts":
        return await begin(replenishGhosts, run, reason, { count: step.count, reason, spec });
      case "add-endpoints":
        return await begin(addEndpoints, run, reason, { count: step.count, reason, ghosts: run.ghosts, spec });
    }
  }

  #freeGhosts(observation: Observation): readonly string[] {
    const promised = new Set(this.#runs.flatMap((run) => run.ghosts));
    return observation.ghosts.filter((ghost) => !promised.has(ghost));
  }

  #runEnded(fact: { workflowId: string; text: string }, change: (state: states.SwarmState) => states.SwarmState): void {
    this.#runs = this.#runs.filter((run) => run.workflowId !== fact.workflowId);
    this.#state = change(this.#known());
    this.#note(fact.text);
    this.#wake();
  }

  #runVanished(workflowId: string): void {
    const run = this.#runs.find((candidate) => candidate.workflowId === workflowId);
    if (run === undefined) return;
    const text = `The run ${workflowId} ended without a word; the swarm decides anew.`;
    const { endpoint, kind } = run;
    this.#runEnded({ workflowId, text }, (state) => {
      if (endpoint !== undefined) return states.recordDisruptionEnd(state, endpoint, "failed", Date.now());
      return states.recordLaunchEnd(state, kind === "ghosts" ? "ghost" : "endpoint");
    });
  }

  /** The store's switch is the truth: it may have been thrown while this workflow could not be reached. */
  #takeSwitch(found: WatchResult["stopped"]): void {
    const state = this.#known();
    if (found !== undefined && state.stopped === undefined) {
      this.#state = states.stop(state, found.by, found.reason, found.atMs);
      this.#note(`${found.by} stopped automation: ${found.reason}.`);
    } else if (found === undefined && state.stopped !== undefined) {
      this.#state = states.resume(state, Date.now());
      this.#note("Automation was resumed.");
    }
  }

  async #setSwitch(request: messages.StopRequest, on: boolean): Promise<void> {
    const { by, reason } = request;
    const scope = request.scope === "all" ? "*" : this.#swarm;
    const summary = `${by} ${on ? "stopped" : "resumed"} automation: ${reason}`;
    this.#switching += 1;
    try {
      await store.setStopSwitch.executeWithOptions({ summary }, [{ scope, on, by, reason }]);
    } finally {
      this.#switching -= 1;
      this.#wake();
    }
  }

  async #withLock<T>(act: () => Promise<T>): Promise<T> {
    await condition(() => !this.#locked);
    this.#locked = true;
    try {
      return await act();
    } finally {
      this.#locked = false;
    }
  }

  #known(): states.SwarmState {
    if (this.#state === undefined) throw failure(new ForeshiftError("UNKNOWN_SWARM", { value: this.#swarm }));
    return this.#state;
  }

  #nextOperation(step: string): string {
    this.#operations += 1;
    return operationKey(`${step}-${this.#operations}`);
  }

  /** The state is another one: the watch begins anew with it. */
  #wake(): void {
    this.#changes += 1;
    this.#endWatch?.();
    this.#show();
  }

  #note(line: string): void {
    this.#recent = [`${new Date().toISOString().slice(0, 19)}Z ${line}`, ...this.#recent].slice(0, RECENT_LINES_MAX);
  }

  #show(): void {
    const { phase, text } = swarmPage(this.status(), this.lastPlan);
    setCurrentDetails(text);
    if (phase === this.#phase) return;
    this.#phase = phase;
    upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.phase, value: phase }]);
  }
}

/** Starts a run that outlives this workflow's continue-as-new and tells it its last word by signal. */
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
    // A run of this id is under way, begun before this workflow knew of it; its word will come.
    if (!(thrown instanceof WorkflowExecutionAlreadyStartedError)) throw thrown;
  }
}
