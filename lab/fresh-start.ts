/**
 * The lab's fleet is a new one with each start: its machines and its clients' keys ended with the one before. What services kept of
 * that is ended and forgotten here; histories and the audit trail stay to be read.
 */
import { rm } from "node:fs/promises";
import { Client, Connection as TemporalConnection } from "@temporalio/client";
import { openStore } from "../drivers/store/store.ts";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import type { Connection } from "../setup/connection.ts";
import { LAB_SWARM } from "./spec.ts";

/** AUTOMATION_STOPPED while a stop switch is on: nothing would come up, and whoever threw it should take it back. */
export async function startAfresh(connection: Connection, reflexStateDir: string): Promise<void> {
  const store = openStore({ databaseUrl: connection.databaseUrl });
  try {
    const held = (await store.stopSwitches()).find(({ scope }) => scope === "*" || scope === LAB_SWARM);
    if (held !== undefined)
      throw new ForeshiftError("AUTOMATION_STOPPED", { value: `${LAB_SWARM} (by ${held.by}: ${held.reason})` });
    await store.forgetFleet(LAB_SWARM);
  } finally {
    await store.close();
  }
  await endRuns(connection);
  await rm(reflexStateDir, { recursive: true, force: true });
}

async function endRuns({ temporalAddress: address, temporalNamespace: namespace }: Connection): Promise<void> {
  const connection = await TemporalConnection.connect({ address, connectTimeout: LIMITS.control.updateTimeoutMs });
  try {
    const { workflow } = new Client({ connection, namespace });
    const open = workflow.list({ query: `ExecutionStatus = "Running" AND ForeshiftSwarm = "${LAB_SWARM}"` });
    for await (const { workflowId, runId } of open) {
      await workflow.getHandle(workflowId, runId).terminate("the lab was started anew, with other machines");
    }
  } finally {
    await connection.close();
  }
}
