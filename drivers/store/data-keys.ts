/**
 * The registry of data keys: each key's newest wrap, by its id. Histories cannot be rewritten, so when transit's old versions are given up
 * it is here that a payload's key is still found. It holds nothing that opens anything without Vault.
 */
import type { Generated, Kysely } from "kysely";
import { openDatabase } from "./database.ts";

export interface RegisteredKey {
  readonly id: string;
  readonly wrapped: string;
  /** Of the transit key that wrapped it. */
  readonly version: number;
}

export interface DataKeyRegistry {
  /** The same key again changes nothing. */
  register(key: RegisteredKey): Promise<void>;
  /** The newest wrap of a key. */
  find(id: string): Promise<string | undefined>;
  /** Keys that are wrapped by an older version than this, oldest first. */
  olderThan(version: number, limit: number): Promise<readonly RegisteredKey[]>;
  countOlderThan(version: number): Promise<number>;
  /** Only ever to a newer version. */
  replaceWrap(key: RegisteredKey): Promise<void>;
  close(): Promise<void>;
}

/** An alias, since Kysely asks for an index signature. */
type DataKeyTables = {
  data_keys: { id: string; wrapped: string; version: number; made_at: Generated<Date>; rewrapped_at: Date | null };
};

/** Connects at the first call. */
export function openDataKeyRegistry(options: { databaseUrl: string }): DataKeyRegistry {
  const database = openDatabase({ ...options, connectionsMax: 2 });
  const run = <R>(work: (db: Kysely<DataKeyTables>) => Promise<R>) =>
    database.run((db) => work(db.withTables<DataKeyTables>()));
  return {
    register: async (key) => {
      await run((db) =>
        db
          .insertInto("data_keys")
          .values({ ...key, rewrapped_at: null })
          .onConflict((conflict) => conflict.column("id").doNothing())
          .execute(),
      );
    },
    find: async (id) => {
      const row = await run((db) => db.selectFrom("data_keys").select("wrapped").where("id", "=", id).executeTakeFirst());
      return row?.wrapped;
    },
    olderThan: (version, limit) =>
      run((db) =>
        db
          .selectFrom("data_keys")
          .select(["id", "wrapped", "version"])
          .where("version", "<", version)
          .orderBy("version")
          .orderBy("id")
          .limit(limit)
          .execute(),
      ),
    countOlderThan: async (version) => {
      const query = (db: Kysely<DataKeyTables>) =>
        db
          .selectFrom("data_keys")
          .select((what) => what.fn.countAll<number>().as("count"))
          .where("version", "<", version);
      return Number((await run((db) => query(db).executeTakeFirstOrThrow())).count);
    },
    replaceWrap: async ({ id, wrapped, version }) => {
      await run((db) =>
        db
          .updateTable("data_keys")
          .set({ wrapped, version, rewrapped_at: new Date() })
          .where("id", "=", id)
          .where("version", "<", version)
          .execute(),
      );
    },
    close: database.close,
  };
}
