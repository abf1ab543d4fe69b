/** Every run that a lab's Temporal knows, open or not, as the person whose lab it is reads it. */
import { readFile } from "node:fs/promises";
import { Client, Connection as TemporalConnection } from "@temporalio/client";
import { openTemporal } from "../../drivers/temporal-client.ts";
import { openPayloadSealing } from "../../drivers/temporal-codec/codec.ts";
import { Connection, connectionFile } from "../../setup/connection.ts";

/** Decoded histories as JSON, by workflow id. */
export async function historiesOf(home: string): Promise<ReadonlyMap<string, string>> {
  const where = Connection.parse(JSON.parse(await readFile(connectionFile(home), "utf8")));
  const sealing = openPayloadSealing(where.payloads, where);
  const temporal = await openTemporal({ ...where, sealing });
  try {
    const found = new Map<string, string>();
    for (const id of await workflowIds(where.temporalAddress)) found.set(id, JSON.stringify(await temporal.history(id)));
    return found;
  } finally {
    await temporal.close();
    await sealing.close();
  }
}

async function workflowIds(address: string): Promise<ReadonlySet<string>> {
  const connection = await TemporalConnection.connect({ address });
  try {
    const ids = new Set<string>();
    for await (const { workflowId } of new Client({ connection }).workflow.list()) ids.add(workflowId);
    return ids;
  } finally {
    await connection.close();
  }
}
