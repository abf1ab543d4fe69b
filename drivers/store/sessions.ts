/**
 * Peers and sessions in the database. Every change takes the next version of its swarm and is announced on `foreshift_sessions`.
 */
import { type Kysely, type Selectable, sql, type Transaction } from "kysely";
import { ForeshiftError } from "../../models/errors.ts";
import type { Peer, SessionState } from "../../models/session.ts";
import type { StreamLine } from "./session-stream.ts";
import type { PeersTable, SessionsTable, Tables } from "./tables.ts";

export const SESSIONS_CHANNEL = "foreshift_sessions";

export interface SessionDeltas {
  readonly swarm: string;
  /** Whose agent says so. */
  readonly endpoint: string;
  readonly upserts: readonly SessionState[];
  /** Public keys. */
  readonly removed: readonly string[];
}

/** Names the endpoint that takes the session over when its holder is lost. */
export type ShadowOf = (publicKey: string, holder: string) => string | undefined;

/**
 * Takes an endpoint's deltas. The endpoint with the newest handshake holds a session: what another says of an older one is passed
 * over, so that a machine that was frozen cannot take back on paper what was moved. Answers how many changes were taken.
 */
export async function applyDeltas(db: Kysely<Tables>, deltas: SessionDeltas, shadowOf: ShadowOf): Promise<number> {
  return await db.transaction().execute(async (tx) => {
    const base = await lockVersion(tx, deltas.swarm);
    const keys = [...deltas.upserts.map(({ publicKey }) => publicKey), ...deltas.removed];
    if (keys.length === 0) return 0;
    const rows = await tx
      .selectFrom("sessions")
      .selectAll()
      .where("swarm", "=", deltas.swarm)
      .where("public_key", "in", keys)
      .execute();
    const held = new Map(rows.map((row) => [row.public_key, row]));
    const revoked = await revokedAmong(tx, deltas.swarm, keys);
    const known = deltas.upserts.filter(({ publicKey }) => !revoked.has(publicKey));
    const upserts = known.filter((session) => isTaken(session, deltas.endpoint, held.get(session.publicKey)));
    const removed = deltas.removed.filter(
      (key) => held.get(key)?.endpoint === deltas.endpoint && held.get(key)?.removed === false,
    );
    const records = upserts.map((session, n) => {
      const shadow = shadowOf(session.publicKey, deltas.endpoint);
      return sessionRecord(deltas.swarm, { ...session, endpoint: deltas.endpoint, shadow, version: base + n + 1 });
    });
    await writeSessions(tx, records);
    for (const [n, publicKey] of removed.entries()) {
      const version = base + upserts.length + n + 1;
      const change = tx.updateTable("sessions").set({ removed: true, version }).where("swarm", "=", deltas.swarm);
      await change.where("public_key", "=", publicKey).execute();
    }
    await announce(tx, deltas.swarm, base + upserts.length + removed.length, base);
    return upserts.length + removed.length;
  });
}

/** Names every live session's shadow anew, after endpoints came or went. Answers how many sessions got another one. */
export async function designateShadows(db: Kysely<Tables>, swarm: string, shadowOf: ShadowOf): Promise<number> {
  return await db.transaction().execute(async (tx) => {
    const base = await lockVersion(tx, swarm);
    const query = tx.selectFrom("sessions").select(["public_key", "endpoint", "shadow"]).where("swarm", "=", swarm);
    const rows = await query.where("removed", "=", false).orderBy("version").execute();
    const changed = rows
      .map(({ public_key, endpoint, shadow: before }) => ({
        public_key,
        before,
        shadow: shadowOf(public_key, endpoint) ?? null,
      }))
      .filter(({ before, shadow }) => before !== shadow)
      .map(({ public_key, shadow }, n) => ({ public_key, shadow, version: base + n + 1 }));
    await sql`
      update sessions set shadow = change.shadow, version = change.version
      from jsonb_to_recordset(${JSON.stringify(changed)}::jsonb) as change(public_key text, shadow text, version bigint)
      where sessions.swarm = ${swarm} and sessions.public_key = change.public_key
    `.execute(tx);
    await announce(tx, swarm, base + changed.length, base);
    return changed.length;
  });
}

