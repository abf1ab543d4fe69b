/**
 * What a changed swarm file would do: the decision itself, asked over and over about a swarm in which everything is well and every step
 * succeeds at once. So it shows what plan() would do, not what a second set of rules believes that it would.
 */
import { ForeshiftError } from "./errors.ts";
import { imageInForce, shortImage } from "./image.ts";
import type { EndpointObservation, Observation } from "./observation.ts";
import { plan } from "./plan.ts";
import type { Step } from "./step.ts";
import type { SwarmSpec } from "./swarm-spec.ts";
import {
  applySpec,
  initialState,
  recordDisruptionEnd,
  recordLaunchEnd,
  recordReliefEnd,
  type SwarmState,
} from "./swarm-state.ts";
import { counted } from "./words.ts";

/** What is there now. */
export interface Present {
  readonly spec: SwarmSpec;
  readonly endpoints: readonly string[];
  readonly ghosts: number;
  readonly sessions: number;
}

export interface ChangedField {
  /** As in the swarm file, e.g. `endpoints.count`. */
  readonly field: string;
  readonly before: string;
  readonly after: string;
}

export interface PlannedStep {
  /** From the moment the file is applied; steps are taken to last no time. */
  readonly afterMs: number;
  readonly kind: "apply" | Exclude<Step["kind"], "page">;
  readonly text: string;
  /** After it. */
  readonly endpoints: number;
  readonly ghosts: number;
  readonly costPerHour: number | undefined;
}

export interface ChangePlan {
  readonly swarm: string;
  readonly isNew: boolean;
  readonly fields: readonly ChangedField[];
  readonly steps: readonly PlannedStep[];
  /** What was wanted and never came to pass, and why. */
  readonly withheld: readonly string[];
  readonly launches: number;
  /** In whatever money the swarm file is in; undefined where it states none. */
  readonly costs: {
    readonly perHourBefore: number | undefined;
    readonly perHourAfter: number | undefined;
    /** Once, for the launches. */
    readonly once: number | undefined;
  };
}

/** More steps than any change asks for: a sign that they go round in a circle. */
const STEPS_MAX = 2_000;
const TICK_MS = 1_000;
const MINUTE_MS = 60_000;
/** What machines boot from where the file in force names nothing. */
const OWN_IMAGE = "the hypervisor's own";

/** `present`: undefined for a swarm that is not there yet. INVALID_FIELD for a change that cannot be made while clients are connected. */
export function changePlan(present: Present | undefined, after: SwarmSpec): ChangePlan {
  const swarm = new Imagined(present, after);
  const fields = present === undefined ? [] : changedFields(present.spec, after);
  const steps: PlannedStep[] = [swarm.told(0, "apply", appliedText(present, fields, after.endpoints.image))];
  const withheld = swarm.play((afterMs, step) => steps.push(swarm.told(afterMs, step.kind, textOf(step))));
  const { costPerLaunch } = after.endpoints;
  return {
    swarm: after.name,
    isNew: present === undefined,
    fields,
    steps,
    withheld,
    launches: swarm.launches,
    costs: {
      perHourBefore: present === undefined ? undefined : costPerHour(present.spec, present.endpoints.length, present.ghosts),
      perHourAfter: steps.at(-1)?.costPerHour,
      once: costPerLaunch === undefined ? undefined : swarm.launches * costPerLaunch,
    },
  };
}

/** A ghost costs what an endpoint does unless it is stated. */
export function costPerHour(spec: SwarmSpec, endpoints: number, ghosts: number): number | undefined {
  const { costPerHour: each, costPerGhostHour = each } = spec.endpoints;
  return each === undefined ? undefined : endpoints * each + ghosts * (costPerGhostHour ?? 0);
}

/** A step, unless it only tells a person something. */
type Deed = Exclude<Step, { kind: "page" }>;

