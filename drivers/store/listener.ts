/**
 * Listens to a NOTIFY channel of PostgreSQL over breaks and restarts of the server.
 */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { LIMITS } from "../../models/limits.ts";
import { checkedUrl } from "./database.ts";

export interface ListenOptions {
  readonly databaseUrl: string;
  /** Letters and underscores. */
  readonly channel: string;
  readonly onNotice: (payload: string) => void;
  /** Listening begins (again): what was announced before was missed and has to be asked for. */
  readonly onListening: () => void;
  readonly onBreak: (thrown: unknown) => void;
  readonly signal: AbortSignal;
}

/** Returns once `signal` aborts. */
export async function listen(options: ListenOptions): Promise<void> {
  checkedUrl(options.databaseUrl);
  const { listenRetryFirstMs, listenRetryLongestMs } = LIMITS.store;
  let pauseMs: number = listenRetryFirstMs;
  while (!options.signal.aborted) {
    try {
      await listenOnce(options, () => {
        pauseMs = listenRetryFirstMs;
      });
    } catch (thrown) {
      if (options.signal.aborted) return;
      options.onBreak(thrown);
    }
    await delay(pauseMs, undefined, { signal: options.signal }).catch(() => undefined);
    pauseMs = Math.min(pauseMs * 2, listenRetryLongestMs);
  }
}

async function listenOnce(options: ListenOptions, onUp: () => void): Promise<void> {
  const { statementTimeoutMs, connectTimeoutMs, listenCheckMs } = LIMITS.store;
  const client = new pg.Client({
    connectionString: options.databaseUrl,
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: statementTimeoutMs,
    keepAlive: true,
    application_name: "foreshift-listener",
  });
  const broken = new Promise<never>((_, reject) => {
    client.once("error", reject);
    client.once("end", () => reject(new Error("the connection ended")));
  });
  broken.catch(() => undefined);
  client.on("notification", ({ payload }) => options.onNotice(payload ?? ""));
  try {
    await client.connect();
    await client.query(`listen ${pg.escapeIdentifier(options.channel)}`);
    onUp();
    options.onListening();
    while (!options.signal.aborted) {
      await Promise.race([broken, delay(listenCheckMs, undefined, { signal: options.signal }).catch(() => undefined)]);
      // A server that was frozen or cut off breaks no connection; an unanswered question shows it.
      if (!options.signal.aborted) await client.query("select 1");
    }
  } finally {
    await Promise.race([client.end().catch(() => undefined), delay(connectTimeoutMs, undefined, { ref: false })]);
  }
}