/** Registers clients that may connect; those that are there with the same properties take no new version. */
export async function registerPeers(db: Kysely<Tables>, swarm: string, peers: readonly Peer[]): Promise<number> {
  assertDistinct(peers);
  return await db.transaction().execute(async (tx) => {
    const base = await lockVersion(tx, swarm);
    const present = await tx.selectFrom("peers").selectAll().where("swarm", "=", swarm).execute();
    const held = new Map(present.map((row) => [row.public_key, peerOf(row)]));
    const revoked = await revokedAmong(
      tx,
      swarm,
      peers.map(({ publicKey }) => publicKey),
    );
    for (const publicKey of revoked) {
      const detail = "this client was revoked for good; let it make a new key pair";
      throw new ForeshiftError("INVALID_FIELD", { field: "publicKey", value: publicKey, detail });
    }
    const owners = new Map(present.flatMap((row) => row.inner_addresses.map((address) => [address, row.public_key])));
    const news = peers.filter((peer) => !samePeer(held.get(peer.publicKey), peer));
    for (const { publicKey, innerAddresses } of news) {
      const taken = innerAddresses.find((address) => owners.has(address) && owners.get(address) !== publicKey);
      if (taken !== undefined) throw new ForeshiftError("DUPLICATE_NAME", { field: "innerAddresses", value: taken });
    }
    for (const [n, peer] of news.entries()) {
      const record = { ...peerRecord(swarm, peer), version: base + n + 1 };
      const { swarm: _, public_key: __, ...changes } = record;
      await tx
        .insertInto("peers")
        .values(record)
        .onConflict((conflict) => conflict.columns(["swarm", "public_key"]).doUpdateSet(changes))
        .execute();
    }
    await announce(tx, swarm, base + news.length, base);
    return news.length;
  });
}

/** Each with its revision. */
export async function listPeers(db: Kysely<Tables>, swarm: string): Promise<readonly Peer[]> {
  const rows = await db.selectFrom("peers").selectAll().where("swarm", "=", swarm).orderBy("version").execute();
  return rows.map((row) => ({ ...peerOf(row), revision: row.version }));
}

export async function listSessions(db: Kysely<Tables>, swarm: string): Promise<readonly SessionState[]> {
  const query = db.selectFrom("sessions").selectAll().where("swarm", "=", swarm).where("removed", "=", false);
  return (await query.orderBy("version").execute()).map(sessionOf);
}

/** Highest version of the swarm. */
export async function headVersion(db: Kysely<Tables>, swarm: string): Promise<number> {
  const row = await db.selectFrom("session_versions").select("version").where("swarm", "=", swarm).executeTakeFirst();
  return row?.version ?? 0;
}

/** What changed after a version, oldest first, at most `limit` lines; a version's line is its latest state. */
export async function changesAfter(
  db: Kysely<Tables>,
  swarm: string,
  after: number,
  limit: number,
): Promise<readonly ChangeLine[]> {
  const newer = <T extends "peers" | "sessions" | "revoked_peers">(table: T) =>
    db
      .selectFrom(table as "peers" | "sessions" | "revoked_peers")
      .where("swarm", "=", swarm)
      .where("version", ">", after)
      .orderBy("version")
      .limit(limit);
  const peers = (await newer("peers").selectAll().execute()) as Selectable<PeersTable>[];
  const sessions = (await newer("sessions").selectAll().execute()) as Selectable<SessionsTable>[];
  const revoked = await newer("revoked_peers").select(["public_key", "version"]).execute();
  const stated = db.selectFrom("swarm_identities").select(["identities", "version"]).where("swarm", "=", swarm);
  const identities = await stated.where("version", ">", after).execute();
  const lines = [
    ...identities.map(
      ({ identities: all, version }): ChangeLine => ({
        version,
        updatedAtMs: undefined,
        line: { identities: [...all], version },
      }),
    ),
    ...revoked.map(
      ({ public_key, version }): ChangeLine => ({ version, updatedAtMs: undefined, line: { revoke: public_key, version } }),
    ),
    ...peers.map(
      (row): ChangeLine => ({
        version: row.version,
        updatedAtMs: undefined,
        line: { peer: peerOf(row), version: row.version },
      }),
    ),
    ...sessions.map(changeOfSession),
  ];
  return lines.sort((one, other) => one.version - other.version).slice(0, limit);
}

export interface ChangeLine {
  readonly version: number;
  /** When the endpoint observed it; undefined for peers, which nobody observes. */
  readonly updatedAtMs: number | undefined;
  readonly line: StreamLine;
}

function changeOfSession(row: Selectable<SessionsTable>): ChangeLine {
  const { version } = row;
  if (row.removed) return { version, updatedAtMs: undefined, line: { remove: row.public_key, version } };
  return { version, updatedAtMs: row.updated_at_ms, line: { upsert: sessionOf(row) } };
}

async function revokedAmong(tx: Transaction<Tables>, swarm: string, publicKeys: readonly string[]): Promise<Set<string>> {
  if (publicKeys.length === 0) return new Set();
  const query = tx.selectFrom("revoked_peers").select("public_key").where("swarm", "=", swarm);
  const rows = await query.where("public_key", "in", [...publicKeys]).execute();
  return new Set(rows.map(({ public_key }) => public_key));
}

