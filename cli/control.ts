/**
 * What the commands that trigger workflows share: who asks, and the client, closed whatever happens.
 */
import { userInfo } from "node:os";
import type { Store } from "../drivers/ports.ts";
import { openStore } from "../drivers/store/store.ts";
import { openTemporal, type Temporal } from "../drivers/temporal-client.ts";
import { openPayloadSealing } from "../drivers/temporal-codec/codec.ts";
import { connection } from "../setup/connection.ts";

export const EVENTS_SHOWN_DEFAULT = 50;

export async function withTemporal<T>(use: (temporal: Temporal) => Promise<T>): Promise<T> {
  const where = await connection();
  const sealing = openPayloadSealing(where.payloads, where);
  try {
    const temporal = await openTemporal({ ...where, sealing });
    try {
      return await use(temporal);
    } finally {
      await temporal.close();
    }
  } finally {
    await sealing.close();
  }
}

export async function withStore<T>(use: (store: Store) => Promise<T>): Promise<T> {
  const store = openStore({ databaseUrl: (await connection()).databaseUrl });
  try {
    return await use(store);
  } finally {
    await store.close();
  }
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
