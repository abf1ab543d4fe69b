/**
 * What the swarm workflow is made of: its state, what updates and signals do to it, and one turn of its main loop.
 */
import { condition, patched, upsertSearchAttributes } from "@temporalio/workflow";
import type { WatchInput, WatchResult } from "../activities/watch.ts";
import { checkDrain } from "../models/budget.ts";
import { actionableSteps, fingerprintOf, type RunUnderWay, runIdOf, withoutHandled } from "../models/decision.ts";
import type { Abilities } from "../models/draft.ts";
import { ForeshiftError } from "../models/errors.ts";
import { ImageName, imageInForce, shortImage } from "../models/image.ts";
import type { Observation } from "../models/observation.ts";
import { parseInput } from "../models/parse.ts";
import { ABILITIES, abilitiesUsed, FORMER_ABILITIES, type Plan, plan } from "../models/plan.ts";
import { goalOf, newRoll, rollStatus } from "../models/roll.ts";
import { checkSwarmSpec } from "../models/swarm-check.ts";
import type * as messages from "../models/swarm-messages.ts";
import { RollPolicy, SwarmSpec } from "../models/swarm-spec.ts";
import * as states from "../models/swarm-state.ts";
import { checked, failure } from "./failures.ts";
import { beginPredicting } from "./predict-start.ts";
import { balancerForNow, observer, store, watcher } from "./queues.ts";
import { operationKey, SEARCH_ATTRIBUTES } from "./run.ts";
import { SwarmBoard } from "./swarm-page.ts";
import { SwarmRuns } from "./swarm-runs.ts";
import { SwarmSwitch } from "./swarm-switch.ts";
import { SwarmWeights } from "./swarm-weights.ts";
import { Watch } from "./watch.ts";

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