/** The row stays locked until the transaction ends, which is what orders the versions. */
export async function lockVersion(tx: Transaction<Tables>, swarm: string): Promise<number> {
  const row = await tx
    .insertInto("session_versions")
    .values({ swarm, version: 0 })
    .onConflict((conflict) => conflict.column("swarm").doUpdateSet({ version: sql`session_versions.version` }))
    .returning("version")
    .executeTakeFirstOrThrow();
  return row.version;
}

export async function announce(tx: Transaction<Tables>, swarm: string, version: number, base: number): Promise<void> {
  if (version === base) return;
  await tx.updateTable("session_versions").set({ version }).where("swarm", "=", swarm).execute();
  await sql`select pg_notify(${SESSIONS_CHANNEL}, ${JSON.stringify({ swarm, version })})`.execute(tx);
}

function isTaken(session: SessionState, endpoint: string, held: Selectable<SessionsTable> | undefined): boolean {
  return held === undefined || held.removed || held.endpoint === endpoint || session.lastHandshakeMs > held.last_handshake_ms;
}

/** All rows in one statement, whatever their number: they travel as one JSON document. */
async function writeSessions(tx: Transaction<Tables>, records: readonly SessionRecord[]): Promise<void> {
  if (records.length === 0) return;
  await sql`
    insert into sessions
    select * from jsonb_populate_recordset(null::sessions, ${JSON.stringify(records)}::jsonb)
    on conflict (swarm, public_key) do update set
      endpoint = excluded.endpoint, inner_addresses = excluded.inner_addresses,
      preshared_path = excluded.preshared_path, preshared_version = excluded.preshared_version,
      outer_address = excluded.outer_address, last_handshake_ms = excluded.last_handshake_ms,
      rx_bytes = excluded.rx_bytes, tx_bytes = excluded.tx_bytes, shadow = excluded.shadow,
      removed = false, version = excluded.version, updated_at_ms = excluded.updated_at_ms
  `.execute(tx);
}

type SessionRecord = Selectable<SessionsTable>;

function sessionRecord(swarm: string, session: Omit<SessionState, "shadow"> & { shadow: string | undefined }): SessionRecord {
  return {
    swarm,
    public_key: session.publicKey,
    inner_addresses: session.innerAddresses,
    preshared_path: session.presharedKey?.path ?? null,
    preshared_version: session.presharedKey?.version ?? null,
    version: session.version,
    endpoint: session.endpoint,
    outer_address: session.outerAddress,
    last_handshake_ms: session.lastHandshakeMs,
    rx_bytes: session.rxBytes,
    tx_bytes: session.txBytes,
    shadow: session.shadow ?? null,
    removed: false,
    updated_at_ms: session.updatedAtMs,
  };
}

function sessionOf(row: Selectable<SessionsTable>): SessionState {
  return {
    ...peerOf(row),
    endpoint: row.endpoint,
    outerAddress: row.outer_address,
    lastHandshakeMs: row.last_handshake_ms,
    rxBytes: row.rx_bytes,
    txBytes: row.tx_bytes,
    ...(row.shadow === null ? {} : { shadow: row.shadow }),
    version: row.version,
    updatedAtMs: row.updated_at_ms,
  };
}

function peerRecord(swarm: string, peer: Peer) {
  return {
    swarm,
    public_key: peer.publicKey,
    inner_addresses: JSON.stringify(peer.innerAddresses),
    preshared_path: peer.presharedKey?.path ?? null,
    preshared_version: peer.presharedKey?.version ?? null,
  };
}

function peerOf(row: Selectable<PeersTable>): Peer {
  const { preshared_path: path, preshared_version: version } = row;
  return {
    publicKey: row.public_key,
    innerAddresses: row.inner_addresses,
    ...(path === null || version === null ? {} : { presharedKey: { path, version } }),
  };
}

function samePeer(held: Peer | undefined, peer: Peer): boolean {
  if (held === undefined) return false;
  const properties = ({ innerAddresses, presharedKey }: Peer) =>
    JSON.stringify([innerAddresses, presharedKey?.path, presharedKey?.version]);
  return properties(held) === properties(peer);
}

function assertDistinct(peers: readonly Peer[]): void {
  const keys = new Set<string>();
  const addresses = new Set<string>();
  for (const { publicKey, innerAddresses } of peers) {
    if (keys.has(publicKey)) throw new ForeshiftError("DUPLICATE_NAME", { field: "publicKey", value: publicKey });
    keys.add(publicKey);
    for (const address of innerAddresses) {
      if (addresses.has(address)) throw new ForeshiftError("DUPLICATE_NAME", { field: "innerAddresses", value: address });
      addresses.add(address);
    }
  }
}
