/**
 * What trainings stand on and leave behind, in PostgreSQL: snapshots of the rows that are learned from, named by their content, what
 * happened to the endpoints, and how each retraining ended.
 */
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import { type Generated, type Kysely, sql } from "kysely";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { TOLD_BY, type TrailRow } from "../../models/retraining/happened.ts";
import type { TrainingSet } from "../../models/retraining/training-set.ts";
import { openDatabase } from "./database.ts";

/** Small: what travels through Temporal in place of the rows. Times in minutes since 1970, as in the table. */
export const SnapshotFacts = z.object({
  window: z.number().positive(),
  rows: z.number(),
  /** Rows of which it is not known what came. */
  rowsHidden: z.number(),
  units: z.number(),
  failures: z.number(),
  dataFrom: z.number(),
  dataUntil: z.number(),
  /** Rows from here on are judged by; undefined with the reason where nothing can be trained. */
  unseenFrom: z.number().optional(),
  tooFew: z.string().optional(),
  /** The model that was in use. */
  champion: z.string().optional(),
});
export type SnapshotFacts = z.infer<typeof SnapshotFacts>;

export interface SnapshotRef {
  readonly id: string;
  readonly facts: SnapshotFacts;
}

export interface RetrainingRow {
  readonly scope: string;
  readonly outcome: "promoted" | "kept";
  /** Why, one sentence. */
  readonly reason: string;
  readonly challenger: string | undefined;
  readonly champion: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;
  readonly atMs: number;
}

export interface TrainingStore {
  /** Stored once for an operation: a second call answers what the first one stored. */
  saveSnapshot(request: { scope: string; operation: string; set: TrainingSet; facts: SnapshotFacts }): Promise<SnapshotRef>;
  /** The snapshot that this operation has stored already. */
  snapshotOf(operation: string): Promise<SnapshotRef | undefined>;
  /** UNKNOWN_MODEL's sibling: NOT_READY where it is gone, INTERNAL where its content is not what its id was made of. */
  loadSnapshot(scope: string, id: string): Promise<TrainingSet>;
  /** Rows of the audit trail that tell what happened to a swarm's endpoints, oldest first. */
  trail(swarm: string, sinceMs: number): Promise<readonly TrailRow[]>;
  /** Once for an operation. */
  recordRetraining(row: Omit<RetrainingRow, "atMs"> & { operation: string }): Promise<void>;
  /** Newest first; of one scope, or the last one of each. */
  retrainings(query: { scope?: string; limit: number }): Promise<readonly RetrainingRow[]>;
  close(): Promise<void>;
}

/** An alias, since Kysely asks for an index signature. */
type TrainingTables = {
  training_snapshots: {
    id: string;
    scope: string;
    operation: string;
    body: Buffer;
    facts: SnapshotFacts;
    created_at: Generated<Date>;
  };
  retrainings: {
    seq: Generated<number>;
    operation: string;
    scope: string;
    outcome: "promoted" | "kept";
    reason: string;
    challenger: string | null;
    champion: string | null;
    details: Record<string, unknown>;
    at: Generated<Date>;
  };
};

const ID_CHARS = 16;
const packed = promisify(gzip);
const unpacked = promisify<Buffer, { maxOutputLength: number }, Buffer>(gunzip);

/** The schema must be there (drivers/store/migrate.ts). Connects at the first call. */
export function openTrainingStore(options: { databaseUrl: string }): TrainingStore {
  const database = openDatabase({ ...options, connectionsMax: 2 });
  const run = <R>(work: (db: Kysely<TrainingTables>) => Promise<R>) =>
    database.run((db) => work(db.withTables<TrainingTables>()));
  return {
    saveSnapshot: async ({ scope, operation, set, facts }) => {
      const bytes = encoded(set);
      const body = await packed(bytes, { level: 1 });
      const row = { id: idOf(bytes), scope, operation, body, facts };
      await run((db) => saveSnapshot(db, row));
      return (await run((db) => snapshotOf(db, operation))) ?? { id: row.id, facts };
    },
    snapshotOf: (operation) => run((db) => snapshotOf(db, operation)),
    loadSnapshot: async (scope, id) => decoded(await run((db) => bodyOf(db, scope, id)), id),
    trail: (swarm, sinceMs) => database.run((db) => trail(db, swarm, sinceMs)),
    recordRetraining: ({ challenger, champion, ...row }) =>
      run(async (db) => {
        await db
          .insertInto("retrainings")
          .values({ ...row, challenger: challenger ?? null, champion: champion ?? null })
          .onConflict((conflict) => conflict.column("operation").doNothing())
          .execute();
      }),
    retrainings: (query) => run((db) => retrainings(db, query)),
    close: database.close,
  };
}

async function saveSnapshot(
  db: Kysely<TrainingTables>,
  row: Omit<TrainingTables["training_snapshots"], "created_at">,
): Promise<void> {
  await db
    .insertInto("training_snapshots")
    .values(row)
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  // The same content under another operation's name is the same snapshot: the newer operation takes it over.
  await db
    .updateTable("training_snapshots")
    .set({ operation: row.operation, facts: row.facts })
    .where("scope", "=", row.scope)
    .where("id", "=", row.id)
    .execute();
  await db
    .deleteFrom("training_snapshots")
    .where("scope", "=", row.scope)
    .where("id", "!=", row.id)
    .where("id", "not in", (query) =>
      query
        .selectFrom("training_snapshots")
        .select("id")
        .where("scope", "=", row.scope)
        .orderBy("created_at", "desc")
        .limit(LIMITS.training.snapshotsKeptMax),
    )
    .execute();
}

