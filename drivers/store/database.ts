/**
 * The connection to PostgreSQL: a bounded pool, a deadline for every statement, and a fresh attempt when the server went away under
 * a statement. Everything that is written through it may be written twice.
 */
import { setTimeout as delay } from "node:timers/promises";
import { Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import type { Tables } from "./tables.ts";

export interface Database {
  /** Runs `work`, again when the connection broke; UNREACHABLE, UNAUTHORISED or COMMAND_FAILED when it does not come through. */
  readonly run: <R>(work: (db: Kysely<Tables>) => Promise<R>) => Promise<R>;
  /** The same with a connection of one's own, for what Kysely has no words for. */
  readonly withClient: <R>(work: (client: pg.ClientBase) => Promise<R>) => Promise<R>;
  readonly close: () => Promise<void>;
}

const INT8_OID = 20;
/** Server ended or is starting or stopping, too many connections, and the class of connection exceptions. */
const AWAY_CODES = /^(57P0[123]|53300|08...)$/;
const AWAY_MESSAGES =
  /ECONNREFUSED|ECONNRESET|EPIPE|ENOENT|ETIMEDOUT|terminated|timeout exceeded when trying to connect|Connection ended/i;
const CREDENTIAL_CODES = /^28/;

export function openDatabase(options: { databaseUrl: string; connectionsMax?: number }): Database {
  const { store } = LIMITS;
  const pool = new pg.Pool({
    connectionString: checkedUrl(options.databaseUrl),
    max: options.connectionsMax ?? store.connectionsMax,
    connectionTimeoutMillis: store.connectTimeoutMs,
    statement_timeout: store.statementTimeoutMs,
    // The server's deadline does not help when the server is frozen.
    query_timeout: store.statementTimeoutMs + store.connectTimeoutMs,
    idle_in_transaction_session_timeout: store.statementTimeoutMs,
    keepAlive: true,
    application_name: "foreshift",
    types: {
      getTypeParser: (oid, format) => (oid === INT8_OID && format !== "binary" ? Number : pg.types.getTypeParser(oid, format)),
    },
  });
  // A connection that breaks, idle or lent, is replaced at its next use; without a listener it would end the process.
  pool.on("error", () => undefined);
  pool.on("connect", (client) => client.on("error", () => undefined));
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
  return {
    run: (work) => withRetry(options.databaseUrl, () => work(db)),
    withClient: (work) => withRetry(options.databaseUrl, () => onClient(pool, work)),
    close: () => db.destroy(),
  };
}

/** Host, port and database, without user and password. */
export function databaseName(databaseUrl: string): string {
  const url = new URL(databaseUrl);
  return `${url.host === "" ? (url.searchParams.get("host") ?? "local socket") : url.host}${url.pathname}`;
}

export function databaseError(databaseUrl: string, thrown: unknown): ForeshiftError {
  if (thrown instanceof ForeshiftError) return thrown;
  const code = codeOf(thrown);
  const detail = messageOf(thrown);
  if (CREDENTIAL_CODES.test(code)) return new ForeshiftError("UNAUTHORISED", { field: "PostgreSQL", detail });
  if (isAway(thrown))
    return new ForeshiftError(
      "UNREACHABLE",
      { field: "PostgreSQL", value: databaseName(databaseUrl), detail },
      { cause: thrown },
    );
  return new ForeshiftError("COMMAND_FAILED", { field: "a statement", detail }, { cause: thrown });
}

export function checkedUrl(databaseUrl: string): string {
  if (URL.canParse(databaseUrl) && /^postgres(ql)?:$/.test(new URL(databaseUrl).protocol)) return databaseUrl;
  throw new ForeshiftError("INVALID_FIELD", {
    field: "DATABASE_URL",
    value: "a value that is not shown",
    detail: "expected postgres://user:password@host:port/database",
  });
}

async function onClient<R>(pool: pg.Pool, work: (client: pg.ClientBase) => Promise<R>): Promise<R> {
  const client = await pool.connect();
  let broken = true;
  try {
    const result = await work(client);
    broken = false;
    return result;
  } finally {
    // What state it is in after a failure is not worth finding out.
    client.release(broken);
  }
}

async function withRetry<R>(databaseUrl: string, work: () => Promise<R>): Promise<R> {
  const { attemptsMax, retryFirstMs, retryLongestMs } = LIMITS.store;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (thrown) {
      if (!isAway(thrown) || attempt >= attemptsMax) throw databaseError(databaseUrl, thrown);
      await delay(Math.min(retryFirstMs * 2 ** (attempt - 1), retryLongestMs));
    }
  }
}

function isAway(thrown: unknown): boolean {
  return AWAY_CODES.test(codeOf(thrown)) || AWAY_MESSAGES.test(`${codeOf(thrown)} ${messageOf(thrown)}`);
}

function codeOf(thrown: unknown): string {
  if (typeof thrown !== "object" || thrown === null || !("code" in thrown)) return "";
  return typeof thrown.code === "string" ? thrown.code : "";
}
