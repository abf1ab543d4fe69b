/**
 * The static keys that each swarm answers to. A change takes a version of its swarm as sessions do, so that whoever follows the stream,
 * or comes back to it, learns of it in order.
 */
import type { Kysely } from "kysely";
import { StaticIdentities, type StaticIdentity } from "../../models/static-identities.ts";
import { announce, lockVersion } from "./sessions.ts";
import type { Tables } from "./tables.ts";

/** Undefined: those of the swarm file. */
export async function readIdentities(db: Kysely<Tables>, swarm: string): Promise<readonly StaticIdentity[] | undefined> {
  const query = db.selectFrom("swarm_identities").select("identities").where("swarm", "=", swarm);
  return (await query.executeTakeFirst())?.identities;
}

/** States them; the same ones again take no new version. */
export async function stateIdentities(
  db: Kysely<Tables>,
  request: { swarm: string; identities: readonly StaticIdentity[] },
): Promise<void> {
  const { swarm } = request;
  const text = JSON.stringify(StaticIdentities.parse(request.identities));
  await db.transaction().execute(async (tx) => {
    const base = await lockVersion(tx, swarm);
    const held = await readIdentities(tx, swarm);
    if (held !== undefined && JSON.stringify(StaticIdentities.parse(held)) === text) return;
    const version = base + 1;
    await tx
      .insertInto("swarm_identities")
      .values({ swarm, identities: text, version })
      .onConflict((conflict) => conflict.column("swarm").doUpdateSet({ identities: text, version }))
      .execute();
    await announce(tx, swarm, version, base);
  });
}
