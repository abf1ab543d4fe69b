/**
 * What is known of a swarm at one moment: the input of `plan()`, assembled by the watch activity from the collector's telemetry,
 * the reflex's probes and the hypervisor's list of machines.
 */

import type { StatedPlace } from "./outside-events.ts";
import type { TelemetrySample } from "./telemetry.ts";

/** State of a machine as its hypervisor reports it. */
export type MachineState = "running" | "suspended" | "gone";

/** One heartbeat of an endpoint's agent. */
export interface Heartbeat {
  readonly swarm: string;
  readonly endpoint: string;
  /** By the endpoint's clock, Unix milliseconds. */
  readonly atMs: number;
  /** Grows by one with each heartbeat since the agent's start. */
  readonly sequence: number;
  /** Unix milliseconds at which the agent started; a change means a restart. */
  readonly startedAtMs: number;
  /** Share of one second's CPU that the endpoint used, 0..1 of all its cores; undefined where it cannot be read. */
  readonly cpuShare: number | undefined;
  /** Share of time in which some task waited for the CPU (pressure stall), 0..1. */
  readonly cpuPressure: number | undefined;
  readonly memoryShare: number | undefined;
  /** Whether the WireGuard interface is there and its device answers. */
  readonly tunnelUp: boolean;
  readonly sessions: number;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxDrops: number;
  readonly txDrops: number;
  /** What else the agent measures; agents of the first version send none of what follows. */
  readonly sample?: TelemetrySample | undefined;
  /** Where the endpoint is, when its agent knows better than the swarm file. */
  readonly place?: StatedPlace | undefined;
  /** Address that other endpoints may measure the way to it by. */
  readonly probeAddress?: string | undefined;
}

/** What is known of one endpoint. Loss is a share 0..1, times are milliseconds. */
export interface EndpointObservation {
  readonly endpoint: string;
  readonly machine: MachineState;
  /** Member of the balancer, with the weight the balancer holds. Undefined: not a member. */
  readonly weight: number | undefined;
  readonly draining: boolean;
  readonly ejected: boolean;
  readonly ejectedAtMs: number | undefined;
  /** Ejections so far, of this member. */
  readonly ejections: number;
  /** The reflex finds it at work though it loses probes: it has more to carry than it can. Absent from older observations. */
  readonly overloaded?: boolean | undefined;
  /** Through the tunnel, over the window of the probes (limits). */
  readonly innerLoss: number;
  /** Upper quartile of the round trips. */
  readonly innerRttMsP75: number | undefined;
  readonly innerRttMsMax: number | undefined;
  readonly innerMissesInARow: number;
  /** Probes the window holds; few probes are weak evidence. */
  readonly innerProbes: number;
  /** Whether the machine answers outside the tunnel. */
  readonly outerAnswers: boolean;
  readonly heartbeatAgeMs: number | undefined;
  readonly cpuShare: number | undefined;
  readonly cpuPressure: number | undefined;
  readonly tunnelUp: boolean | undefined;
  readonly sessions: number;
  /** What its machine boots from, where the hypervisor tells. */
  readonly image?: string | undefined;
  /** A person has put it out for good; absent: nobody has. */
  readonly revoked?: boolean | undefined;
}

export interface Observation {
  readonly atMs: number;
  readonly endpoints: readonly EndpointObservation[];
  /** Names of suspended machines that can be woken. */
  readonly ghosts: readonly string[];
  /** By their names, what they boot from, where the hypervisor tells. */
  readonly ghostImages?: Readonly<Record<string, string>> | undefined;
  /** By their names, when they were made, Unix milliseconds; absent from older observations. */
  readonly ghostsSinceMs?: Readonly<Record<string, number>> | undefined;
  /** Sequence number of the last reflex event that is in here. */
  readonly reflexSeq: number;
  /** False when the reflex could not be asked; then only the past is known of the data path. */
  readonly reflexAnswers: boolean;
}