export class SwarmEntity {
  lastPlan: messages.LastPlan | undefined;
  readonly #swarm: string;
  readonly #runs: SwarmRuns;
  readonly #board: SwarmBoard;
  readonly #weights = new SwarmWeights();
  readonly #watch = new Watch((input: WatchInput) =>
    watcher.watchSwarm.executeWithOptions({ summary: "Watch until there is something to decide" }, [input]),
  );
  readonly #switch = new SwarmSwitch();
  #state: states.SwarmState | undefined;
  #seen: string;
  #operations: number;
  #locked = false;

  constructor(swarm: string, carried: SwarmCarried | undefined) {
    this.#swarm = swarm;
    upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.swarm, value: swarm }]);
    this.#state = carried?.state;
    this.#runs = new SwarmRuns(swarm, carried?.runs ?? []);
    this.lastPlan = carried?.lastPlan;
    this.#seen = carried?.seen ?? "";
    this.#operations = carried?.operations ?? 0;
    this.#board = new SwarmBoard(carried?.recent ?? []);
    this.#show();
  }

  get applied(): boolean {
    return this.#state !== undefined;
  }

  /** Nothing is under way that would be cut off by continue-as-new. */
  get idle(): boolean {
    return !this.#locked && this.#weights.idle;
  }

  carried(): SwarmCarried {
    return {
      version: 1,
      state: this.#known(),
      runs: this.#runs.underWay,
      lastPlan: this.lastPlan,
      seen: this.#seen,
      operations: this.#operations,
      recent: this.#board.recent,
    };
  }

  status(): messages.SwarmStatus {
    return {
      swarm: this.#swarm,
      stopped: this.#state?.stopped,
      frozenSinceMs: this.#state?.frozenSinceMs,
      endpoints: this.#state?.endpoints ?? [],
      runs: this.#runs.underWay,
      requested: this.#state?.requested ?? [],
      spec: this.#state?.spec,
      risks: this.#state?.risks ?? [],
      demand: this.#state?.demand,
      roll: this.#state?.roll?.status,
      recent: this.#board.recent,
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
      if (this.#state === undefined) return;
      if (spec.endpoints.image !== this.#state.spec.endpoints.image) this.#checkNoRoll();
      states.applySpec(this.#state, spec);
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
      this.#board.note(`${reason}.`);
      this.#wake();
      await beginPredicting(this.#swarm);
      return { created };
    });
  }

  checkRequest(request: messages.EndpointRequest): void {
    checked(() => states.checkRequest(this.#known(), request.endpoint));
  }

  /** A drain that the other members could not bear is refused at once, instead of waiting for what will hardly come. */
  async request(kind: "drain" | "replace", request: messages.EndpointRequest): Promise<messages.EndpointRequestAccepted> {
    return await this.#withLock(async () => {
      const { endpoint, by } = request;
      this.checkRequest(request);
      if (kind === "drain") {
        const summary = `Can the others do without ${endpoint}?`;
        const observation = await observer.observeSwarm.executeWithOptions({ summary }, [{ swarm: this.#swarm }]);
        checked(() => checkDrain(this.#known(), endpoint, withoutHandled(observation, this.#runs.underWay)));
        this.checkRequest(request);
      }
      const take = kind === "drain" ? states.requestDrain : states.requestReplace;
      this.#state = take(this.#known(), endpoint, by);
      this.#board.note(`${by} asked to ${kind} ${endpoint}.`);
      this.#wake();
      return { workflowId: runIdOf(this.#swarm, "drain", endpoint) };
    });
  }

  checkRoll(request: messages.RollRequest): void {
    checked(() => {
      const { stopped } = this.#known();
      parseInput(ImageName, request.image, "image");
      parseInput(RollPolicy.partial(), request.policy, "rollout");
      if (stopped !== undefined) throw new ForeshiftError("AUTOMATION_STOPPED", { value: this.#swarm });
      this.#checkNoRoll();
    });
  }

  /** From here on machines are launched from this image; its own run says which endpoints are to be replaced, and when. */
  async roll(request: messages.RollRequest): Promise<messages.RollAccepted> {
    return await this.#withLock(async () => {
      this.checkRoll(request);
      const { by, image } = request;
      const summary = "What do the machines boot from?";
      const observation = await observer.observeSwarm.executeWithOptions({ summary }, [{ swarm: this.#swarm }]);
      this.checkRoll(request);
      const { spec } = this.#known();
      const previous = checked(() => formerImage(this.#known(), observation));
      const policy = checked(() => parseInput(RollPolicy, { ...spec.rollout, ...request.policy }, "rollout"));
      const roll = newRoll({ image, previous, by, policy }, observation, observation.atMs);
      const workflowId = runIdOf(this.#swarm, "roll", undefined);
      const status = rollStatus(roll);
      const before = this.#known();
      this.#state = states.takeRoll(before, goalOf(roll), { workflowId, endpoints: [], status });
      this.#board.note(`${by} asked for every machine to be of ${shortImage(image)}, now ${shortImage(previous)}.`);
      if (!(await this.#runs.roll({ swarm: this.#swarm, spec, roll }))) {
        this.#state = { ...this.#known(), image: before.image, roll: before.roll };
        throw failure(new ForeshiftError("ROLL_UNDER_WAY", { value: this.#swarm, detail: workflowId }));
      }
      this.#wake();
      return { workflowId, status };
    });
  }

  rollAdvanced({ endpoints, image, status, workflowId }: messages.RollAdvanced): void {
    if (this.#state === undefined) return;
    if (this.#state.roll?.status.phase !== status.phase) this.#board.note(`Rollout, ${status.phase}: ${status.text}`);
    this.#state = states.takeRoll(this.#state, image, { workflowId, endpoints, status });
    this.#wake();
  }

  rollFinished({ image, status, text, workflowId }: messages.RollFinished): void {
    this.#runEnded({ workflowId, text }, (state) => states.takeRoll(state, image, { workflowId, endpoints: [], status }));
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
    this.#board.note(`${request.by} stopped automation: ${request.reason}.`);
    this.#wake();
    try {
      await this.#switch.set(this.#swarm, request, true);
    } finally {
      this.#wake();
    }
    return { stopped: true };
  }

  async resume(request: messages.StopRequest): Promise<messages.StopResult> {
    await this.#switch.set(this.#swarm, request, false);
    this.#state = states.resume(this.#known(), Date.now());
    this.#board.note(`${request.by} resumed automation: ${request.reason}.`);
    this.#wake();
    // Another switch may hold it still; the watch says so within one look.
    return { stopped: false };
  }

  machineObtained(fact: messages.MachineObtained): void {
    this.#runs.machineObtained(fact);
    this.#wake();
  }

  drainFinished(fact: messages.DrainFinished): void {
    const { endpoint, outcome } = fact;
    const ended = outcome === "replaced" || outcome === "drained" ? outcome : "failed";
    this.#runEnded(fact, (state) => states.recordDisruptionEnd(state, endpoint, ended, Date.now()));
  }

  lossHandled(fact: messages.LossHandled): void {
    this.#runEnded(fact, (state) => states.recordDisruptionEnd(state, fact.endpoint, fact.outcome, Date.now()));
  }

  endpointRelieved(fact: messages.EndpointRelieved): void {
    const { endpoint, failed } = fact;
    this.#runEnded(fact, (state) => states.recordReliefEnd(state, endpoint, failed, Date.now()));
  }

  ghostsReplenished(fact: messages.MachinesAdded): void {
    this.#runEnded(fact, (state) => states.recordLaunchEnd(state, "ghost"));
  }

  endpointsAdded(fact: messages.MachinesAdded): void {
    this.#runEnded(fact, (state, run) => states.recordLaunchEnd(state, "endpoint", run?.turn));
  }

  /** What was predicted anew. The watch begins anew only when a band, or the expected load, is another one. */
  risksScored({ demand, scores }: messages.RisksScored): void {
    if (this.#state === undefined) return;
    const before = bandsOf(this.#state);
    this.#state = states.takeScores(this.#state, scores, Date.now());
    if (demand !== undefined) this.#state = states.takeDemand(this.#state, demand);
    if (bandsOf(this.#state) !== before) this.#wake();
  }

  /** One turn of the main loop: watch until there is something to decide, decide, act. */
  async turn(): Promise<void> {
    const { changes } = this.#watch;
    const state = this.#known();
    const seen = await this.#watch.next({ swarm: this.#swarm, state, runs: this.#runs.underWay, seen: this.#seen });
    if (seen === undefined) return;
    await this.#withLock(async () => {
      if (changes !== this.#watch.changes) return;
      if (this.#switch.settled) this.#takeSwitch(seen.stopped);
      for (const workflowId of seen.vanished) this.#runVanished(workflowId);
      await this.#decide(seen.observation);
    });
  }

  async #decide(seen: Observation): Promise<void> {
    const observation = withoutHandled(seen, this.#runs.underWay);
    const decision = planned(this.#known(), observation);
    this.#state = decision.state;
    this.#seen = fingerprintOf(decision);
    this.lastPlan = { atMs: observation.atMs, steps: decision.steps, withheld: decision.withheld };
    for (const step of actionableSteps(this.#swarm, decision.steps, this.#runs.underWay)) {
      if (step.kind === "set-weight") {
        const held = observation.endpoints.find((one) => one.endpoint === step.endpoint)?.weight;
        this.#weights.set({
          swarm: this.#swarm,
          operation: this.#nextOperation(`weight-${step.endpoint}`),
          step,
          note: (line) => this.#board.note(line),
          failed: () => {
            if (held !== undefined) this.#state = states.believeWeight(this.#known(), step.endpoint, held);
          },
        });
      } else if (step.kind === "page") await this.#page(step.subject, step.reason);
      else {
        this.#board.note(step.reason);
        await this.#runs.start(step, specInForce(this.#known()), observation);
      }
    }
    this.#show();
  }

  async #page(subject: string, text: string): Promise<void> {
    const operation = this.#nextOperation("page");
    this.#board.note(`Paged: ${subject}. ${text}`);
    await store.page.executeWithOptions({ summary: `Page a person: ${subject}` }, [
      { operation, swarm: this.#swarm, subject, text },
    ]);
  }

  #runEnded(
    fact: { workflowId: string; text: string },
    change: (state: states.SwarmState, run: RunUnderWay | undefined) => states.SwarmState,
  ): void {
    const run = this.#runs.end(fact.workflowId);
    this.#state = change(this.#known(), run);
    this.#board.note(fact.text);
    this.#wake();
  }

  #runVanished(workflowId: string): void {
    const run = this.#runs.end(workflowId);
    if (run === undefined) return;
    const text = `The run ${workflowId} ended without a word; the swarm decides anew.`;
    const { endpoint, kind, turn } = run;
    this.#runEnded({ workflowId, text }, (state) => {
      if (endpoint !== undefined && kind === "relieve") return states.recordReliefEnd(state, endpoint, true, Date.now());
      if (endpoint !== undefined) return states.recordDisruptionEnd(state, endpoint, "failed", Date.now());
      if (kind === "roll") return states.forgetRoll(state);
      return states.recordLaunchEnd(state, kind === "ghosts" ? "ghost" : "endpoint", turn);
    });
  }

  /** The store's switch is the truth: it may have been thrown while this workflow could not be reached. */
  #takeSwitch(found: WatchResult["stopped"]): void {
    const state = this.#known();
    if (found !== undefined && state.stopped === undefined) {
      this.#state = states.stop(state, found.by, found.reason, found.atMs);
      this.#board.note(`${found.by} stopped automation: ${found.reason}.`);
    } else if (found === undefined && state.stopped !== undefined) {
      this.#state = states.resume(state, Date.now());
      this.#board.note("Automation was resumed.");
    }
  }

  #checkNoRoll(): void {
    const roll = this.#runs.underWay.find((run) => run.kind === "roll");
    if (roll === undefined) return;
    const detail = this.#state?.roll?.status.text ?? roll.workflowId;
    throw new ForeshiftError("ROLL_UNDER_WAY", { value: this.#swarm, detail });
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
    this.#watch.startAnew();
    this.#show();
  }

  #show(): void {
    this.#board.show(this.status(), this.lastPlan);
  }
}

const ABILITY_PATCHES: Readonly<Record<keyof Abilities, string>> = {
  addRunsMax: "add-runs",
  relieves: "relieve",
  spreads: "spread-ill",
};

/** Runs that were under way before an ability was known decide on as they began. */
function planned(state: states.SwarmState, observation: Observation): Plan {
  let abilities = ABILITIES;
  for (;;) {
    const decision = plan(state, observation, observation.atMs, abilities);
    const unknown = abilitiesUsed(decision).find((ability) => !patched(ABILITY_PATCHES[ability]));
    if (unknown === undefined) return decision;
    abilities = { ...abilities, [unknown]: FORMER_ABILITIES[unknown] };
  }
}

/** As runs take it: with the image that is in force. */
function specInForce(state: states.SwarmState): SwarmSpec {
  const image = imageInForce(state);
  return image === undefined ? state.spec : { ...state.spec, endpoints: { ...state.spec.endpoints, image } };
}

/** What is in force, or what most endpoints boot from; INVALID_FIELD where the hypervisor does not tell. */
function formerImage(state: states.SwarmState, { endpoints }: Observation): string {
  const running = endpoints.filter((one) => one.machine === "running");
  const images = running.flatMap(({ image }) => image ?? []);
  if (images.length < running.length || running.length === 0) {
    const told = `${images.length} of ${running.length} running machines say what they boot from`;
    throw new ForeshiftError("INVALID_FIELD", { field: "image", value: told, detail: "expected all, and one at least" });
  }
  const count = (image: string) => images.filter((other) => other === image).length;
  const [most = ""] = images.toSorted((a, b) => count(b) - count(a) || (a < b ? -1 : 1));
  return imageInForce(state) ?? most;
}

function bandsOf({ demand, risks }: states.SwarmState): string {
  return JSON.stringify([demand?.atMs ?? 0, (risks ?? []).map(({ score, band }) => [score.endpoint, band])]);
}
