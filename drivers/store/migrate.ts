/**
 * Brings the database's schema up to date: the SQL files of migrations/, in the order of their names, each once.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Kysely, PostgresDialect, Kysely as Query, sql } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import pg from "pg";
import { LIMITS } from "../../models/limits.ts";
import { checkedUrl, databaseError } from "./database.ts";

const MIGRATIONS = join(import.meta.dirname, "..", "..", "migrations");

/** Safe when several processes start at once: PostgreSQL's advisory lock lets one migrate and the others wait. */
export async function migrate(databaseUrl: string): Promise<readonly string[]> {
  const pool = new pg.Pool({
    connectionString: checkedUrl(databaseUrl),
    max: 1,
    connectionTimeoutMillis: LIMITS.store.connectTimeoutMs,
    statement_timeout: LIMITS.store.migrationTimeoutMs,
  });
  pool.on("error", () => undefined);
  const db = new Query<unknown>({ dialect: new PostgresDialect({ pool }) });
  try {
    const { error, results } = await new Migrator({ db, provider: { getMigrations } }).migrateToLatest();
    if (error !== undefined) throw databaseError(databaseUrl, error);
    return (results ?? []).filter(({ status }) => status === "Success").map(({ migrationName }) => migrationName);
  } finally {
    await db.destroy();
  }
}

async function getMigrations(): Promise<Record<string, Migration>> {
  const names = (await readdir(MIGRATIONS)).filter((name) => name.endsWith(".sql")).sort();
  const entries = names.map(async (name): Promise<[string, Migration]> => {
    const text = await readFile(join(MIGRATIONS, name), "utf8");
    const up = async (db: Kysely<unknown>) => {
      await sql.raw(text).execute(db);
    };
    return [name.replace(/\.sql$/, ""), { up }];
  });
  return Object.fromEntries(await Promise.all(entries));
}
