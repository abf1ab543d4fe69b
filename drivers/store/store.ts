/**
 * The store on PostgreSQL: the `Store` port, and what the collector needs beyond it.
 */
import type { Kysely } from "kysely";
import type { OutsideEvent } from "../../models/outside-events.ts";
import type { Peer, SessionState } from "../../models/session.ts";
import type { SwarmSpec } from "../../models/swarm-spec.ts";
import type { StopSwitch, Store } from "../ports.ts";
import { readAudit, writeAudit, writePage } from "./audit.ts";
import { type Database, openDatabase } from "./database.ts";
import { readIdentities, stateIdentities } from "./identities.ts";
import { readLoadForecasts, readLoadScores, saveLoadForecasts, saveLoadOutcomes } from "./load-forecasts.ts";
import { deleteOutsideEventsBefore, readOutsideEvents, saveOutsideEvents } from "./outside-events.ts";
import { listRevoked, rekeyPeers, revokePeers } from "./peer-keys.ts";
import { announceForgotten, type EndpointName, listRevokedEndpoints, revokeEndpoint } from "./revoked-endpoints.ts";
import { readRiskScores, saveRiskScores } from "./risk-scores.ts";
import type { SessionDeltas, ShadowOf } from "./sessions.ts";
import {
  applyDeltas,
  type ChangeLine,
  changesAfter,
  designateShadows,
  headVersion,
  listPeers,
  listSessions,
  registerPeers,
} from "./sessions.ts";
import type { Tables } from "./tables.ts";
import {
  announceTelemetry,
  type BelievedSample,
  type Grain,
  heartbeatsSince,
  insertHeartbeats,
  insertRollups,
  latestHeartbeats,
  readTelemetry,
  type StoredHeartbeat,
  type StoredRollup,
  turnTelemetryDays,
} from "./telemetry.ts";

export interface PostgresStore extends Store {
  /** Clients that may connect; DUPLICATE_NAME when a key or an inner address is there twice. Answers how many were new or changed. */
  registerPeers(swarm: string, peers: readonly Peer[]): Promise<number>;
  /** Peers, sessions and telemetry of a fleet that is gone for good; the audit trail stays. */
  forgetFleet(swarm: string): Promise<void>;
  applyDeltas(deltas: SessionDeltas, shadowOf: ShadowOf): Promise<number>;
  designateShadows(swarm: string, shadowOf: ShadowOf): Promise<number>;
  changesAfter(swarm: string, after: number, limit: number): Promise<readonly ChangeLine[]>;
  headVersion(swarm: string): Promise<number>;
  /** Of every swarm. */
  allRevokedEndpoints(): Promise<readonly EndpointName[]>;
  insertHeartbeats(batch: readonly StoredHeartbeat[]): Promise<void>;
  insertRollups(grain: Grain, batch: readonly StoredRollup[]): Promise<void>;
  /** Values of the series by name, oldest first. */
  heartbeatsSince(sinceMs: number): Promise<readonly BelievedSample[]>;
  /** Makes the coming days' partitions and drops those that are past their retention; answers how many were dropped. */
  turnTelemetryDays(nowMs: number): Promise<number>;
  /** Wakes who waits for news of a swarm. */
  announceTelemetry(news: Parameters<typeof announceTelemetry>[1]): Promise<void>;
  /** Takes a feed's whole document; answers whether anything changed. */
  saveOutsideEvents(feed: string, events: readonly OutsideEvent[]): Promise<boolean>;
  deleteOutsideEventsBefore(beforeMs: number): Promise<void>;
}