class Imagined {
  launches = 0;
  readonly #after: SwarmSpec;
  readonly #sessions: number;
  readonly #endpoints: Map<string, number>;
  /** What each boots from, by name. */
  readonly #ghosts = new Map<string, string>();
  #state: SwarmState;
  #atMs = 0;

  constructor(present: Present | undefined, after: SwarmSpec) {
    this.#after = after;
    this.#sessions = present?.sessions ?? 0;
    this.#endpoints = new Map((present?.endpoints ?? []).map((name) => [name, present?.spec.endpoints.weight ?? 0]));
    this.#state = initialState(present?.spec ?? after);
    for (let ghost = 1; ghost <= (present?.ghosts ?? 0); ghost += 1) this.#ghosts.set(`ghost-${ghost}`, this.#image);
    if (present === undefined) return;
    // It has been as it is for as long as anybody asks.
    this.#atMs = -present.spec.thresholds.recoverAfterMs - MINUTE_MS;
    this.#state = plan(this.#state, this.#observe(), this.#atMs).state;
    this.#atMs = 0;
    this.#state = applySpec({ ...plan(this.#state, this.#observe(), 0).state, pending: [], surplusSinceMs: undefined }, after);
  }

  told(afterMs: number, kind: PlannedStep["kind"], text: string): PlannedStep {
    const [endpoints, ghosts] = [this.#endpoints.size, this.#ghosts.size];
    return { afterMs, kind, text, endpoints, ghosts, costPerHour: costPerHour(this.#after, endpoints, ghosts) };
  }

  /** Until nothing comes of waiting any more. Answers what was held back at the end. */
  play(onStep: (afterMs: number, step: Deed) => void): readonly string[] {
    const { endpoints, budget, thresholds } = this.#after;
    const patienceMs = Math.max(endpoints.scaleInAfterMs, budget.windowMs, thresholds.coolDownMs) + MINUTE_MS;
    let quietSinceMs = this.#atMs;
    for (let steps = 0; this.#atMs - quietSinceMs <= patienceMs; ) {
      const made = plan(this.#state, this.#observe(), this.#atMs);
      this.#state = made.state;
      const deeds = made.steps.filter((step) => step.kind !== "page");
      for (const deed of deeds) {
        this.#carryOut(deed);
        onStep(this.#atMs, deed);
        steps += 1;
      }
      if (steps > STEPS_MAX) throw new ForeshiftError("INTERNAL", { detail: "the imagined change does not come to an end" });
      if (deeds.length > 0) quietSinceMs = this.#atMs;
      else if (made.nextAtMs === undefined && made.state.surplusSinceMs === undefined)
        return made.withheld.map(({ step, because }) => `${step.kind}: ${because}`);
      this.#atMs = deeds.length > 0 ? this.#atMs + TICK_MS : Math.max(this.#atMs + TICK_MS, made.nextAtMs ?? 0);
    }
    return plan(this.#state, this.#observe(), this.#atMs).withheld.map(({ step, because }) => `${step.kind}: ${because}`);
  }

  #carryOut(step: Deed): void {
    switch (step.kind) {
      case "set-weight":
        this.#endpoints.set(step.endpoint, step.weight);
        break;
      case "add-endpoints":
      case "replenish-ghosts":
        for (const ghost of step.kind === "replenish-ghosts" ? (step.replaces ?? []) : []) this.#ghosts.delete(ghost);
        for (let made = 0; made < step.count; made += 1) this.#launch(step.kind);
        this.#state = recordLaunchEnd(this.#state, step.kind === "add-endpoints" ? "endpoint" : "ghost");
        break;
      case "relieve":
        this.#state = recordReliefEnd(this.#state, step.endpoint, false, this.#atMs);
        break;
      case "drain-and-replace":
      case "finish-lost":
        this.#endpoints.delete(step.endpoint);
        if (step.kind === "finish-lost" || step.mode !== "drain") this.#launch("add-endpoints");
        this.#state = recordDisruptionEnd(this.#state, step.endpoint, "drained", this.#atMs);
        break;
    }
  }

  #launch(kind: "add-endpoints" | "replenish-ghosts"): void {
    this.launches += 1;
    if (kind === "add-endpoints") this.#endpoints.set(`new-${this.launches}`, this.#after.endpoints.weight);
    else this.#ghosts.set(`new-ghost-${this.launches}`, this.#image);
  }

  /** Of machines that are launched now. */
  get #image(): string {
    return imageInForce(this.#state) ?? OWN_IMAGE;
  }

  #observe(): Observation {
    const sessions = Math.ceil(this.#sessions / Math.max(1, this.#endpoints.size));
    return {
      atMs: this.#atMs,
      endpoints: [...this.#endpoints].map(([endpoint, weight]) => healthy(endpoint, weight, sessions)),
      ghosts: [...this.#ghosts.keys()],
      ghostImages: Object.fromEntries(this.#ghosts),
      reflexSeq: 0,
      reflexAnswers: true,
    };
  }
}

function healthy(endpoint: string, weight: number, sessions: number): EndpointObservation {
  return {
    endpoint,
    machine: "running",
    weight,
    draining: false,
    ejected: false,
    ejectedAtMs: undefined,
    ejections: 0,
    innerLoss: 0,
    innerRttMsP75: 1,
    innerRttMsMax: 1,
    innerMissesInARow: 0,
    innerProbes: 100,
    outerAnswers: true,
    heartbeatAgeMs: 0,
    cpuShare: 0,
    cpuPressure: 0,
    tunnelUp: true,
    sessions,
  };
}

function appliedText(present: Present | undefined, fields: readonly ChangedField[], image: string | undefined): string {
  if (present === undefined) return "The swarm is made: the balancer holds its address, and nobody behind it yet.";
  if (fields.length === 0) return "Nothing: the file in force says the same.";
  const inForce = "The file is in force: balancer, decisions and schedules follow it at once; no session is touched.";
  if (!fields.some(({ field }) => field === "endpoints.image")) return inForce;
  const of = image === undefined ? OWN_IMAGE : shortImage(image);
  return `${inForce} Machines launched from now on boot from ${of}: ghosts are replaced, endpoints as each is; \`swarm roll\` replaces them all.`;
}

function textOf(step: Deed): string {
  return `${actionOf(step)}. ${step.reason}`;
}

function actionOf(step: Deed): string {
  switch (step.kind) {
    case "set-weight":
      return `Set the weight of ${step.endpoint} to ${step.weight}`;
    case "add-endpoints":
      return `Launch ${counted(step.count, "endpoint")} and bring ${step.count === 1 ? "it" : "them"} into service`;
    case "replenish-ghosts":
      return `Launch ${counted(step.count, "ghost")}${step.replaces === undefined ? "" : `, and end ${step.replaces.join(", ")} then`}`;
    case "drain-and-replace":
      return `${step.mode === "drain" ? "Drain" : "Replace"} ${step.endpoint}`;
    case "finish-lost":
      return `Replace ${step.endpoint}`;
    case "relieve":
      return `Lead away what ${step.endpoint} holds too many`;
  }
}

/** Leaves that differ, by their path, in the order of the file. */
export function changedFields(before: SwarmSpec, after: SwarmSpec): readonly ChangedField[] {
  const [one, other] = [leavesOf(before), leavesOf(after)];
  return [...new Set([...one.keys(), ...other.keys()])]
    .filter((field) => one.get(field) !== other.get(field))
    .map((field) => ({ field, before: one.get(field) ?? "unset", after: other.get(field) ?? "unset" }));
}

function leavesOf(value: unknown, path = ""): ReadonlyMap<string, string> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return new Map([[path, JSON.stringify(value)]]);
  return new Map(
    Object.entries(value).flatMap(([key, inner]) =>
      inner === undefined ? [] : [...leavesOf(inner, path === "" ? key : `${path}.${key}`)],
    ),
  );
}
