/**
 * Trained models in PostgreSQL: stored whole, checked whole whenever they are read, and a history of which one is in use. Data alone
 * is stored, compressed; its id is made of the content, so a row that was tampered with is refused.
 */
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import { type Generated, type Kysely, sql, type Transaction } from "kysely";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { type ModelChange, standingModels } from "../../models/failure/champion.ts";
import type { FailureModel } from "../../models/failure/model.ts";
import { type FailureModelFile, fromModelFile, type ModelOrigin } from "../../models/failure/model-file.ts";
import { openDatabase } from "./database.ts";

/** A model of a scope, which is a swarm's name or whatever else shares one model. */
export interface ModelRow {
  readonly id: string;
  readonly scope: string;
  /** In the unit of time of its training table. */
  readonly window: number;
  readonly createdAtMs: number;
  readonly origin: ModelOrigin;
  readonly metrics: FailureModel["metrics"];
  readonly isInUse: boolean;
}

export interface ModelChangeRow extends ModelChange {
  readonly scope: string;
  readonly by: string;
  readonly reason: string;
  readonly atMs: number;
}

interface Change {
  /** A second change of the same operation does nothing. */
  readonly operation: string;
  readonly scope: string;
  readonly by: string;
  readonly reason: string;
}

export interface ModelStore {
  /** Checks and stores; answers its id, and whether it was there already. MODEL_REFUSED for anything but a whole model. */
  save(scope: string, file: unknown): Promise<{ id: string; isNew: boolean }>;
  /** Newest first; of one scope, or of all. */
  list(scope?: string): Promise<readonly ModelRow[]>;
  history(scope: string): Promise<readonly ModelChangeRow[]>;
  /** UNKNOWN_MODEL, or MODEL_REFUSED where what is stored is no longer a whole model. */
  load(scope: string, id: string): Promise<{ model: FailureModel; origin: ModelOrigin; file: FailureModelFile }>;
  /** The model in use: the newest standing one that can be read; `refused` names those above it that cannot. */
  inUse(scope: string): Promise<{ id: string; model: FailureModel; refused: readonly string[] } | undefined>;
  /** Reads the model whole first: one that is refused is never put in use. Answers what was in use before. */
  promote(change: Change & { id: string }): Promise<{ from: string | undefined; to: string }>;
  /** Forgets models that were never in use, but for the newest so many; answers how many went. */
  prune(scope: string, keptMax: number): Promise<number>;
  /** Puts the model before the current one in use again; NO_EARLIER_MODEL where there is none. */
  rollback(change: Change): Promise<{ from: string; to: string }>;
  close(): Promise<void>;
}

/** An alias, since Kysely asks for an index signature. */
type ModelTables = {
  models: {
    id: string;
    scope: string;
    body: Buffer;
    origin: ModelOrigin;
    metrics: FailureModel["metrics"];
    time_window: number;
    created_at: Generated<Date>;
  };
  model_changes: {
    seq: Generated<number>;
    operation: string;
    scope: string;
    kind: "promote" | "rollback";
    model: string;
    by: string;
    reason: string;
    at: Generated<Date>;
  };
};

type Db = Kysely<ModelTables> | Transaction<ModelTables>;

const ID_CHARS = 16;
/** Unpacked; more is no model of ours. */
const FILE_BYTES_MAX = 256 * 1024 * 1024;
const packed = promisify(gzip);
const unpacked = promisify<Buffer, { maxOutputLength: number }, Buffer>(gunzip);

/** Opens the store of models; the schema must be there (drivers/store/migrate.ts). Connects at the first call. */
export function openModelStore(options: { databaseUrl: string }): ModelStore {
  const database = openDatabase({ ...options, connectionsMax: 2 });
  const run = <R>(work: (db: Kysely<ModelTables>) => Promise<R>) => database.run((db) => work(db.withTables<ModelTables>()));
  const load = async (scope: string, id: string) => read(await run((db) => bodyOf(db, scope, id)), id);
  return {
    save: async (scope, input) => {
      const { id, body, file } = await prepared(input);
      return run((db) => insert(db, scope, id, body, file));
    },
    list: (scope) => run((db) => list(db, scope)),
    history: (scope) => run((db) => history(db, scope)),
    load,
    inUse: async (scope) => {
      const refused: string[] = [];
      for (const id of [...standingModels(await run((db) => history(db, scope)))].reverse()) {
        try {
          return { id, model: (await load(scope, id)).model, refused };
        } catch (thrown) {
          if (!(thrown instanceof ForeshiftError) || thrown.code !== "MODEL_REFUSED") throw thrown;
          refused.push(id);
        }
      }
      return undefined;
    },
    promote: async (change) => {
      await load(change.scope, change.id);
      return run((db) => promote(db, change));
    },
    prune: (scope, keptMax) => run((db) => prune(db, scope, keptMax)),
    rollback: (change) => run((db) => rollback(db, change)),
    close: database.close,
  };
}

