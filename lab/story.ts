/**
 * The lab's default story: steady, a machine that is seen to run out of memory, a brownout, a crash, and a freeze while the crashed one
 * recovers. Ends with what the clients felt, and whether Foreshift kept what it promises.
 */
import { LIMITS } from "../models/limits.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { until } from "./await.ts";
import { type Felt, felt } from "./measure.ts";
import type { Narrator } from "./narrator.ts";
import {
  awaitGone,
  awaitWhole,
  busiestEndpoint,
  type LossTrial,
  loseEndpoint,
  type Surroundings,
  sessionsOf,
  settledTraffic,
} from "./trial.ts";

export interface Chapter extends Felt {
  readonly title: string;
  readonly endpoint: string | undefined;
  readonly sessionsMoved: number;
  readonly detectMs: number | undefined;
  readonly recoverMs: number | undefined;
  /** From the end of the move to the moment at which the machine would have failed; of a fault that was foreseen. */
  readonly aheadMs?: number | undefined;
}

export interface Promised {
  readonly promise: string;
  readonly held: boolean;
  readonly figure: string;
}

export interface StoryResult {
  readonly chapters: readonly Chapter[];
  readonly promises: readonly Promised[];
  readonly held: boolean;
}

export interface StoryOptions {
  readonly around: Surroundings;
  readonly spec: SwarmSpec;
  readonly narrator: Narrator;
  readonly packetsPerSecond: number;
}

const RECOVER_MS_MAX = 1_000;

export async function tellStory(options: StoryOptions): Promise<StoryResult> {
  const { around, spec, narrator } = options;
  const want = spec.endpoints;
  const steady = await tellSteady(options);
  const foreseen = await tellForeseen(options);
  await awaitWhole(around, want);
  const brownout = await tellBrownout(options);
  await awaitWhole(around, want);
  narrator.say("story", `${want.count} endpoints serve and ${want.ghosts} waits; now one crashes`);
  const crash = await tellLoss(options, "crash", "kill -9 of its WireGuard process", []);
  narrator.say("story", "while it recovers, another freezes: alive to the kernel, dead to its users");
  const freeze = await tellLoss(options, "freeze", "all its processes stopped", [crash.endpoint ?? ""]);
  await awaitWhole(around, want);
  narrator.say("story", "the swarm is whole again");
  const chapters = [steady, foreseen, brownout, crash, freeze];
  const promises = [
    ...plannedPromises(steady),
    ...foreseenPromises(foreseen),
    ...plannedPromises(brownout),
    ...lossPromises(crash, spec),
    ...lossPromises(freeze, spec),
  ];
  return { chapters, promises, held: promises.every(({ held }) => held) };
}

async function tellSteady({ around, narrator, packetsPerSecond }: StoryOptions): Promise<Chapter> {
  await around.lab.resetTraffic();
  const wanted = (packetsPerSecond * LIMITS.story.steadyMs) / 1_000;
  await until(
    async () => {
      const { clients } = await around.lab.traffic();
      return clients.length > 0 && clients.every(({ down, up }) => down.received >= wanted && up.received >= wanted)
        ? true
        : undefined;
    },
    { what: "steady traffic of every client", timeoutMs: around.patience.phaseTimeoutMs },
  );
  const traffic = await settledTraffic(around.lab);
  narrator.say(
    "story",
    `${traffic.clients.length} clients talk through the swarm, each with numbered packets and one TCP stream`,
  );
  return {
    title: "steady",
    endpoint: undefined,
    sessionsMoved: 0,
    detectMs: undefined,
    recoverMs: undefined,
    ...felt(traffic),
  };
}

