/**
 * The ports: what Foreshift asks of the world. Each is shaped by its caller and implemented by the folders beside this file.
 * Every method takes an `operation` key where it changes something: asked twice with one key, the world changes once.
 */
import type { ModelChange } from "../models/failure/champion.ts";
import type { FailureModel } from "../models/failure/model.ts";
import type { ModelOrigin } from "../models/failure/model-file.ts";
import type { HorizonScore, LoadOutcome, ToldForecast } from "../models/forecast/track-record.ts";
import type { AdoptedIpsec, AdoptIpsecOrder, HeldIpsec } from "../models/ipsec/wire.ts";
import type { RevokedPeer } from "../models/keys.ts";
import type { MachineNotice } from "../models/machine-notices.ts";
import type { Heartbeat, MachineState } from "../models/observation.ts";
import type { OutsideEvent } from "../models/outside-events.ts";
import type { ScoredEndpoint } from "../models/risk.ts";
import type { Peer, SecretRef, SessionState } from "../models/session.ts";
import type { StaticIdentity } from "../models/static-identities.ts";
import type { MemberHealth, MemberLink, ReflexEvent, SteeringState } from "../models/steering.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import type { Rollup, RunningStatistics } from "../models/telemetry-rollup.ts";

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
  /** What it boots from (models/image.ts); undefined where nobody can tell. */
  readonly image?: string | undefined;
  readonly link: MemberLink;
}

export interface MachineSnapshot {
  /** On the machine's host; only its owner may read it, and it ends with the machine. */
  readonly file: string;
  readonly bytes: number;
}

