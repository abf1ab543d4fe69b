/**
 * Which preshared key each client has, and who is revoked. Both are versions of the swarm like sessions are, so that whoever follows the
 * stream, or comes back to it, learns of them in order.
 */
import type { Kysely } from "kysely";
import type { RevokedPeer } from "../../models/keys.ts";
import type { Peer } from "../../models/session.ts";
import type { PeerKey } from "../ports.ts";
import { announce, listPeers, lockVersion } from "./sessions.ts";
import type { Tables } from "./tables.ts";

/** All in one transaction. Keys that are stated already take no new version; clients that are not there are passed over. */
export async function rekeyPeers(db: Kysely<Tables>, swarm: string, keys: readonly PeerKey[]): Promise<readonly Peer[]> {
  if (keys.length === 0) return [];
  const wanted = new Map(keys.map(({ publicKey, presharedKey }) => [publicKey, presharedKey]));
  return await db.transaction().execute(async (tx) => {
    const base = await lockVersion(tx, swarm);
    const query = tx.selectFrom("peers").selectAll().where("swarm", "=", swarm);
    const rows = await query.where("public_key", "in", [...wanted.keys()]).execute();
    const changed = rows.filter(({ public_key, preshared_path, preshared_version }) => {
      const ref = wanted.get(public_key);
      return preshared_path !== (ref?.path ?? null) || preshared_version !== (ref?.version ?? null);
    });
    for (const [n, { public_key }] of changed.entries()) {
      const ref = wanted.get(public_key);
      await tx
        .updateTable("peers")
        .set({ preshared_path: ref?.path ?? null, preshared_version: ref?.version ?? null, version: base + n + 1 })
        .where("swarm", "=", swarm)
        .where("public_key", "=", public_key)
        .execute();
    }
    await announce(tx, swarm, base + changed.length, base);
    return (await listPeers(tx, swarm)).filter(({ publicKey }) => wanted.has(publicKey));
  });
}

export async function revokePeers(
  db: Kysely<Tables>,
  request: { swarm: string; publicKeys: readonly string[]; reason: string },
): Promise<readonly RevokedPeer[]> {
  const { swarm, reason } = request;
  const publicKeys = [...new Set(request.publicKeys)];
  if (publicKeys.length === 0) return [];
  return await db.transaction().execute(async (tx) => {
    const base = await lockVersion(tx, swarm);
    const held = new Set((await listRevoked(tx, swarm)).map(({ publicKey }) => publicKey));
    const news = publicKeys.filter((publicKey) => !held.has(publicKey));
    for (const [n, public_key] of news.entries()) {
      await tx.deleteFrom("peers").where("swarm", "=", swarm).where("public_key", "=", public_key).execute();
      await tx.deleteFrom("sessions").where("swarm", "=", swarm).where("public_key", "=", public_key).execute();
      await tx
        .insertInto("revoked_peers")
        .values({ swarm, public_key, version: base + n + 1, reason })
        .execute();
    }
    await announce(tx, swarm, base + news.length, base);
    const wanted = new Set(publicKeys);
    return (await listRevoked(tx, swarm)).filter(({ publicKey }) => wanted.has(publicKey));
  });
}

export async function listRevoked(db: Kysely<Tables>, swarm: string): Promise<readonly RevokedPeer[]> {
  const query = db.selectFrom("revoked_peers").select(["public_key", "version"]).where("swarm", "=", swarm);
  const rows = await query.orderBy("version").execute();
  return rows.map(({ public_key, version }) => ({ publicKey: public_key, revision: version }));
}
