/**
 * The ports: what Foreshift asks of the world. Each is shaped by its caller and implemented by the folders beside this file.
 * Every method takes an `operation` key where it changes something: asked twice with one key, the world changes once.
 */
import type { MachineState } from "../models/observation.ts";
import type { Peer, SessionState } from "../models/session.ts";
import type { MemberHealth, MemberLink, ReflexEvent, SteeringState } from "../models/steering.ts";

/** Names one step of one run, e.g. `drain/lab/ep-1/7f3a:launch`; makes the step idempotent. */
export interface Operation {
  readonly operation: string;
}

export interface Machine {
  readonly name: string;
  readonly swarm: string;
  readonly state: MachineState;
  /** Unix milliseconds. */
  readonly createdAtMs: number;
  readonly link: MemberLink;
}

/** Launches, suspends, wakes and ends the machines that endpoints run on. */
export interface Hypervisor {
  readonly capabilities: { readonly suspend: boolean };
  list(swarm: string): Promise<readonly Machine[]>;
  /** A machine that boots, and is suspended once booted when `suspended` is asked for. Idempotent by `operation`. */
  launch(request: Operation & { swarm: string; suspended: boolean }): Promise<Machine>;
  resume(request: Operation & { name: string }): Promise<Machine>;
  suspend(request: Operation & { name: string }): Promise<Machine>;
  /** Ends the machine; a machine that is gone already is a success. */
  terminate(request: Operation & { name: string }): Promise<void>;
  /** Repairs what can be repaired from outside without losing the machine: unfreeze its processes, bring its links up. */
  repair(request: Operation & { name: string }): Promise<void>;
}

/** The reflex's local API. */
export interface Balancer {
  desired(): Promise<SteeringState | undefined>;
  /** Refused with STALE_EPOCH unless the epoch is above the held one. */
  apply(state: SteeringState & Operation): Promise<void>;
  health(): Promise<readonly MemberHealth[]>;
  /** Sessions as the reflex knows them. */
  sessions(): Promise<readonly SessionState[]>;
  /** Events with a sequence number above `after`, oldest first; waits up to `waitMs` for the first. */
  events(request: { after: number; waitMs: number; signal?: AbortSignal }): Promise<readonly ReflexEvent[]>;
}

/** An endpoint's agent. */
export interface EndpointAgent {
  status(): Promise<AgentStatus>;
  sessions(): Promise<readonly SessionState[]>;
  /** Configures peers that are not there yet, without a session: what a shadow holds. */
  prepare(request: Operation & { peers: readonly Peer[] }): Promise<void>;
  /** Starts a handshake with each client from here, all in parallel. Returns when they are sent. */
  adopt(request: Operation & { sessions: readonly SessionState[] }): Promise<void>;
  /** Forgets the sessions of these peers; the peers stay configured. */
  retire(request: Operation & { publicKeys: readonly string[] }): Promise<void>;
  /** Restarts WireGuard in place. */
  recover(request: Operation): Promise<void>;
}

export interface AgentStatus {
  readonly endpoint: string;
  readonly tunnelUp: boolean;
  readonly sessions: number;
  /** The endpoint's clock, Unix milliseconds. */
  readonly clockMs: number;
  /** Highest session version that it has taken from the source of truth. */
  readonly sessionsVersion: number;
}

/** One line of the audit trail. Written once per `operation`. */
export interface AuditEntry extends Operation {
  readonly swarm: string;
  readonly endpoint: string | undefined;
  /** What was done, imperative, e.g. `pin sessions`. */
  readonly action: string;
  readonly outcome: "done" | "already-done" | "refused" | "failed";
  /** Why, and what came of it; for a person. No secrets. */
  readonly text: string;
  readonly workflowId: string | undefined;
  readonly runId: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;
}
