/**
 * The lab's swarm: a swarm file like anyone's, with the numbers that suit three endpoints on one machine.
 */

import type { Processors } from "../models/patience.ts";
import type { SecretRef } from "../models/session.ts";
import type { OutlierPolicy } from "../models/steering.ts";
import { type Budget, type ForesightPolicy, SwarmSpec, type Thresholds } from "../models/swarm-spec.ts";

export const LAB_SWARM = "lab";
export const LAB_VIP = { v4: "198.19.0.1", v6: "fd00:19::1", port: 51_820 } as const;
/** KV v2 path of the swarm's static key pair, below the mount `foreshift/`. */
export const LAB_KEY_PATH = `swarms/${LAB_SWARM}/wireguard`;

export interface LabSize {
  readonly endpoints: number;
  readonly ghosts: number;
}

/** Numbers of the policy that a benchmark or a test wants otherwise. */
export interface SpecOverrides {
  readonly algorithm?: SwarmSpec["algorithm"];
  readonly endpoints?: Partial<Pick<SwarmSpec["endpoints"], "countMax" | "capacitySessions">>;
  readonly budget?: Partial<Budget>;
  readonly thresholds?: Partial<Thresholds>;
  readonly outlier?: Partial<OutlierPolicy>;
  readonly foresight?: Partial<ForesightPolicy>;
}

/**
 * What virtual machines whose processors are emulated need otherwise: each packet takes milliseconds, a machine that boots beside them
 * takes their turn for tens of milliseconds, and one that is well uses most of the processor that it has.
 */
const EMULATED: SpecOverrides = {
  thresholds: { rttExcessMsMin: 15, cpuDegraded: 0.96, cpuCritical: 0.99 },
  outlier: { probeIntervalMs: 150, probeTimeoutMs: 150 },
};

/** The overrides that suit the lab's machines, below those that somebody asks for. */
export function overridesFor(processors: Processors, asked: SpecOverrides = {}): SpecOverrides {
  if (processors === "own") return asked;
  const { thresholds, outlier } = EMULATED;
  return { ...asked, thresholds: { ...thresholds, ...asked.thresholds }, outlier: { ...outlier, ...asked.outlier } };
}

/**
 * With three endpoints one is a third of the swarm, so the shares that suit a fleet would forbid every move: the lab states that one
 * endpoint may be disrupted at a time and as many in the window as its story needs, that two may be ejected, and that fewer than a
 * quarter healthy is panic. A few milliseconds more are chance where one machine is the whole fleet. Its faults build up within a minute, so that is how far it looks ahead; and waking a ghost in it takes a
 * moment, which for a handful of sessions must not weigh more than they do.
 */
export function labSpec(
  size: LabSize,
  key: { secret: SecretRef; publicKey: string },
  overrides: SpecOverrides = {},
): SwarmSpec {
  return SwarmSpec.parse({
    apiVersion: "foreshift/v1",
    kind: "Swarm",
    name: LAB_SWARM,
    vip: LAB_VIP,
    algorithm: overrides.algorithm ?? "consistent-hash",
    endpoints: { count: size.endpoints, ghosts: size.ghosts, capacitySessions: 400, ...overrides.endpoints },
    key,
    budget: {
      disruptedShareMaxPercent: 34,
      windowShareMaxPercent: 100,
      windowMs: 60_000,
      freezeUnhealthyPercent: 70,
      ...overrides.budget,
    },
    thresholds: {
      rttFactor: 2.5,
      rttExcessMsMin: 6,
      holdMs: 1_000,
      replaceAfterMs: 1_500,
      recoverAfterMs: 5_000,
      coolDownMs: 10_000,
      ...overrides.thresholds,
    },
    outlier: {
      ejectedShareMaxPercent: 67,
      panicThresholdPercent: 25,
      ejectionBaseMs: 2_000,
      slowStartMs: 5_000,
      ...overrides.outlier,
    },
    foresight: {
      mode: "act",
      windowMs: 60_000,
      dwellMs: 5_000,
      scoreStaleMs: 10_000,
      // Of a handful of endpoints, nobody is spared for later trainings.
      controlShare: 0,
      costs: { launch: 0.2 },
      ...overrides.foresight,
    },
  });
}
