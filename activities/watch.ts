/**
 * The watch: looks at reflex, hypervisor and telemetry several times a second, asks plan() what it would do, and returns only when
 * that is something, or when a deadline has passed. The workflow then decides by the same plan().
 */
import { Context, getClient } from "@temporalio/activity";
import { WorkflowNotFoundError } from "@temporalio/common";
import type { Machine } from "../drivers/ports.ts";
import { actionableSteps, fingerprintOf, type RunUnderWay, withoutHandled } from "../models/decision.ts";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import type { EndpointObservation, Heartbeat, Observation } from "../models/observation.ts";
import { plan } from "../models/plan.ts";
import { advance, type RollState, rollFingerprint } from "../models/roll.ts";
import type { Member, MemberHealth } from "../models/steering.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import type { SwarmState } from "../models/swarm-state.ts";
import { type ActivityDeps, asActivity, pause } from "./deps.ts";
import type { StoppedBy } from "./store.ts";

export interface WatchInput {
  readonly swarm: string;
  readonly state: SwarmState;
  readonly runs: readonly RunUnderWay[];
  /** Fingerprint of the last plan. */
  readonly seen: string;
}

export interface WatchResult {
  readonly observation: Observation;
  /** The stop switch that holds this swarm. */
  readonly stopped: StoppedBy | undefined;
  /** Workflow ids of runs that ended without a word: terminated by a person, or lost with their server. */
  readonly vanished: readonly string[];
}

export interface RollWatchInput {
  readonly swarm: string;
  readonly roll: RollState;
  readonly spec: SwarmSpec;
  readonly stopped: StoppedBy | undefined;
}

export function watchActivities(deps: ActivityDeps) {
  return {
    watchSwarm(input: WatchInput): Promise<WatchResult> {
      const { runs, state, swarm } = input;
      const seen = { swarm, runs, stopped: state.stopped, reflexSeq: state.reflexSeq };
      return asActivity(() => watch(deps, seen, (observation) => isNews(input, observation)));
    },

    /** Returns when what is seen says anything new of the rollout; while automation is stopped, when it is resumed. */
    watchRoll(input: RollWatchInput): Promise<WatchResult> {
      const { roll, spec, stopped, swarm } = input;
      const told = rollFingerprint(roll);
      const isNews = (observation: Observation) =>
        stopped === undefined && rollFingerprint(advance(roll, spec, observation, observation.atMs)) !== told;
      return asActivity(() => watch(deps, { swarm, runs: [], stopped, reflexSeq: 0 }, isNews));
    },

    /** One look. */
    observeSwarm(input: { swarm: string }): Promise<Observation> {
      return asActivity(async () => {
        const sources = noSources(0);
        await readAll(deps, input.swarm, sources);
        if (sources.machines !== undefined) return assemble(sources, sources.machines, Date.now());
        throw new ForeshiftError("NOT_READY", { value: "the hypervisor", detail: "it does not list its machines" });
      });
    },
  };
}

/** What was read last from each source; a source that does not answer leaves its last word standing. */
interface Sources {
  machines: readonly Machine[] | undefined;
  machinesAtMs: number;
  heartbeats: readonly Heartbeat[];
  heartbeatsAtMs: number;
  /** News of telemetry when it was read. */
  news: number;
  members: readonly Member[];
  revoked: ReadonlySet<string>;
  health: readonly MemberHealth[];
  reflexAnswers: boolean;
  reflexSeq: number;
}

function noSources(reflexSeq: number): Sources {
  return {
    machines: undefined,
    machinesAtMs: 0,
    heartbeats: [],
    heartbeatsAtMs: 0,
    news: 0,
    members: [],
    revoked: new Set(),
    health: [],
    reflexAnswers: false,
    reflexSeq,
  };
}

/** What a watch is begun with. */
interface Known {
  readonly swarm: string;
  readonly runs: readonly RunUnderWay[];
  readonly stopped: StoppedBy | undefined;
  readonly reflexSeq: number;
}

