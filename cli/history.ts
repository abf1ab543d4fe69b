/** `foreshift history`: a run's history with its payloads opened, for whoever has no browser at hand. */
import type { Command } from "commander";
import type { HistoryEvent } from "../drivers/temporal-codec/history.ts";
import { table, withTemporal } from "./control.ts";
import { print } from "./output.ts";

const ATTRIBUTES_CHARS = 160;

export function register(program: Command): void {
  program
    .command("history <workflow-id>")
    .description("print a run's history with its payloads opened")
    .option("--run <run id>", "this run; without it the latest")
    .option("--json", "print JSON, whole")
    .action(async (workflowId: string, { run }: { run?: string }, command: Command) => {
      const events = await withTemporal((temporal) => temporal.history(workflowId, run));
      print(command, events, eventsAsText);
    });
}

function eventsAsText(events: readonly HistoryEvent[]): string {
  return table(events.map((event) => [event.eventId, event.eventTime.slice(0, 23), nameOf(event), summaryOf(event)]));
}

/** `EVENT_TYPE_ACTIVITY_TASK_SCHEDULED` as people say it. */
function nameOf({ eventType }: HistoryEvent): string {
  return eventType
    .replace(/^EVENT_TYPE_/, "")
    .toLowerCase()
    .replaceAll("_", " ");
}

/** Attributes lie under one name, which differs by type; what is said of the event in words comes first. */
function summaryOf(event: HistoryEvent): string {
  const [, attributes = {}] = Object.entries(event).find(([name]) => name.endsWith("EventAttributes")) ?? [];
  const text = JSON.stringify(
    event["userMetadata"] === undefined ? attributes : { ...Object(event["userMetadata"]), ...Object(attributes) },
  );
  return text.length > ATTRIBUTES_CHARS ? `${text.slice(0, ATTRIBUTES_CHARS)}…` : text;
}