/** Launches, suspends, wakes and ends the machines that endpoints run on. */
export interface Hypervisor {
  readonly capabilities: { readonly suspend: boolean };
  list(swarm: string): Promise<readonly Machine[]>;
  /**
   * A machine that boots from `image`, the hypervisor's own unless stated, and is suspended once booted when `suspended` is asked for.
   * Idempotent by `operation`. INVALID_FIELD for an image that it cannot have.
   */
  launch(request: Operation & { swarm: string; suspended: boolean; image?: string | undefined }): Promise<Machine>;
  resume(request: Operation & { name: string }): Promise<Machine>;
  suspend(request: Operation & { name: string }): Promise<Machine>;
  /** Ends the machine; a machine that is gone already is a success. */
  terminate(request: Operation & { name: string }): Promise<void>;
  /** Repairs what can be repaired from outside without losing the machine: unfreeze its processes, bring its links up. */
  repair(request: Operation & { name: string }): Promise<void>;
  /** The newest of what the machine said while it booted and ran; absent where nobody keeps it. */
  consoleLog?(name: string): Promise<string>;
  /**
   * Keeps all that the machine holds in memory, keys included, until it ends, in the place of what was kept before; it goes on as it did.
   * Absent where that is not possible.
   */
  snapshot?(name: string): Promise<MachineSnapshot>;
  /** What the provider says of the swarm's machines beforehand; absent where nobody says anything. */
  notices?(swarm: string): Promise<readonly MachineNotice[]>;
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

/**
 * What brings clients to a swarm from outside, before any balancer of ours: a provider's load balancer, a name. It knows weights and
 * no sessions.
 */
export interface FrontDoor {
  /** What it has to say of a swarm, from its steering state; the same again changes nothing. */
  apply(state: SteeringState): Promise<void>;
  /** What it finds out of members by itself; absent where it looks at none. */
  notices?(state: SteeringState): Promise<readonly MachineNotice[]>;
}

/** An endpoint's agent. */
export interface EndpointAgent {
  status(): Promise<AgentStatus>;
  sessions(): Promise<readonly SessionState[]>;
  /** By which static key each of its sessions came. */
  identitySessions(): Promise<readonly IdentitySessions[]>;
  /** Configures peers that are not there yet, without a session: what a shadow holds. */
  prepare(request: Operation & { peers: readonly Peer[] }): Promise<void>;
  /** Starts a handshake with each client from here, all in parallel. Returns when they are sent. */
  adopt(request: Operation & { sessions: readonly SessionState[] }): Promise<void>;
  /** Forgets the sessions of these peers; the peers stay configured. */
  retire(request: Operation & { publicKeys: readonly string[] }): Promise<void>;
  /** Restarts WireGuard in place and, unless `adopts` is false, begins handshakes with clients that no other endpoint has taken. */
  recover(request: Operation & { adopts?: boolean }): Promise<void>;
  /**
   * Reads these peers' preshared keys into memory, so that setting them needs nobody; forgets keys that neither these nor the peers it
   * has refer to. NOT_READY when one cannot be read.
   */
  loadKeys(request: Operation & { peers: readonly Peer[] }): Promise<void>;
  /** These peers' preshared keys hold from the next handshake on; sessions go on. NOT_READY when a key is neither loaded nor readable. */
  setKeys(request: Operation & { peers: readonly Peer[] }): Promise<void>;
  /** These peers are out, with their sessions, and stay out whoever else still knows them. */
  revoke(request: Operation & { peers: readonly RevokedPeer[] }): Promise<void>;
  /** IPsec sessions that live there; undefined where it is no IPsec gateway. */
  ipsecSessions(): Promise<readonly HeldIpsec[] | undefined>;
  /**
   * Begins an IKE SA of its own with each of these clients, which go on with the one that they have. Answers at once; asked again by the same
   * operation, how far it has come.
   */
  adoptIpsec(
    request: Operation & { sessions: readonly AdoptIpsecOrder["sessions"][number][] },
  ): Promise<readonly AdoptedIpsec[]>;
  /** Says goodbye to the clients of these sessions; those that it does not have are no failure. */
  letGoIpsec(request: Operation & { sessions: readonly string[] }): Promise<void>;
}

export interface AgentStatus {
  readonly endpoint: string;
  readonly tunnelUp: boolean;
  readonly sessions: number;
  /** The endpoint's clock, Unix milliseconds. */
  readonly clockMs: number;
  /** Highest session version that it has taken from the source of truth. */
  readonly sessionsVersion: number;
  /** Static keys that it answers to now, by the names of their versions. */
  readonly identities: readonly string[];
}

/** Sessions of one static key on one endpoint. */
export interface IdentitySessions {
  /** Name of the key's version. */
  readonly identity: string;
  readonly sessions: readonly { readonly publicKey: string; readonly lastHandshakeMs: number; readonly rxBytes: number }[];
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

/** One row of the trail, as it is read. */
export interface AuditRow extends AuditEntry {
  /** Grows with each row. */
  readonly seq: number;
  /** Unix milliseconds at which it was written, by the database's clock. */
  readonly atMs: number;
}

/** Which preshared key a client is to have. */
export interface PeerKey {
  readonly publicKey: string;
  readonly presharedKey?: SecretRef | undefined;
}

/** The stop switch of one swarm (`scope` is its name) or of all (`scope` is `*`). */
export interface StopSwitch {
  readonly scope: string;
  readonly by: string;
  readonly reason: string;
  readonly atMs: number;
}

export interface TelemetryWindowQuery {
  /** Unix milliseconds. */
  readonly sinceMs: number;
  readonly endpoint?: string | undefined;
  /** Series by name (`pathRttMs:ep-2`), or metrics with all their labels (`pathRttMs`); undefined: all. */
  readonly metrics?: readonly string[] | undefined;
}

/** All series have one value for each step from `fromMs` to before `untilMs` (Unix milliseconds). */
export interface TelemetryWindow {
  readonly swarm: string;
  readonly stepMs: number;
  readonly fromMs: number;
  readonly untilMs: number;
  /** By endpoint, then by name of the series. */
  readonly endpoints: Readonly<Record<string, Readonly<Record<string, TelemetryWindowSeries>>>>;
}

export interface TelemetryWindowSeries {
  /** `null` where there is none. */
  readonly values: readonly (number | null)[];
  readonly statistics: RunningStatistics;
}

export interface TelemetryQuery {
  readonly swarm: string;
  readonly endpoint?: string | undefined;
  /** Name of a series (`pathRttMs:ep-2`) or of a metric with all its labels (`pathRttMs`); models/telemetry.ts. */
  readonly metric?: string | undefined;
  /** Unix milliseconds; from `sinceMs` on, before `untilMs`. */
  readonly sinceMs: number;
  readonly untilMs?: number | undefined;
  /** From 300 s on read of five minutes, from 60 s on of minutes, below that of single heartbeats, which are kept the shortest. */
  readonly stepMs: number;
}

export interface TelemetrySeries {
  readonly endpoint: string;
  readonly metric: string;
  /** One for each step that has values, oldest first; `atMs` is the step's beginning. A p95 over several rollups is their mean. */
  readonly points: readonly (Rollup & { readonly atMs: number })[];
}

/** The collector's memory of the last minutes. */
export interface Telemetry {
  window(swarm: string, query: TelemetryWindowQuery): Promise<TelemetryWindow>;
}

/** The trained models, as who scores by them sees them; a model's scope is the swarm it is for. */
export interface ModelShelf {
  /** Promotions and rollbacks, oldest first: what is in use follows from them (models/failure/champion.ts). */
  history(scope: string): Promise<readonly ModelChange[]>;
  /** Whole and checked; UNKNOWN_MODEL, or MODEL_REFUSED where what is stored is no longer a whole model. */
  load(scope: string, id: string): Promise<{ readonly model: FailureModel; readonly origin: ModelOrigin }>;
}

/** The database: audit trail, stop switch, pages, swarm files, what agents reported. */
export interface Store {
  /** Written once per `operation`; a second write with the same key changes nothing. */
  audit(entry: AuditEntry): Promise<void>;
  /** Rows after `afterSeq`, oldest first, or the latest `limit` of them (still oldest first) when `afterSeq` is undefined. */
  auditTrail(query: {
    swarm?: string;
    endpoint?: string;
    workflowId?: string;
    afterSeq?: number;
    limit: number;
  }): Promise<readonly AuditRow[]>;
  /** Switches that are on, of all scopes. Read before each change to the world, so it is one cheap query. */
  stopSwitches(): Promise<readonly StopSwitch[]>;
  /** On: written (the first writer's reason stays). Off: removed; a switch that is off already is a success. */
  setStopSwitch(request: { scope: string; on: boolean; by: string; reason: string }): Promise<void>;
  /** Something a person must see; once per `operation`. */
  page(request: Operation & { swarm: string; subject: string; text: string }): Promise<void>;
  /** The swarm file in force, kept for `swarm get` and `swarm list`. */
  saveSpec(spec: SwarmSpec): Promise<void>;
  specs(): Promise<readonly SwarmSpec[]>;
  /** Last heartbeat of each endpoint of the swarm. */
  heartbeats(swarm: string): Promise<readonly Heartbeat[]>;
  /** How metrics lay over time, one series for each endpoint and metric that has values. */
  telemetry(query: TelemetryQuery): Promise<readonly TelemetrySeries[]>;
  /** Outside events whose window has some of [activeAtMs, activeAtMs + aheadMs] in it (models/outside-events.ts). */
  outsideEvents(query: { activeAtMs: number; aheadMs?: number }): Promise<readonly OutsideEvent[]>;
  /** What was predicted; the same score again changes nothing. */
  saveRiskScores(swarm: string, scores: readonly ScoredEndpoint[]): Promise<void>;
  /** The newest scores up to a moment, latest first; of one endpoint, or of all the swarm's. */
  riskScores(query: {
    swarm: string;
    endpoint?: string;
    sinceMs?: number;
    untilMs: number;
    limit: number;
  }): Promise<readonly ScoredEndpoint[]>;
  /** What was forecast of a swarm's load; the first word on a target and moment counts. */
  saveLoadForecasts(swarm: string, forecasts: readonly ToldForecast[]): Promise<void>;
  /** What came, for the forecasts of those steps. */
  saveLoadOutcomes(swarm: string, outcomes: readonly LoadOutcome[]): Promise<void>;
  /** By target, from `sinceMs` to before `untilMs`; the latest first, and of one target the newest forecast first. */
  loadForecasts(query: { swarm: string; sinceMs: number; untilMs: number; limit: number }): Promise<readonly ToldForecast[]>;
  /** How they turned out, one for each horizon, the nearest first; targets from `sinceMs` on. */
  loadScores(query: { swarm: string; sinceMs: number }): Promise<readonly HorizonScore[]>;
  /** Clients that may connect, each with its revision. */
  peers(swarm: string): Promise<readonly Peer[]>;
  /** States the preshared keys of clients that are there (absent: none), all at once. Answers those clients with their revision. */
  rekeyPeers(request: { swarm: string; keys: readonly PeerKey[] }): Promise<readonly Peer[]>;
  /** Takes clients and their sessions out for good; one that is out already stays so. Answers all of these that are out. */
  revokePeers(request: { swarm: string; publicKeys: readonly string[]; reason: string }): Promise<readonly RevokedPeer[]>;
  revokedPeers(swarm: string): Promise<readonly RevokedPeer[]>;
  /** Static keys that the swarm answers to; undefined: its file's alone. */
  identities(swarm: string): Promise<readonly StaticIdentity[] | undefined>;
  /** Endpoints follow, those that come back included. */
  stateIdentities(request: { swarm: string; identities: readonly StaticIdentity[] }): Promise<void>;
  /** An endpoint is out for good, and its agent is not heard any more; one that is out already stays so. */
  revokeEndpoint(request: { swarm: string; endpoint: string; reason: string }): Promise<void>;
  /** Names, the latest last. */
  revokedEndpoints(swarm: string): Promise<readonly string[]>;
  /** Sessions as agents reported them last. */
  sessions(swarm: string): Promise<readonly SessionState[]>;
  close(): Promise<void>;
}