async function prepared(input: unknown): Promise<{ id: string; body: Buffer; file: FailureModelFile }> {
  fromModelFile(input);
  const file = input as FailureModelFile;
  const text = Buffer.from(JSON.stringify(file));
  return { id: idOf(text), body: await packed(text), file };
}

function idOf(text: Buffer): string {
  return createHash("sha256").update(text).digest("hex").slice(0, ID_CHARS);
}

async function insert(db: Db, scope: string, id: string, body: Buffer, { origin, metrics, window }: FailureModelFile) {
  const row = { id, scope, body, origin, metrics, time_window: window };
  const result = await db
    .insertInto("models")
    .values(row)
    .onConflict((conflict) => conflict.columns(["scope", "id"]).doNothing())
    .executeTakeFirst();
  return { id, isNew: (result.numInsertedOrUpdatedRows ?? 0n) > 0n };
}

async function list(db: Db, scope: string | undefined): Promise<readonly ModelRow[]> {
  const columns = ["id", "scope", "origin", "metrics", "time_window", "created_at"] as const;
  let query = db.selectFrom("models").select(columns).orderBy("created_at", "desc").orderBy("id");
  if (scope !== undefined) query = query.where("scope", "=", scope);
  const rows = await query.execute();
  const inUse = new Map<string, string | undefined>();
  for (const one of new Set(rows.map((row) => row.scope))) inUse.set(one, standingModels(await history(db, one)).at(-1));
  return rows.map(({ id, scope: own, origin, metrics, time_window, created_at }) => ({
    id,
    scope: own,
    window: time_window,
    createdAtMs: created_at.getTime(),
    origin,
    metrics,
    isInUse: inUse.get(own) === id,
  }));
}

async function history(db: Db, scope: string): Promise<ModelChangeRow[]> {
  const rows = await db.selectFrom("model_changes").selectAll().where("scope", "=", scope).orderBy("seq").execute();
  return rows.map(({ kind, model, by, reason, at }) => ({ kind, model, scope, by, reason, atMs: at.getTime() }));
}

async function bodyOf(db: Db, scope: string, id: string): Promise<Buffer> {
  const row = await db.selectFrom("models").select("body").where("scope", "=", scope).where("id", "=", id).executeTakeFirst();
  if (row === undefined) throw new ForeshiftError("UNKNOWN_MODEL", { value: id, detail: scope });
  return row.body;
}

async function read(body: Buffer, id: string) {
  let input: unknown;
  try {
    const text = await unpacked(body, { maxOutputLength: FILE_BYTES_MAX });
    if (idOf(text) !== id) throw new Error("its content is not what its id was made of");
    input = JSON.parse(text.toString("utf8"));
  } catch (thrown) {
    throw new ForeshiftError("MODEL_REFUSED", { detail: `${id}: ${messageOf(thrown)}` });
  }
  return { ...fromModelFile(input), file: input as FailureModelFile };
}

async function prune(db: Db, scope: string, keptMax: number): Promise<number> {
  const unused = db
    .selectFrom("models")
    .select("id")
    .where("scope", "=", scope)
    .where("id", "not in", (query) => query.selectFrom("model_changes").select("model").where("scope", "=", scope));
  const result = await db
    .deleteFrom("models")
    .where("scope", "=", scope)
    .where("id", "in", unused.orderBy("created_at", "desc").offset(keptMax))
    .executeTakeFirst();
  return Number(result.numDeletedRows);
}

/** Changes of one scope happen one after the other. */
function locked<R>(db: Kysely<ModelTables>, scope: string, work: (db: Db) => Promise<R>): Promise<R> {
  return db.transaction().execute(async (transaction) => {
    await sql`select pg_advisory_xact_lock(hashtext(${`models/${scope}`}))`.execute(transaction);
    return work(transaction);
  });
}

function promote(db: Kysely<ModelTables>, { operation, scope, by, reason, id }: Change & { id: string }) {
  return locked(db, scope, async (own) => {
    const from = standingModels(await history(own, scope)).at(-1);
    if (from !== id) await write(own, { operation, scope, by, reason, kind: "promote", model: id });
    return { from, to: id };
  });
}

function rollback(db: Kysely<ModelTables>, { operation, scope, by, reason }: Change) {
  return locked(db, scope, async (own) => {
    const done = await own.selectFrom("model_changes").select("model").where("operation", "=", operation).executeTakeFirst();
    const standing = standingModels(await history(own, scope));
    if (done !== undefined) return { from: done.model, to: standing.at(-1) ?? done.model };
    const [to, from] = standing.slice(-2);
    if (from === undefined || to === undefined) throw new ForeshiftError("NO_EARLIER_MODEL", { value: scope });
    await write(own, { operation, scope, by, reason, kind: "rollback", model: from });
    return { from, to };
  });
}

async function write(db: Db, row: Omit<ModelTables["model_changes"], "seq" | "at">): Promise<void> {
  await db
    .insertInto("model_changes")
    .values(row)
    .onConflict((conflict) => conflict.column("operation").doNothing())
    .execute();
}