/** Until it has left or failed, whichever is first. */
async function tellForeseen({ around, narrator }: StoryOptions): Promise<Chapter> {
  const endpoint = await busiestEndpoint(around.balancer);
  const sessions = await sessionsOf(around.balancer, endpoint);
  await around.lab.resetTraffic();
  const fault = await around.lab.inject("memory-leak", endpoint);
  const failsAtMs = fault.failsAtMs ?? fault.atMs;
  const inSeconds = Math.round((failsAtMs - Date.now()) / 1_000);
  narrator.say(
    "story",
    `a process leaks memory on ${endpoint}, which holds ${sessions.length} sessions: all is well, but in ${inSeconds} s there is none left`,
  );
  const leftAtMs = await until(
    async () => ((await sessionsOf(around.balancer, endpoint)).length === 0 ? Date.now() : undefined),
    { what: `the sessions of ${endpoint} elsewhere`, timeoutMs: around.patience.phaseTimeoutMs },
  );
  await awaitGone(around, endpoint);
  const traffic = await settledTraffic(around.lab);
  const aheadMs = failsAtMs - leftAtMs;
  narrator.say("story", `its sessions had left ${Math.round(aheadMs / 1_000)} s before it would have failed`);
  return {
    title: "leak foreseen",
    endpoint,
    sessionsMoved: sessions.length,
    detectMs: undefined,
    recoverMs: undefined,
    aheadMs,
    ...felt(traffic),
  };
}

async function tellBrownout({ around, narrator }: StoryOptions): Promise<Chapter> {
  const endpoint = await busiestEndpoint(around.balancer);
  const sessions = await sessionsOf(around.balancer, endpoint);
  await around.lab.resetTraffic();
  narrator.say(
    "story",
    `brownout of ${endpoint}, which holds ${sessions.length} sessions: its CPU is squeezed, delay rises, loss will follow`,
  );
  await around.lab.inject("brownout", endpoint);
  await awaitGone(around, endpoint);
  const traffic = await settledTraffic(around.lab);
  narrator.say("story", `${endpoint} is gone; its sessions never noticed`);
  return {
    title: "brownout",
    endpoint,
    sessionsMoved: sessions.length,
    detectMs: undefined,
    recoverMs: undefined,
    ...felt(traffic),
  };
}

async function tellLoss(
  { around, narrator }: StoryOptions,
  kind: "crash" | "freeze",
  what: string,
  not: readonly string[],
): Promise<Chapter> {
  const endpoint = await busiestEndpoint(around.balancer, not);
  narrator.say("story", `${kind} of ${endpoint}: ${what}`);
  const trial: LossTrial = await loseEndpoint(around, kind, endpoint);
  narrator.say(
    "story",
    `seen after ${Math.round(trial.detectMs)} ms, every client served again after ${Math.round(trial.recoverMs)} ms`,
  );
  const { sessions, ...rest } = trial;
  return { title: kind, sessionsMoved: sessions, ...rest };
}

function foreseenPromises(chapter: Chapter): readonly Promised[] {
  const { title, aheadMs = Number.NEGATIVE_INFINITY } = chapter;
  const figure = `${(aheadMs / 1_000).toFixed(1)} s before`;
  return [...plannedPromises(chapter), { promise: `${title}: moved before it failed`, held: aheadMs > 0, figure }];
}

function plannedPromises(chapter: Chapter): readonly Promised[] {
  const { title, packetsLost, packetsDuplicated, packetsSent, tcpBroken } = chapter;
  return [
    { promise: `${title}: no packet lost`, held: packetsLost === 0, figure: `${packetsLost} of ${packetsSent}` },
    { promise: `${title}: no packet duplicated`, held: packetsDuplicated === 0, figure: `${packetsDuplicated}` },
    { promise: `${title}: no TCP stream broken`, held: tcpBroken === 0, figure: `${tcpBroken}` },
  ];
}

/** Silent for as many probes as it takes, and then for as long as the last of them is waited for. */
function lossPromises(chapter: Chapter, { outlier }: SwarmSpec): readonly Promised[] {
  const detectMsMax = outlier.missesToEject * outlier.probeIntervalMs + outlier.probeTimeoutMs;
  const { title, detectMs = Number.POSITIVE_INFINITY, recoverMs = Number.POSITIVE_INFINITY, tcpBroken } = chapter;
  return [
    {
      promise: `${title}: seen within ${detectMsMax} ms`,
      held: detectMs <= detectMsMax,
      figure: `${Math.round(detectMs)} ms`,
    },
    { promise: `${title}: sessions back within 1 s`, held: recoverMs <= RECOVER_MS_MAX, figure: `${Math.round(recoverMs)} ms` },
    { promise: `${title}: no TCP stream broken`, held: tcpBroken === 0, figure: `${tcpBroken}` },
  ];
}
