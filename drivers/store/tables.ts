/**
 * The tables as Kysely sees them; migrations/ makes them.
 */
import type { ColumnType, Generated } from "kysely";
import type { Heartbeat } from "../../models/observation.ts";
import type { OutsideEvent } from "../../models/outside-events.ts";
import type { RiskScore } from "../../models/risk.ts";
import type { StaticIdentity } from "../../models/static-identities.ts";
import type { SwarmSpec } from "../../models/swarm-spec.ts";
import type { AuditEntry } from "../ports.ts";

/** Read as its value, written as JSON text: pg would take an array for one of PostgreSQL's own. */
type Json<T> = ColumnType<T, string, string>;

export interface Tables {
  swarms: { name: string; spec: Json<SwarmSpec>; updated_at: Generated<Date> };
  session_versions: { swarm: string; version: number };
  peers: PeersTable;
  revoked_peers: { swarm: string; public_key: string; version: number; reason: string; at: Generated<Date> };
  swarm_identities: { swarm: string; identities: Json<readonly StaticIdentity[]>; version: number };
  revoked_endpoints: { swarm: string; endpoint: string; reason: string; at: Generated<Date> };
  sessions: SessionsTable;
  heartbeats: HeartbeatsTable;
  latest_heartbeats: { swarm: string; endpoint: string; at: Date; body: Json<Heartbeat> };
  outside_events: OutsideEventsTable;
  risk_scores: { at: Date; swarm: string; endpoint: string; sessions: number; score: Json<RiskScore> };
  load_forecasts: LoadForecastsTable;
  audit: AuditTable;
  stop_switches: { scope: string; by: string; reason: string; at: Generated<Date> };
  pages: { operation: string; swarm: string; subject: string; text: string; at: Generated<Date> };
}

export interface PeersTable {
  swarm: string;
  public_key: string;
  inner_addresses: Json<string[]>;
  preshared_path: string | null;
  preshared_version: number | null;
  version: number;
}

export interface SessionsTable extends PeersTable {
  endpoint: string;
  outer_address: string;
  last_handshake_ms: number;
  rx_bytes: number;
  tx_bytes: number;
  shadow: string | null;
  removed: boolean;
  updated_at_ms: number;
}

interface HeartbeatsTable {
  at: Date;
  received_at: Date;
  swarm: string;
  endpoint: string;
  sequence: number;
  started_at: Date;
  tunnel_up: boolean;
  sample: Json<Record<string, number>>;
}

interface OutsideEventsTable {
  id: string;
  source: string;
  kind: OutsideEvent["kind"];
  region: string;
  zone: string | null;
  starts_at: Date;
  ends_at: Date;
  severity: number;
  confidence: number;
  text: string;
  feed: string;
  seen_at: Generated<Date>;
  withdrawn_at: Date | null;
}

interface LoadForecastsTable {
  swarm: string;
  made_at: Date;
  target_at: Date;
  median: number;
  lower: number;
  upper: number;
  demand: number;
  methods: Json<Record<string, number>>;
  actual: Generated<number | null>;
}

interface AuditTable {
  seq: Generated<number>;
  at: Generated<Date>;
  operation: string;
  action: string;
  swarm: string;
  endpoint: string | null;
  outcome: AuditEntry["outcome"];
  text: string;
  workflow_id: string | null;
  run_id: string | null;
  details: Json<Record<string, unknown>>;
}
