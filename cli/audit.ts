/** `foreshift audit`: what was done, by which run, and why. */
import type { Command } from "commander";
import type { AuditRow, Store } from "../drivers/ports.ts";
import { ForeshiftError } from "../models/errors.ts";
import { EVENTS_SHOWN_DEFAULT, table, withStore } from "./control.ts";
import { print } from "./output.ts";

interface Options {
  readonly swarm?: string;
  readonly endpoint?: string;
  readonly run?: string;
  readonly limit: number;
}

export function register(program: Command): void {
  program
    .command("audit")
    .description("explain what was done, and why")
    .option("-s, --swarm <name>", "of this swarm alone")
    .option("-e, --endpoint <name>", "of this endpoint alone")
    .option("--run <workflow id>", "of this run alone, e.g. drain/lab/ep-1")
    .option("-n, --limit <count>", "the latest rows", parseCount, EVENTS_SHOWN_DEFAULT)
    .option("--json", "print JSON")
    .action(async (options: Options, command: Command) => {
      const rows = await withStore((store) => store.auditTrail(queryOf(options)));
      print(command, rows, auditAsText);
    });
}

export function auditAsText(rows: readonly AuditRow[]): string {
  if (rows.length === 0) return "The trail has no such row.";
  return table(
    rows.map(({ atMs, endpoint, action, outcome, text }) => [
      new Date(atMs).toISOString().slice(0, 23),
      endpoint ?? "-",
      action,
      outcome,
      text,
    ]),
  );
}

export function parseCount(text: string): number {
  const count = Number(text);
  if (Number.isSafeInteger(count) && count > 0) return count;
  throw new ForeshiftError("INVALID_FIELD", { field: "limit", value: text, detail: "expected a whole number above 0" });
}

function queryOf({ swarm, endpoint, run, limit }: Options): Parameters<Store["auditTrail"]>[0] {
  return {
    limit,
    ...(swarm === undefined ? {} : { swarm }),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(run === undefined ? {} : { workflowId: run }),
  };
}
