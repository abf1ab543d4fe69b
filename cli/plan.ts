/** `foreshift plan`: what a swarm file would do and cost, step by step, before it is applied. */
import type { Command } from "commander";
import { type ChangePlan, changePlan, type Present } from "../models/change-plan.ts";
import { ForeshiftError } from "../models/errors.ts";
import { connection } from "../setup/connection.ts";
import { table, withStore, withTemporal } from "./control.ts";
import { print } from "./output.ts";
import { readSwarmFile } from "./swarm.ts";

/** What was heard longer ago says nothing of the present load. */
const HEARD_MS = 60_000;

export function register(program: Command): void {
  program
    .command("plan")
    .description("what a swarm file would do, step by step, compared with what is there; nothing is changed")
    .requiredOption("-s, --swarm <file>", "the swarm file, YAML or JSON")
    .option("--cost", "what it costs in an hour before and after, and once for its launches")
    .option("--json", "print JSON")
    .action(async ({ swarm, cost = false }: { swarm: string; cost?: boolean }, command: Command) => {
      const spec = await readSwarmFile(swarm);
      const isConnected = await connects();
      const plan = { ...changePlan(isConnected ? await presentOf(spec.name) : undefined, spec), isConnected };
      const note = isConnected ? "" : `${NOBODY_ASKED}\n`;
      print(command, plan, () => `${note}${changeAsText(plan, cost)}`);
    });
}

const NOBODY_ASKED = "No control plane is configured here and no lab runs: the swarm is taken to be new.";

/** Whether there is anybody to ask what is there: not so before the first installation. */
async function connects(): Promise<boolean> {
  try {
    await connection();
    return true;
  } catch (thrown) {
    if (thrown instanceof ForeshiftError && thrown.code === "NOT_CONFIGURED") return false;
    throw thrown;
  }
}

/** Undefined where no file of that name was applied. Its ghosts are taken to be complete. */
async function presentOf(name: string): Promise<Present | undefined> {
  const known = await withStore(async (store) => {
    const spec = (await store.specs()).find((one) => one.name === name);
    return spec === undefined ? undefined : { spec, heartbeats: await store.heartbeats(name) };
  });
  if (known === undefined) return undefined;
  const { spec, heartbeats } = known;
  const status = await withTemporal((temporal) => temporal.status(name));
  const endpoints = status.endpoints.filter(({ phase }) => phase !== "retired").map(({ endpoint }) => endpoint);
  const heard = heartbeats.filter(({ atMs }) => Date.now() - atMs < HEARD_MS);
  const sessions = heard.reduce((sum, one) => sum + one.sessions, 0);
  return { spec, endpoints, ghosts: spec.endpoints.ghosts, sessions };
}

export function changeAsText(plan: ChangePlan, withCost: boolean): string {
  const { swarm, isNew, fields, steps, withheld, launches, costs } = plan;
  const lines = [isNew ? `Swarm ${swarm} is not there yet.` : `Swarm ${swarm} is there.`, ""];
  if (fields.length > 0)
    lines.push(table([["FIELD", "NOW", "THEN"], ...fields.map(({ field, before, after }) => [field, before, after])]), "");
  const money = (value: number | undefined) => (value === undefined ? "?" : value.toFixed(2));
  const cost = withCost ? ["COST/H"] : [];
  const rows = steps.map((step) => {
    const { afterMs, endpoints, ghosts, text, costPerHour } = step;
    return [spanOf(afterMs), String(endpoints), String(ghosts), ...(withCost ? [money(costPerHour)] : []), text];
  });
  lines.push(table([["AFTER", "ENDPOINTS", "GHOSTS", ...cost, "WHAT IS DONE"], ...rows]));
  for (const text of withheld) lines.push("", `Wanted and not done: ${text}`);
  if (!withCost) return lines.join("\n");
  const before = isNew ? "" : `${money(costs.perHourBefore)} an hour now, `;
  lines.push(
    "",
    `Cost: ${before}${money(costs.perHourAfter)} an hour then; once ${money(costs.once)} for ${launches} ${launches === 1 ? "launch" : "launches"}.`,
  );
  if (costs.perHourAfter === undefined || costs.once === undefined)
    lines.push("State endpoints.costPerHour, costPerLaunch and costPerGhostHour in the swarm file to see all of it.");
  return lines.join("\n");
}

function spanOf(ms: number): string {
  if (ms < 60_000) return "at once";
  return ms < 7_200_000 ? `${Math.round(ms / 60_000)} min` : `${(ms / 3_600_000).toFixed(1)} h`;
}
