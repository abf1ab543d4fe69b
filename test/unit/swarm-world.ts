/**
 * A swarm to decide about: endpoints that sicken, die and recover as a script says, runs that take their time and end well or not.
 * It keeps its own account of what was disrupted and when, so that the decision's account is not what it is judged by.
 */
import type { EndpointObservation, Observation } from "../../models/observation.ts";
import {
  type DisruptionOutcome,
  initialState,
  type Plan,
  plan,
  recordDisruptionEnd,
  recordLaunchEnd,
  requestDrain,
  requestReplace,
  resume,
  type Step,
  type SwarmState,
  stop,
} from "../../models/plan.ts";
import type { SwarmSpec } from "../../models/swarm-spec.ts";
import { endpointOf } from "./fixtures.ts";

export type Condition =
  | { readonly kind: "well" | "ejected" | "gone" | "slow" | "silent-agent" }
  | { readonly kind: "lossy" | "busy"; readonly share: number };

export interface Tick {
  readonly afterMs: number;
  readonly change: readonly { readonly index: number; readonly condition: Condition }[];
  readonly sessions: number;
  readonly reflexAnswers: boolean;
  readonly switch: "stop" | "resume" | "leave";
  readonly request: { readonly kind: "drain" | "replace"; readonly index: number } | undefined;
  /** Runs that end before this decision, the oldest first, and how. */
  readonly ends: readonly DisruptionOutcome[];
  readonly launchesEnd: boolean;
  /** Whether a weight that is set takes effect. */
  readonly weightsTake: boolean;
}

/** One disruption as it was in the world. */
export interface Suffered {
  readonly endpoint: string;
  readonly kind: "chosen" | "lost";
  readonly by: "automation" | "person";
  readonly startedAtMs: number;
  endedAtMs: number | undefined;
}

interface Machine {
  condition: Condition;
  weight: number;
  ejectedAtMs: number | undefined;
}

export class World {
  state: SwarmState;
  now = 1_000_000;
  readonly suffered: Suffered[] = [];
  readonly weightsSet: { readonly endpoint: string; readonly atMs: number }[] = [];
  readonly #machines = new Map<string, Machine>();
  #made = 0;
  #ghosts: string[];
  #launching: { kind: "endpoint" | "ghost"; count: number; turn?: number | undefined }[] = [];
  #sessions = 0;
  #reflexAnswers = true;
  #weightsTake = true;

  constructor(spec: SwarmSpec) {
    this.state = initialState(spec);
    for (let made = 0; made < spec.endpoints.count; made += 1) this.#boot();
    this.#ghosts = Array.from({ length: spec.endpoints.ghosts }, (_, index) => `ghost-${index}`);
  }

  /** What happens, up to the moment of the next decision. */
  happen(tick: Tick): void {
    this.now += tick.afterMs;
    this.#sessions = tick.sessions;
    this.#reflexAnswers = tick.reflexAnswers;
    this.#weightsTake = tick.weightsTake;
    for (const outcome of tick.ends) this.#endRun(outcome);
    if (tick.launchesEnd) this.#endLaunches();
    const names = [...this.#machines.keys()];
    for (const { index, condition } of tick.change) this.#set(names[index % Math.max(1, names.length)], condition);
    if (tick.switch === "stop") this.state = stop(this.state, "ada", "maintenance", this.now);
    if (tick.switch === "resume") this.state = resume(this.state, this.now);
    const wanted = names[(tick.request?.index ?? 0) % Math.max(1, names.length)];
    if (tick.request !== undefined && wanted !== undefined) this.#request(tick.request.kind, wanted);
  }

  observe(): Observation {
    const endpoints = [...this.#machines].map(([name, machine]) => this.#see(name, machine));
    return { atMs: this.now, endpoints, ghosts: [...this.#ghosts], reflexSeq: 0, reflexAnswers: this.#reflexAnswers };
  }

  decide(observation: Observation): Plan {
    const made = plan(this.state, observation, this.now);
    this.state = made.state;
    for (const step of made.steps) this.#carryOut(step);
    return made;
  }

  underWay(): readonly Suffered[] {
    return this.suffered.filter((one) => one.endedAtMs === undefined);
  }

  #boot(): void {
    this.#made += 1;
    this.#machines.set(`ep-${this.#made}`, {
      condition: { kind: "well" },
      weight: this.state.spec.endpoints.weight,
      ejectedAtMs: undefined,
    });
  }

  #set(name: string | undefined, condition: Condition): void {
    const machine = name === undefined ? undefined : this.#machines.get(name);
    if (machine === undefined || machine.condition.kind === "gone") return;
    if (condition.kind !== "ejected") machine.ejectedAtMs = undefined;
    else machine.ejectedAtMs ??= this.now;
    machine.condition = condition;
  }