async function snapshotOf(db: Kysely<TrainingTables>, operation: string): Promise<SnapshotRef | undefined> {
  const row = await db
    .selectFrom("training_snapshots")
    .select(["id", "facts"])
    .where("operation", "=", operation)
    .executeTakeFirst();
  return row === undefined ? undefined : { id: row.id, facts: SnapshotFacts.parse(row.facts) };
}

async function bodyOf(db: Kysely<TrainingTables>, scope: string, id: string): Promise<Buffer> {
  const row = await db
    .selectFrom("training_snapshots")
    .select("body")
    .where("scope", "=", scope)
    .where("id", "=", id)
    .executeTakeFirst();
  if (row === undefined) {
    throw new ForeshiftError("UNKNOWN_MODEL", { value: `snapshot ${id}`, detail: `${scope}: newer ones have taken its place` });
  }
  return row.body;
}

async function trail(
  db: Parameters<Parameters<ReturnType<typeof openDatabase>["run"]>[0]>[0],
  swarm: string,
  sinceMs: number,
): Promise<readonly TrailRow[]> {
  const rows = await db
    .selectFrom("audit")
    .select(["at", "action", "endpoint", "outcome", "run_id", "details"])
    .where("swarm", "=", swarm)
    .where("at", ">=", new Date(sinceMs))
    .where("action", "in", [...TOLD_BY])
    .orderBy("seq", "desc")
    .limit(LIMITS.training.auditRowsMax)
    .execute();
  return rows.toReversed().map(({ at, action, endpoint, outcome, run_id, details }) => ({
    atMs: at.getTime(),
    action,
    endpoint: endpoint ?? undefined,
    outcome,
    runId: run_id ?? undefined,
    details,
  }));
}

async function retrainings(
  db: Kysely<TrainingTables>,
  { scope, limit }: { scope?: string; limit: number },
): Promise<readonly RetrainingRow[]> {
  let query = db.selectFrom("retrainings").selectAll().orderBy("seq", "desc").limit(limit);
  if (scope !== undefined) query = query.where("scope", "=", scope);
  else
    query = query.where("seq", "in", (inner) =>
      inner.selectFrom("retrainings").select(sql<number>`max(seq)`.as("seq")).groupBy("scope"),
    );
  const rows = await query.execute();
  return rows.map(({ scope: own, outcome, reason, challenger, champion, details, at }) => ({
    scope: own,
    outcome,
    reason,
    challenger: challenger ?? undefined,
    champion: champion ?? undefined,
    details,
    atMs: at.getTime(),
  }));
}

function idOf(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex").slice(0, ID_CHARS);
}

const Head = z.object({
  kind: z.literal("foreshift-training-rows"),
  formatVersion: z.literal(1),
  columns: z.array(z.string()),
  rows: z.number().int(),
  units: z.number().int(),
  startsUnseen: z.boolean(),
});

/** A line of JSON, then the arrays one after the other, little-endian: cells, times, times to failure, weights, units. */
function encoded({ table, weights }: TrainingSet): Buffer {
  const { columns, rows, units, startsUnseen = false } = table;
  const head = JSON.stringify({ kind: "foreshift-training-rows", formatVersion: 1, columns, rows, units, startsUnseen });
  const doubles = [table.cells, table.time, table.timeToFailure, weights].map(bytesOf);
  return Buffer.concat([Buffer.from(`${head}\n`), ...doubles, bytesOf(table.unit)]);
}

async function decoded(body: Buffer, id: string): Promise<TrainingSet> {
  try {
    const bytes = await unpacked(body, { maxOutputLength: LIMITS.training.snapshotBytesMax });
    if (idOf(bytes) !== id) throw new Error("its content is not what its id was made of");
    const headEnd = bytes.indexOf("\n");
    const { columns, rows, units, startsUnseen } = Head.parse(JSON.parse(bytes.toString("utf8", 0, headEnd)));
    let at = headEnd + 1;
    const take = (count: number, size: number) => {
      // A copy of its own begins where an array may begin.
      const part = new Uint8Array(bytes.subarray(at, at + count * size)).buffer;
      at += count * size;
      return part;
    };
    const doubles = (count: number) => new Float64Array(take(count, 8));
    const [cells, time, timeToFailure, weights] = [rows * columns.length, rows, rows, rows].map(doubles) as [
      Float64Array,
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    const unit = new Int32Array(take(rows, 4));
    return { table: { columns, rows, cells, unit, units, time, timeToFailure, startsUnseen }, weights };
  } catch (thrown) {
    throw new ForeshiftError("INTERNAL", { detail: `snapshot ${id}: ${messageOf(thrown)}` });
  }
}

function bytesOf(array: Float64Array | Int32Array): Buffer {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}
