/**
 * What foresight is worth: faults that build up on a real WireGuard swarm, each played twice, by a swarm that only reacts and by one that
 * acts on predictions as well, in labs alike and in turns. And what either does when nothing is wrong. A swarm that does not come to rest
 * between two spans is left for a fresh one, and the figures say so.
 */
import { messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { seededRandom } from "../models/random.ts";
import type { Size } from "./at-rest.ts";
import { type ByMode, byMode, inWords, type ModeFigures, ratio } from "./foresight-figures.ts";
import { type FaultPlan, type Mode, type Outcome, playQuiet, playTrial } from "./foresight-trial.ts";
import { type GrowthPlan, playGrowth } from "./growth-trial.ts";
import { dealer } from "./random.ts";
import { TRIAL_KINDS, type TrialKind } from "./trial-kinds.ts";
import { type BenchLab, type BenchLabOptions, type BenchLabs, machine, withLabs } from "./with-lab.ts";

export interface ForesightOptions {
  /** Faults under each mode. */
  readonly trials: number;
  readonly seed: number;
  readonly buildUpSeconds: number;
  /** Of each mode, without a fault. */
  readonly quietSeconds: number;
  readonly endpoints: number;
  /** On each endpoint. */
  readonly sessionsPerEndpoint: number;
  /** Numbered packets of each session and direction. */
  readonly packetsPerSecond: number;
  readonly kinds: readonly [TrialKind, ...TrialKind[]];
  readonly onProgress: (text: string) => void;
}

export interface ForesightFigures {
  readonly machine: ReturnType<typeof machine>;
  readonly seed: number;
  readonly trials: number;
  readonly buildUpSeconds: number;
  readonly quietSeconds: number;
  readonly endpoints: number;
  readonly sessionsPerEndpoint: number;
  /** With the quiet spans as a kind of their own. */
  readonly byKind: Readonly<Record<string, ByMode>>;
  readonly reactive: ModeFigures;
  readonly foresight: ModeFigures;
  /** Foresight over reactive, of each session at risk; undefined where the latter is nothing. */
  readonly interruptionRatio: number | undefined;
  /** Foresight over reactive, machine hours. */
  readonly capacityRatio: number | undefined;
  /** Of foresight; drains that react to what is measured are not its own. */
  readonly falsePredictionsIn50EndpointHours: number;
  /** Spans that could not be measured, and why: each was begun again in a fresh lab. Those that never could be are in neither mode's figures. */
  readonly repeated: readonly string[];
  readonly leftOut: readonly string[];
  /** One for all spans but rushes, each of which has its own; more where one did not come to rest. */
  readonly labs: number;
}

/** One plan is a span under each mode. */
type Plan = FaultPlan | GrowthPlan | { readonly kind: "quiet"; readonly seconds: number };

const MODES: readonly Mode[] = ["reactive", "foresight"];
/** Client hosts that sessions share; each is a process that sends and counts. */
const CLIENT_HOSTS = [3, 2, 1] as const;
/** Enough for its packets to show that the download goes on, and few beside the numbered ones. */
const TCP_BYTES_PER_SECOND = 5_000;
/**
 * A rush: what one endpoint carries as a multiple of what it carries at first, how far beyond all of that the load grows, and in which
 * share of a fault's build-up. In all of the build-up a swarm that adds an endpoint at 80 % of its capacity has time enough.
 */
const GROWTH = { capacityFactor: 2, beyond: 1.5, endpointsFactor: 2, buildUpShare: 0.5 } as const;
/** Beside a numbered packet: what the download needs in a second (data, or its acknowledgements), and the probes of an endpoint. */
const TCP_PACKETS_PER_SECOND = 10;
const PROBE_PACKETS_PER_SECOND = 20;

export async function benchForesight(options: ForesightOptions): Promise<ForesightFigures> {
  const { trials, seed, buildUpSeconds, quietSeconds, endpoints, sessionsPerEndpoint, packetsPerSecond, onProgress } = options;
  const size: Size = { endpoints, sessions: endpoints * sessionsPerEndpoint, ghosts: 1 };
  const outcomes: Outcome[] = [];
  const repeated: string[] = [];
  const leftOut: string[] = [];
  const labFor = labsFor(options, size);
  const labs = await withLabs(async (labs) => {
    for (const [at, plan] of plansOf(options, size).entries()) {
      const what = plan.kind === "quiet" ? "quiet" : `${at} of ${trials}, ${plan.kind}`;
      const tellRepeat = (reason: string) => {
        repeated.push(`${what}: ${reason}`);
        onProgress(`${what} could not be measured and is begun again in a fresh lab: ${reason}`);
      };
      const stage = { labs, options: labFor(plan), size };
      // Neither mode always comes first.
      const pair = await playPair(stage, plan, {
        modes: at % 2 === 0 ? MODES : MODES.toReversed(),
        tellRepeat,
        onProgress,
      });
      if (pair === undefined) leftOut.push(what);
      else outcomes.push(...pair);
    }
    return labs.count;
  });
  const { reactive, foresight } = byMode(outcomes, packetsPerSecond);
  const kinds = [...TRIAL_KINDS, "quiet"].filter((kind) => outcomes.some((one) => one.kind === kind));
  const ofKind = (kind: string) =>
    byMode(
      outcomes.filter((one) => one.kind === kind),
      packetsPerSecond,
    );
  return {
    machine: machine(),
    seed,
    trials,
    buildUpSeconds,
    quietSeconds,
    endpoints,
    sessionsPerEndpoint,
    byKind: Object.fromEntries(kinds.map((kind) => [kind, ofKind(kind)])),
    reactive,
    foresight,
    interruptionRatio: ratio(foresight.interruptionSecondsPerSession, reactive.interruptionSecondsPerSession),
    capacityRatio: ratio(foresight.capacityHours, reactive.capacityHours),
    falsePredictionsIn50EndpointHours: (ratio(foresight.falsePredictions, foresight.endpointHours) ?? 0) * 50,
    repeated,
    leftOut,
    labs,
  };
}

/** Where spans of a kind are played. */
interface Stage {
  readonly labs: BenchLabs;
  readonly options: BenchLabOptions;
  readonly size: Size;
}

interface PairOptions {
  readonly modes: readonly Mode[];
  readonly tellRepeat: (reason: string) => void;
  readonly onProgress: (text: string) => void;
}

/** The same under both modes; undefined when one of them could not be measured, so that neither counts. */
async function playPair(
  stage: Stage,
  plan: Plan,
  { modes, tellRepeat, onProgress }: PairOptions,
): Promise<readonly Outcome[] | undefined> {
  const pair: Outcome[] = [];
  for (const mode of modes) {
    const outcome = await attempted(stage, (lab) => play(lab, mode, plan, stage.size), tellRepeat);
    // A rush leaves a swarm that is larger, and that expects the next one.
    if (plan.kind === "session-growth") await stage.labs.end();
    if (outcome === undefined) return undefined;
    pair.push(outcome);
    onProgress(`${plan.kind}, ${mode}: ${inWords(outcome)}`);
    for (const { endpoint, kind, text } of outcome.steps) onProgress(`    ${kind} of ${endpoint}: ${text}`);
  }
  return pair;
}

/**
 * A busy machine may keep a swarm from coming to rest, or a counter from being read in time: that says nothing of either mode. What does
 * not come to rest by itself is no place to measure anything, so the next attempt gets a fresh one.
 */
async function attempted<T>(
  { labs, options }: Stage,
  work: (lab: BenchLab) => Promise<T>,
  tellRepeat: (reason: string) => void,
): Promise<T | undefined> {
  for (let attempt = 1; attempt <= LIMITS.bench.attemptsMax; attempt += 1) {
    try {
      return await work(await labs.present(options));
    } catch (thrown) {
      await labs.end();
      tellRepeat(messageOf(thrown));
    }
  }
  return undefined;
}

async function play(lab: BenchLab, mode: Mode, plan: Plan, size: Size): Promise<Outcome> {
  await setMode(lab, mode);
  if (plan.kind === "quiet") return await playQuiet(lab, mode, plan.seconds, size);
  return plan.kind === "session-growth" ? await playGrowth(lab, mode, plan, size) : await playTrial(lab, mode, plan, size);
}

/** Both modes play the same sequence: the quiet comes first, rushes come last because each needs a lab of its own. */
function plansOf({ trials, seed, buildUpSeconds, quietSeconds, kinds }: ForesightOptions, size: Size): readonly Plan[] {
  const random = seededRandom(seed);
  const deal = dealer(kinds, random);
  const faults = Array.from({ length: trials }, (): Plan => {
    const kind = deal();
    const place = random();
    return kind === "session-growth"
      ? { kind, sessions: growthOf(size).sessions, buildUpSeconds: buildUpSeconds * GROWTH.buildUpShare }
      : { kind, place, buildUpSeconds };
  });
  const [rushes = [], others = []] = [true, false].map((isRush) =>
    faults.filter(({ kind }) => (kind === "session-growth") === isRush),
  );
  const quiet: readonly Plan[] = quietSeconds > 0 ? [{ kind: "quiet", seconds: quietSeconds }] : [];
  return [...quiet, ...others, ...rushes];
}

function growthOf({ endpoints, sessions }: Size): { readonly capacitySessions: number; readonly sessions: number } {
  const capacitySessions = Math.ceil((sessions / endpoints) * GROWTH.capacityFactor);
  return { capacitySessions, sessions: Math.ceil(endpoints * capacitySessions * GROWTH.beyond) - sessions };
}

/**
 * Where sessions grow, machines carry no more than is stated of them, and the swarm may grow as well. New sessions go to whoever has the
 * fewest: with so few of them the chance of a hash would fill one endpoint while the others are half empty, as no fleet's does.
 */
function labsFor({ packetsPerSecond, onProgress }: ForesightOptions, size: Size): (plan: Plan) => BenchLabOptions {
  const { endpoints, ghosts, sessions } = size;
  const lab: BenchLabOptions = {
    endpoints,
    ghosts,
    sessions,
    clients: CLIENT_HOSTS.find((hosts) => sessions % hosts === 0) ?? 1,
    packetsPerSecond,
    tcpBytesPerSecond: TCP_BYTES_PER_SECOND,
    spec: { foresight: { mode: "off" } },
    onProgress,
  };
  const { capacitySessions, sessions: spareSessions } = growthOf(size);
  const growing: BenchLabOptions = {
    ...lab,
    spareSessions,
    packetAllowancePerSecond: capacitySessions * (packetsPerSecond + TCP_PACKETS_PER_SECOND) + PROBE_PACKETS_PER_SECOND,
    spec: {
      ...lab.spec,
      algorithm: "least-connections",
      endpoints: { capacitySessions, countMax: endpoints * GROWTH.endpointsFactor },
    },
  };
  return ({ kind }) => (kind === "session-growth" ? growing : lab);
}

async function setMode({ open, running }: BenchLab, mode: Mode): Promise<void> {
  const { foresight, ...rest } = running.spec;
  const spec = { ...rest, foresight: { ...foresight, mode: mode === "foresight" ? ("act" as const) : ("off" as const) } };
  await open.temporal.applySwarm({ spec, by: "bench" });
}