  #request(kind: "drain" | "replace", endpoint: string): void {
    try {
      this.state = (kind === "drain" ? requestDrain : requestReplace)(this.state, endpoint, "ada");
    } catch (error) {
      if (!(error instanceof Error && error.name === "ForeshiftError")) throw error;
    }
  }

  #see(name: string, { condition, weight, ejectedAtMs }: Machine): EndpointObservation {
    const sessions = Math.floor(this.#sessions / this.#machines.size);
    const well = endpointOf(name, { weight, sessions });
    switch (condition.kind) {
      case "well":
        return well;
      case "slow":
        return { ...well, innerRttMsP75: 90 };
      case "lossy":
        return { ...well, innerLoss: condition.share };
      case "busy":
        return { ...well, cpuPressure: condition.share };
      case "silent-agent":
        return { ...well, heartbeatAgeMs: 100_000, tunnelUp: false, cpuShare: 1 };
      case "ejected":
        return { ...well, innerLoss: 1, innerMissesInARow: 9, ejected: true, ejectedAtMs };
      case "gone":
        return { ...well, machine: "gone", innerLoss: 1, innerMissesInARow: 9 };
    }
  }

  #carryOut(step: Step): void {
    if (step.kind === "set-weight") {
      this.weightsSet.push({ endpoint: step.endpoint, atMs: this.now });
      const machine = this.#machines.get(step.endpoint);
      if (machine !== undefined && this.#weightsTake) machine.weight = step.weight;
    } else if (step.kind === "drain-and-replace" || step.kind === "finish-lost") {
      const isLost = step.kind === "finish-lost";
      const by = step.cause === "requested" ? "person" : "automation";
      const kind = isLost ? "lost" : "chosen";
      this.suffered.push({ endpoint: step.endpoint, kind, by, startedAtMs: this.now, endedAtMs: undefined });
    } else if (step.kind === "add-endpoints") {
      this.#launching.push({ kind: "endpoint", count: step.count, turn: step.turn });
    } else if (step.kind === "replenish-ghosts") this.#launching.push({ kind: "ghost", count: step.count });
  }

  #endRun(outcome: DisruptionOutcome): void {
    const run = this.underWay()[0];
    if (run === undefined) return;
    run.endedAtMs = this.now;
    const machine = this.#machines.get(run.endpoint);
    if (outcome === "replaced" || outcome === "drained") this.#machines.delete(run.endpoint);
    if (outcome === "replaced") {
      this.#ghosts.shift();
      this.#boot();
    }
    if (outcome === "recovered" && machine !== undefined) this.#set(run.endpoint, { kind: "well" });
    this.state = recordDisruptionEnd(this.state, run.endpoint, outcome, this.now);
  }

  #endLaunches(): void {
    for (const { kind, count, turn } of this.#launching) {
      for (let made = 0; made < count; made += 1) {
        if (kind === "endpoint") this.#boot();
        else this.#ghosts.push(`ghost-${this.now}-${made}`);
      }
      this.state = recordLaunchEnd(this.state, kind, turn);
    }
    this.#launching = [];
  }
}
