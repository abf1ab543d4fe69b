/**
 * What the commands that trigger workflows share: who asks, and the client, closed whatever happens.
 */
import { once } from "node:events";
import { connect } from "node:net";
import { userInfo } from "node:os";
import type { Store } from "../drivers/ports.ts";
import { openStore } from "../drivers/store/store.ts";
import { openTemporal, type Temporal } from "../drivers/temporal-client.ts";
import { openPayloadSealing } from "../drivers/temporal-codec/codec.ts";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { swarmWorkflowId } from "../models/swarm-messages.ts";
import { connection, databaseAddress } from "../setup/connection.ts";
import { temporalSecurity } from "../setup/temporal-security.ts";

export const EVENTS_SHOWN_DEFAULT = 50;

export async function withTemporal<T>(use: (temporal: Temporal) => Promise<T>): Promise<T> {
  const where = await connection();
  await assertListens(where.temporalAddress);
  const sealing = openPayloadSealing(where.payloads, where);
  try {
    // A lab's own server speaks in the open, on loopback.
    const security = process.env.TEMPORAL_ADDRESS === undefined ? {} : await temporalSecurity();
    const temporal = await opened(openTemporal({ ...where, sealing, security }));
    try {
      return await use(temporal);
    } finally {
      await temporal.close();
    }
  } finally {
    await sealing.close();
  }
}

/** Somebody listens there, but does not speak as Temporal does: most often one side speaks TLS and the other does not. */
async function opened(opening: Promise<Temporal>): Promise<Temporal> {
  try {
    return await opening;
  } catch (thrown) {
    if (!(thrown instanceof ForeshiftError) || thrown.code !== "UNREACHABLE" || thrown.value === undefined) throw thrown;
    const detail = `${messageOf(thrown.cause)}; it takes connections, so look whether it asks for TLS or an API key (TEMPORAL_TLS, TEMPORAL_TLS_CA, TEMPORAL_API_KEY)`;
    throw new ForeshiftError("UNREACHABLE", { field: "Temporal", value: thrown.value, detail }, { cause: thrown });
  }
}

/** UNREACHABLE at once where nobody listens: Temporal's client goes on trying, as it should for a program and not for a person. */
async function assertListens(address: string): Promise<void> {
  const [, host, port] = /^(.+):(\d+)$/.exec(address) ?? [];
  if (host === undefined) return;
  const socket = connect({ host: host.replace(/^\[|\]$/g, ""), port: Number(port), timeout: LIMITS.http.connectTimeoutMs });
  try {
    await Promise.race([once(socket, "connect"), once(socket, "timeout")]);
  } catch (thrown) {
    const value = { field: "Temporal", value: address, detail: messageOf(thrown) };
    throw new ForeshiftError("UNREACHABLE", value, { cause: thrown });
  } finally {
    socket.destroy();
  }
}

export async function withStore<T>(use: (store: Store) => Promise<T>): Promise<T> {
  const store = openStore({ databaseUrl: await databaseAddress() });
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}

/** UNKNOWN_SWARM unless somebody has brought it up. Asks no worker. */
export async function assertSwarm(temporal: Temporal, swarm: string): Promise<void> {
  const run = await temporal.lastRun(swarmWorkflowId(swarm));
  if (run === undefined) throw new ForeshiftError("UNKNOWN_SWARM", { value: swarm });
}

/** The same, for who asks the database alone. */
export async function assertApplied(store: Store, swarm: string): Promise<void> {
  const isThere = (await store.specs()).some(({ name }) => name === swarm);
  if (!isThere) throw new ForeshiftError("UNKNOWN_SWARM", { value: swarm });
}

/** For the audit trail. */
export function me(): string {
  return userInfo().username;
}

/** Columns as wide as their widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join("  ")
      .trimEnd();
  return rows.map(line).join("\n");
}