/** Opens the store; the schema must be there (drivers/store/migrate.ts). Connects at the first call. */
export function openStore(options: { databaseUrl: string; connectionsMax?: number }): PostgresStore {
  const database = openDatabase(options);
  const { run, withClient } = database;
  return {
    audit: (entry) => run((db) => writeAudit(db, entry)),
    auditTrail: (query) => run((db) => readAudit(db, query)),
    page: (page) => run((db) => writePage(db, page)),
    stopSwitches: () => stopSwitches(database),
    setStopSwitch: (request) => setStopSwitch(database, request),
    saveSpec: (spec) => saveSpec(database, spec),
    specs: () => specs(database),
    heartbeats: (swarm) => run((db) => latestHeartbeats(db, swarm)),
    peers: (swarm) => run((db) => listPeers(db, swarm)),
    sessions: (swarm): Promise<readonly SessionState[]> => run((db) => listSessions(db, swarm)),
    rekeyPeers: ({ swarm, keys }) => run((db) => rekeyPeers(db, swarm, keys)),
    revokePeers: (request) => run((db) => revokePeers(db, request)),
    identities: (swarm) => run((db) => readIdentities(db, swarm)),
    stateIdentities: (request) => run((db) => stateIdentities(db, request)),
    revokedPeers: (swarm) => run((db) => listRevoked(db, swarm)),
    revokeEndpoint: (request) => run((db) => revokeEndpoint(db, request)),
    revokedEndpoints: async (swarm) => (await run((db) => listRevokedEndpoints(db, swarm))).map(({ endpoint }) => endpoint),
    allRevokedEndpoints: () => run((db) => listRevokedEndpoints(db)),
    registerPeers: (swarm, peers) => run((db) => registerPeers(db, swarm, peers)),
    forgetFleet: (swarm) => run((db) => forgetFleet(db, swarm)),
    applyDeltas: (deltas, shadowOf) => run((db) => applyDeltas(db, deltas, shadowOf)),
    designateShadows: (swarm, shadowOf) => run((db) => designateShadows(db, swarm, shadowOf)),
    changesAfter: (swarm, after, limit) => run((db) => changesAfter(db, swarm, after, limit)),
    headVersion: (swarm) => run((db) => headVersion(db, swarm)),
    insertHeartbeats: (batch) => withClient((client) => insertHeartbeats(client, batch)),
    insertRollups: (grain, batch) => withClient((client) => insertRollups(client, grain, batch)),
    heartbeatsSince: (sinceMs) => run((db) => heartbeatsSince(db, sinceMs)),
    turnTelemetryDays: (nowMs) => run((db) => turnTelemetryDays(db, nowMs)),
    announceTelemetry: (news) => run((db) => announceTelemetry(db, news)),
    telemetry: (query) => run((db) => readTelemetry(db, query)),
    outsideEvents: (query) => run((db) => readOutsideEvents(db, query)),
    saveOutsideEvents: (feed, events) => run((db) => saveOutsideEvents(db, feed, events)),
    saveRiskScores: (swarm, scores) => run((db) => saveRiskScores(db, swarm, scores)),
    riskScores: (query) => run((db) => readRiskScores(db, query)),
    saveLoadForecasts: (swarm, forecasts) => run((db) => saveLoadForecasts(db, swarm, forecasts)),
    saveLoadOutcomes: (swarm, outcomes) => run((db) => saveLoadOutcomes(db, swarm, outcomes)),
    loadForecasts: (query) => run((db) => readLoadForecasts(db, query)),
    loadScores: (query) => run((db) => readLoadScores(db, query)),
    deleteOutsideEventsBefore: (beforeMs) => run((db) => deleteOutsideEventsBefore(db, beforeMs)),
    close: () => database.close(),
  };
}

async function stopSwitches({ run }: Database): Promise<readonly StopSwitch[]> {
  const rows = await run((db) => db.selectFrom("stop_switches").selectAll().orderBy("scope").execute());
  return rows.map(({ scope, by, reason, at }) => ({ scope, by, reason, atMs: at.getTime() }));
}

async function setStopSwitch({ run }: Database, request: Parameters<Store["setStopSwitch"]>[0]): Promise<void> {
  const { scope, on, by, reason } = request;
  await run(async (db) => {
    if (!on) return await db.deleteFrom("stop_switches").where("scope", "=", scope).execute();
    const insert = db.insertInto("stop_switches").values({ scope, by, reason });
    return await insert.onConflict((conflict) => conflict.column("scope").doNothing()).execute();
  });
}

const FLEET_TABLES = [
  "peers",
  "revoked_peers",
  "revoked_endpoints",
  "swarm_identities",
  "sessions",
  "latest_heartbeats",
  "load_forecasts",
] as const;

async function forgetFleet(db: Kysely<Tables>, swarm: string): Promise<void> {
  await db.transaction().execute(async (tx) => {
    for (const table of FLEET_TABLES) {
      await tx.deleteFrom(table).where("swarm", "=", swarm).execute();
    }
    await announceForgotten(tx, swarm);
  });
}

async function saveSpec({ run }: Database, spec: SwarmSpec): Promise<void> {
  const text = JSON.stringify(spec);
  await run((db) =>
    db
      .insertInto("swarms")
      .values({ name: spec.name, spec: text })
      .onConflict((conflict) => conflict.column("name").doUpdateSet({ spec: text, updated_at: new Date() }))
      .execute(),
  );
}

async function specs({ run }: Database): Promise<readonly SwarmSpec[]> {
  const rows = await run((db) => db.selectFrom("swarms").select("spec").orderBy("name").execute());
  return rows.map(({ spec }) => spec);
}
