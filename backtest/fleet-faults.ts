/** Faults that build up on one machine of the made-up fleet, drawn from a seed, and the second at which its users feel each. */
import type { OutsideEvent } from "../models/outside-events.ts";
import { seededRandom } from "../models/random.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import type { Fault } from "./fleet-telemetry.ts";

export const FLEET_FAULTS = ["memory-leak", "rising-loss", "cpu-steal", "incident"] as const;
export type FleetFault = (typeof FLEET_FAULTS)[number];

export interface FaultPlan {
  readonly kind: FleetFault;
  readonly endpoint: string;
  readonly seed: number;
  readonly beginsS: number;
  readonly buildUpS: number;
  /** The second from which the users' sessions suffer, had nobody acted; of the share of memory in use when the fault began. */
  readonly impactS: (memoryShare: number) => number;
  readonly fault: Fault | undefined;
  readonly announced: readonly { readonly endpoint: string; readonly knownFromS: number; readonly event: OutsideEvent }[];
}

/** The fleet has been up for at least this share of the window looked ahead when the fault begins, and for so many at most. */
const WINDOWS_BEFORE = { least: 1, most: 4 } as const;
/** How long it takes to build up, in windows. */
const WINDOWS_BUILD_UP = { least: 0.5, most: 2 } as const;
/** At the end: all memory, three probes in ten, nine tenths of the CPU. */
const LOSS_END = 0.3;
const STEAL_END = 0.9;
/** Stolen CPU from which sessions suffer. */
const STEAL_IMPACT = 0.5;
const MEMORY_FULL_SHARE = 0.97;
/** Where a leak meets the machine's end: most machines use between a quarter and a half of it. */
const MEMORY_GROWTH = 0.9;

export function faultPlan(spec: SwarmSpec, seed: number, startMs: number): FaultPlan {
  const random = seededRandom(seed * 31 + 5);
  for (let turn = 0; turn < 4; turn++) random();
  const windowS = spec.foresight.windowMs / 1_000;
  const between = ({ least, most }: { least: number; most: number }) =>
    Math.round((least + (most - least) * random()) * windowS);
  const kind = FLEET_FAULTS[seed % FLEET_FAULTS.length] ?? "memory-leak";
  const beginsS = between(WINDOWS_BEFORE);
  const buildUpS = between(WINDOWS_BUILD_UP);
  const endpoint = `ep-${1 + Math.floor(random() * spec.endpoints.count)}`;
  const part = (second: number) => Math.min(1, Math.max(0, (second - beginsS) / buildUpS));
  const plan = { kind, endpoint, seed, beginsS, buildUpS, announced: [] };
  const on = (change: (at: number, state: Parameters<Fault>[2]) => void): Fault => {
    return (second, name, state) => {
      if (name === endpoint && second >= beginsS) change(part(second), state);
    };
  };
  switch (kind) {
    case "memory-leak":
      return {
        ...plan,
        impactS: (memoryShare) => beginsS + Math.ceil((buildUpS * (MEMORY_FULL_SHARE - memoryShare)) / MEMORY_GROWTH),
        fault: on((at, state) => {
          state.memoryShare = MEMORY_GROWTH * at;
        }),
      };
    case "rising-loss":
      return {
        ...plan,
        impactS: () => beginsS + Math.ceil(buildUpS * Math.sqrt(spec.thresholds.lossDegraded / LOSS_END)),
        fault: on((at, state) => {
          state.lossShare = LOSS_END * at * at;
        }),
      };
    case "cpu-steal":
      return {
        ...plan,
        impactS: () => beginsS + Math.ceil((buildUpS * STEAL_IMPACT) / STEAL_END),
        fault: on((at, state) => {
          state.stealShare = STEAL_END * at;
        }),
      };
    case "incident":
      return {
        ...plan,
        impactS: () => beginsS + buildUpS,
        fault: undefined,
        announced: [announcement(endpoint, beginsS, buildUpS, startMs)],
      };
  }
}

function announcement(endpoint: string, knownFromS: number, aheadS: number, startMs: number) {
  const startsAtMs = startMs + (knownFromS + aheadS) * 1_000;
  const event: OutsideEvent = {
    id: `incident-${endpoint}`,
    source: "backtest",
    kind: "provider-incident",
    region: "local",
    zone: undefined,
    severity: 0.95,
    confidence: 0.9,
    text: "power incident announced",
    startsAtMs,
    endsAtMs: startsAtMs + 3_600_000,
  };
  return { endpoint, knownFromS, event };
}