async function watch(deps: ActivityDeps, input: Known, isNews: (observation: Observation) => boolean): Promise<WatchResult> {
  const deadlineMs = Date.now() + LIMITS.control.watchLongestMs;
  const sources = noSources(input.reflexSeq);
  let stopped: StoppedBy | undefined = input.stopped;
  let runsCheckedAtMs = 0;
  // The switch may have been thrown just before this watch began: a reading from before that would say the contrary.
  deps.stopGuard.forget();
  let vanished: readonly string[] = [];
  for (;;) {
    if (due(runsCheckedAtMs, LIMITS.control.runsPollMs)) {
      vanished = await vanishedRuns(input.runs);
      runsCheckedAtMs = Date.now();
    }
    await readAll(deps, input.swarm, sources);
    stopped = await readSwitch(deps, input.swarm, stopped);
    if (sources.machines !== undefined) {
      const observation = withoutHandled(assemble(sources, sources.machines, Date.now()), input.runs);
      const stopChanged = (stopped === undefined) !== (input.stopped === undefined);
      const news = stopChanged || vanished.length > 0 || isNews(observation);
      if (news || Date.now() >= deadlineMs) return { observation, stopped, vanished };
    }
    await nextLook(deps, sources);
  }
}

function isNews(input: WatchInput, observation: Observation): boolean {
  const decision = plan(input.state, observation, observation.atMs);
  return actionableSteps(input.swarm, decision.steps, input.runs).length > 0 || fingerprintOf(decision) !== input.seen;
}

/** A run tells the swarm before it ends, so one that is not running and is still waited for has told nobody. */
async function vanishedRuns(runs: readonly RunUnderWay[]): Promise<readonly string[]> {
  const { workflow } = getClient();
  const vanished: string[] = [];
  for (const run of runs) {
    try {
      const { status } = await workflow.getHandle(run.workflowId).describe();
      if (status.name !== "RUNNING") vanished.push(run.workflowId);
    } catch (thrown) {
      if (thrown instanceof WorkflowNotFoundError) vanished.push(run.workflowId);
    }
  }
  return vanished;
}

async function readAll(deps: ActivityDeps, swarm: string, sources: Sources): Promise<void> {
  const news = deps.telemetryNews?.(swarm) ?? 0;
  const heartbeatsDue = news !== sources.news || due(sources.heartbeatsAtMs, LIMITS.control.telemetryPollMs);
  sources.news = news;
  await Promise.all([
    readReflex(deps, sources),
    due(sources.machinesAtMs, LIMITS.control.machinesPollMs) ? readMachines(deps, swarm, sources) : undefined,
    heartbeatsDue ? readHeartbeats(deps, swarm, sources) : undefined,
  ]);
}

async function readReflex(deps: ActivityDeps, sources: Sources): Promise<void> {
  try {
    const [desired, health] = await Promise.all([deps.balancer.desired(), deps.balancer.health()]);
    sources.members = desired?.members ?? [];
    sources.revoked = new Set(desired?.revoked ?? []);
    sources.health = health;
    sources.reflexAnswers = true;
  } catch {
    sources.reflexAnswers = false;
  }
}

async function readMachines(deps: ActivityDeps, swarm: string, sources: Sources): Promise<void> {
  try {
    sources.machines = await deps.hypervisor.list(swarm);
  } catch {
    // The last list stands; without any there is nothing to decide on, and the watch goes on.
  }
  sources.machinesAtMs = Date.now();
}

async function readHeartbeats(deps: ActivityDeps, swarm: string, sources: Sources): Promise<void> {
  try {
    sources.heartbeats = await deps.store.heartbeats(swarm);
  } catch {
    // Their age grows, which says it.
  }
  sources.heartbeatsAtMs = Date.now();
}

async function readSwitch(deps: ActivityDeps, swarm: string, last: StoppedBy | undefined): Promise<StoppedBy | undefined> {
  try {
    const found = await deps.stopGuard.switchFor(swarm);
    return found === undefined ? undefined : { by: found.by, reason: found.reason, atMs: found.atMs };
  } catch {
    // Steps refuse by themselves while the switch cannot be read.
    return last;
  }
}

