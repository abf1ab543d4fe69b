/**
 * The audit trail and the pages in the database: written once, by operation.
 */
import type { Kysely, Selectable } from "kysely";
import { LIMITS } from "../../models/limits.ts";
import type { AuditEntry, AuditRow, Store } from "../ports.ts";
import type { Tables } from "./tables.ts";

/** A second entry of the same operation and action changes nothing. */
export async function writeAudit(db: Kysely<Tables>, entry: AuditEntry): Promise<void> {
  const { operation, action, swarm, endpoint, outcome, text, workflowId, runId, details } = entry;
  await db
    .insertInto("audit")
    .values({
      operation,
      action,
      swarm,
      endpoint: endpoint ?? null,
      outcome,
      text,
      workflow_id: workflowId ?? null,
      run_id: runId ?? null,
      details: JSON.stringify(details),
    })
    .onConflict((conflict) => conflict.columns(["operation", "action"]).doNothing())
    .execute();
}

export async function readAudit(db: Kysely<Tables>, query: Parameters<Store["auditTrail"]>[0]): Promise<readonly AuditRow[]> {
  const { swarm, endpoint, workflowId, afterSeq } = query;
  let rows = db.selectFrom("audit").selectAll().limit(Math.min(query.limit, LIMITS.store.auditRowsPerAnswerMax));
  if (swarm !== undefined) rows = rows.where("swarm", "=", swarm);
  if (endpoint !== undefined) rows = rows.where("endpoint", "=", endpoint);
  if (workflowId !== undefined) rows = rows.where("workflow_id", "=", workflowId);
  if (afterSeq !== undefined) return (await rows.where("seq", ">", afterSeq).orderBy("seq").execute()).map(auditRowOf);
  return (await rows.orderBy("seq", "desc").execute()).reverse().map(auditRowOf);
}

function auditRowOf(row: Selectable<Tables["audit"]>): AuditRow {
  return {
    seq: row.seq,
    atMs: row.at.getTime(),
    operation: row.operation,
    action: row.action,
    swarm: row.swarm,
    endpoint: row.endpoint ?? undefined,
    outcome: row.outcome,
    text: row.text,
    workflowId: row.workflow_id ?? undefined,
    runId: row.run_id ?? undefined,
    details: row.details,
  };
}

export async function writePage(db: Kysely<Tables>, page: Parameters<Store["page"]>[0]): Promise<void> {
  const { operation, swarm, subject, text } = page;
  const insert = db.insertInto("pages").values({ operation, swarm, subject, text });
  await insert.onConflict((conflict) => conflict.column("operation").doNothing()).execute();
}
