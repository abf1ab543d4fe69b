/**
 * What foresight is worth: faults that build up on a real WireGuard swarm, each played twice, by a swarm that only reacts and by one that
 * acts on predictions as well, in one lab and in turns. And what either does when nothing is wrong.
 */
import { messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { seededRandom } from "../models/random.ts";
import { type ByMode, byMode, inWords, type ModeFigures, ratio } from "./foresight-figures.ts";
import { type FaultPlan, type Mode, type Outcome, playQuiet, playTrial, type Size } from "./foresight-trial.ts";
import { type GrowthPlan, playGrowth } from "./growth-trial.ts";
import { dealer } from "./random.ts";
import { TRIAL_KINDS, type TrialKind } from "./trial-kinds.ts";
import { type BenchLab, machine, withLab } from "./with-lab.ts";

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
  /** Spans that could not be measured and were begun again; those that never could be are in neither mode's figures. */
  readonly repeated: readonly string[];
  readonly leftOut: readonly string[];
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
  await withLab({ ...labOf(options, size), onProgress }, async (lab) => {
    for (const [at, plan] of plansOf(options, size).entries()) {
      const what = plan.kind === "quiet" ? "quiet" : `${at} of ${trials}, ${plan.kind}`;
      const tellRepeat = (reason: string) => {
        repeated.push(`${what}: ${reason}`);
        onProgress(`${what} could not be measured and is begun again: ${reason}`);
      };
      // Neither mode always comes first.
      const pair = await playPair(lab, plan, size, {
        modes: at % 2 === 0 ? MODES : MODES.toReversed(),
        tellRepeat,
        onProgress,
      });
      if (pair === undefined) leftOut.push(what);
      else outcomes.push(...pair);
    }
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
  };
}

interface PairOptions {
  readonly modes: readonly Mode[];
  readonly tellRepeat: (reason: string) => void;
  readonly onProgress: (text: string) => void;
}

/** The same under both modes; undefined when one of them could not be measured, so that neither counts. */
async function playPair(
  lab: BenchLab,
  plan: Plan,
  size: Size,
  { modes, tellRepeat, onProgress }: PairOptions,
): Promise<readonly Outcome[] | undefined> {
  const pair: Outcome[] = [];
  for (const mode of modes) {
    await setMode(lab, mode);
    const outcome = await attempted(() => play(lab, mode, plan, size), tellRepeat);
    if (outcome === undefined) return undefined;
    pair.push(outcome);
    onProgress(`${plan.kind}, ${mode}: ${inWords(outcome)}`);
    for (const { endpoint, kind, text } of outcome.steps) onProgress(`    ${kind} of ${endpoint}: ${text}`);
  }
  return pair;
}

/** A busy machine may keep a swarm from coming to rest, or a counter from being read in time: that says nothing of either mode. */
async function attempted<T>(work: () => Promise<T>, tellRepeat: (reason: string) => void): Promise<T | undefined> {
  for (let attempt = 1; attempt <= LIMITS.bench.attemptsMax; attempt += 1) {
    try {
      return await work();
    } catch (thrown) {
      tellRepeat(messageOf(thrown));
    }
  }
  return undefined;
}

function play(lab: BenchLab, mode: Mode, plan: Plan, size: Size): Promise<Outcome> {
  if (plan.kind === "quiet") return playQuiet(lab, mode, plan.seconds, size);
  return plan.kind === "session-growth" ? playGrowth(lab, mode, plan, size) : playTrial(lab, mode, plan, size);
}

/** Both modes play the same sequence; the quiet comes first. */
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
  return quietSeconds > 0 ? [{ kind: "quiet", seconds: quietSeconds }, ...faults] : faults;
}

function growthOf({ endpoints, sessions }: Size): { readonly capacitySessions: number; readonly sessions: number } {
  const capacitySessions = Math.ceil((sessions / endpoints) * GROWTH.capacityFactor);
  return { capacitySessions, sessions: Math.ceil(endpoints * capacitySessions * GROWTH.beyond) - sessions };
}

/**
 * Where sessions grow, machines carry no more than is stated of them, and the swarm may grow as well. New sessions go to whoever has the
 * fewest: with so few of them the chance of a hash would fill one endpoint while the others are half empty, as no fleet's does.
 */
function labOf({ kinds, trials, packetsPerSecond }: ForesightOptions, size: Size) {
  const { endpoints, ghosts, sessions } = size;
  const lab = {
    endpoints,
    ghosts,
    sessions,
    clients: CLIENT_HOSTS.find((hosts) => sessions % hosts === 0) ?? 1,
    packetsPerSecond,
    tcpBytesPerSecond: TCP_BYTES_PER_SECOND,
    spec: { foresight: { mode: "off" as const } },
  };
  if (trials === 0 || !kinds.includes("session-growth")) return lab;
  const { capacitySessions, sessions: spareSessions } = growthOf(size);
  return {
    ...lab,
    spareSessions,
    packetAllowancePerSecond: capacitySessions * (packetsPerSecond + TCP_PACKETS_PER_SECOND) + PROBE_PACKETS_PER_SECOND,
    spec: {
      ...lab.spec,
      algorithm: "least-connections" as const,
      endpoints: { capacitySessions, countMax: endpoints * GROWTH.endpointsFactor },
    },
  };
}

async function setMode({ open, running }: BenchLab, mode: Mode): Promise<void> {
  const { foresight, ...rest } = running.spec;
  const spec = { ...rest, foresight: { ...foresight, mode: mode === "foresight" ? ("act" as const) : ("off" as const) } };
  await open.temporal.applySwarm({ spec, by: "bench" });
}