/** Waits one interval, or for the next event of the reflex if that is sooner. */
async function nextLook(deps: ActivityDeps, sources: Sources): Promise<void> {
  const { cancellationSignal } = Context.current();
  if (!sources.reflexAnswers) return pause(LIMITS.control.watchPollMs);
  const startedAtMs = Date.now();
  try {
    const request = { after: sources.reflexSeq, waitMs: LIMITS.control.watchPollMs, signal: cancellationSignal };
    const events = await deps.balancer.events(request);
    sources.reflexSeq = events.at(-1)?.seq ?? sources.reflexSeq;
    if (events.length > 0) return;
  } catch {
    sources.reflexAnswers = false;
  }
  const leftMs = LIMITS.control.watchPollMs - (Date.now() - startedAtMs);
  await pause(Math.max(1, leftMs));
}

function due(lastAtMs: number, intervalMs: number): boolean {
  return Date.now() - lastAtMs >= intervalMs;
}

function assemble(sources: Sources, machines: readonly Machine[], atMs: number): Observation {
  const byName = new Map(machines.map((machine) => [machine.name, machine]));
  const isOut = ({ name, state }: Machine) => state !== "gone" && sources.revoked.has(name);
  const awake = machines.filter((machine) => machine.state === "running" || isOut(machine)).map((machine) => machine.name);
  const names = new Set([...awake, ...sources.members.map((member) => member.endpoint)]);
  const ghosts = machines.filter((machine) => machine.state === "suspended" && !names.has(machine.name));
  const images = ghosts.flatMap(({ name, image }) => (image === undefined ? [] : [[name, image] as const]));
  return {
    atMs,
    endpoints: [...names].sort(byNumber).map((name) => observe(name, byName.get(name), sources, atMs)),
    ghosts: ghosts.map((machine) => machine.name).sort(byNumber),
    ...(images.length === 0 ? {} : { ghostImages: Object.fromEntries(images) }),
    ...(ghosts.length === 0 ? {} : { ghostsSinceMs: Object.fromEntries(ghosts.map((one) => [one.name, one.createdAtMs])) }),
    reflexSeq: sources.reflexSeq,
    reflexAnswers: sources.reflexAnswers,
  };
}

function observe(endpoint: string, machine: Machine | undefined, sources: Sources, atMs: number): EndpointObservation {
  const member = sources.members.find((candidate) => candidate.endpoint === endpoint);
  const health = sources.health.find((candidate) => candidate.endpoint === endpoint);
  const heartbeat = sources.heartbeats.find((candidate) => candidate.endpoint === endpoint);
  const sent = health?.inner.sent ?? 0;
  return {
    endpoint,
    machine: machine?.state ?? "gone",
    weight: member?.weight,
    draining: member?.draining ?? false,
    ejected: health?.ejected ?? false,
    ejectedAtMs: health?.ejectedAtMs,
    ejections: health?.ejections ?? 0,
    overloaded: health?.overloaded ?? false,
    innerLoss: sent === 0 ? 0 : 1 - (health?.inner.answered ?? 0) / sent,
    innerRttMsP75: health?.inner.rttMsP75,
    innerRttMsMax: health?.inner.rttMsMax,
    innerMissesInARow: health?.inner.missesInARow ?? 0,
    innerProbes: sent,
    outerAnswers: (health?.outer.answersInARow ?? 0) > 0,
    heartbeatAgeMs: heartbeat === undefined ? undefined : Math.max(0, atMs - heartbeat.atMs),
    cpuShare: heartbeat?.cpuShare,
    cpuPressure: heartbeat?.cpuPressure,
    tunnelUp: heartbeat?.tunnelUp,
    sessions: health?.sessions ?? heartbeat?.sessions ?? 0,
    ...(machine?.image === undefined ? {} : { image: machine.image }),
    ...(sources.revoked.has(endpoint) ? { revoked: true } : {}),
  };
}

/** `ep-2` before `ep-10`. */
function byNumber(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}
