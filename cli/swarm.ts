/** `foreshift swarm apply|get|plan|list|events|roll`: state a swarm file, and see what became of it and what is to come. */
import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { ForeshiftError, fileTrouble } from "../models/errors.ts";
import type { PathRisk } from "../models/risk.ts";
import { parseSwarmFile } from "../models/swarm-file.ts";
import type { LastPlan, SwarmStatus } from "../models/swarm-messages.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { auditAsText, parseCount } from "./audit.ts";
import { assertApplied, EVENTS_SHOWN_DEFAULT, me, table, withStore, withTemporal } from "./control.ts";
import { type ForecastReport, forecastReport, forecastsAsText } from "./forecasts.ts";
import { print } from "./output.ts";
import { planAsText, swarmPlan } from "./swarm-plan.ts";
import { registerRoll, rollAsText } from "./swarm-roll.ts";

/** Ways of a smaller risk are not listed. */
const PATH_SHOWN_MIN = 0.05;

export function register(program: Command): void {
  const swarm = program.command("swarm").description("apply, get and list swarms, and read their events");
  swarm
    .command("apply")
    .description("state the swarm file in force; the first one brings the swarm up")
    .requiredOption("-f, --file <file>", "YAML or JSON")
    .option("--json", "print JSON")
    .action(apply);
  swarm
    .command("get")
    .description("endpoints, runs, the last decision, and the load forecast beside what came")
    .argument("<name>")
    .option("--json", "print JSON")
    .action(get);
  swarm
    .command("plan")
    .description("endpoints wanted in each of the next 48 hours, and their cost beside that of only following the load")
    .argument("<name>")
    .option("--json", "print JSON")
    .action(plan);
  registerRoll(swarm);
  swarm.command("list").description("swarms whose workflow runs").option("--json", "print JSON").action(list);
  swarm
    .command("events")
    .description("what was done, latest last")
    .argument("<name>")
    .option("-n, --limit <count>", "the latest rows", parseCount, EVENTS_SHOWN_DEFAULT)
    .option("--json", "print JSON")
    .action(async (name: string, { limit }: { limit: number }, command: Command) => {
      const rows = await withStore(async (store) => {
        await assertApplied(store, name);
        return await store.auditTrail({ swarm: name, limit });
      });
      print(command, rows, auditAsText);
    });
}

async function apply({ file }: { file: string }, command: Command): Promise<void> {
  const spec = await readSwarmFile(file);
  const result = await withTemporal((temporal) => temporal.applySwarm({ spec, by: me() }));
  print(command, { swarm: spec.name, ...result }, ({ created }) =>
    created
      ? `Swarm ${spec.name} is coming up; watch it with \`foreshift swarm get ${spec.name}\`.`
      : `Swarm ${spec.name} is updated.`,
  );
}

async function get(name: string, _: unknown, command: Command): Promise<void> {
  const found = await withTemporal(async (temporal) => {
    const [status, plan] = await Promise.all([temporal.status(name), temporal.lastPlan(name)]);
    return { ...status, plan: plan ?? undefined };
  });
  const forecasts = await forecastsOf(name);
  print(command, { ...found, forecasts }, (all) => `${statusAsText(all)}${forecastsAsText(forecasts)}`);
}

/** Without the database the rest of the answer still stands. */
async function forecastsOf(name: string): Promise<ForecastReport | undefined> {
  try {
    return await withStore((store) => forecastReport(store, name, Date.now()));
  } catch (thrown) {
    if (thrown instanceof ForeshiftError && thrown.code === "UNREACHABLE") return undefined;
    throw thrown;
  }
}

async function plan(name: string, _: unknown, command: Command): Promise<void> {
  print(command, await withStore((store) => swarmPlan(store, name, Date.now())), planAsText);
}

async function list(_: unknown, command: Command): Promise<void> {
  const swarms = await withTemporal((temporal) => temporal.swarms());
  print(command, swarms, (names) =>
    names.length === 0 ? "No swarm runs. `foreshift swarm apply -f FILE` starts one." : names.join("\n"),
  );
}

/** INVALID_FIELD names the field, what was found there and what was expected. */
export async function readSwarmFile(file: string): Promise<SwarmSpec> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (thrown) {
    throw new ForeshiftError("INVALID_FIELD", { field: "swarm file", value: file, detail: fileTrouble(thrown) });
  }
  return parseSwarmFile(text, file.endsWith(".json") ? "json" : "yaml");
}

function statusAsText(status: SwarmStatus & { plan: LastPlan | undefined }): string {
  const rows = status.endpoints.map(({ endpoint, phase, weight, signal, reason }) => [
    endpoint,
    phase,
    String(weight),
    signal,
    riskAsText(status, endpoint),
    reason,
  ]);
  const lines = [table([["ENDPOINT", "PHASE", "WEIGHT", "SIGNAL", "RISK", "WHY"], ...rows])];
  const ways = status.risks.flatMap(({ score }) => score.paths ?? []).filter(({ risk }) => risk.value >= PATH_SHOWN_MIN);
  if (ways.length > 0) lines.push("", table([["PATH", "RISK", "WHY"], ...ways.map(pathAsRow)]));
  if (status.demand !== undefined) lines.push("", demandAsText(status.demand));
  if (status.roll !== undefined) lines.push("", rollAsText(status.roll));
  if (status.stopped) lines.push("", `Stopped by ${status.stopped.by}: ${status.stopped.reason}`);
  for (const run of status.runs) lines.push("", `Under way: ${run.workflowId}`);
  for (const { step, because } of status.plan?.withheld ?? []) lines.push("", `Withheld: ${step.kind}, because ${because}`);
  if (status.recent.length > 0) lines.push("", ...status.recent);
  return lines.join("\n");
}

/** The probability of failure that was told last, and the band it led to; `-` where nothing was worth telling. */
function riskAsText({ risks }: SwarmStatus, endpoint: string): string {
  const risk = risks.find(({ score }) => score.endpoint === endpoint);
  return risk === undefined ? "-" : `${Math.round(risk.score.failure.value * 100)} % ${risk.band}`;
}

function pathAsRow({ clients, endpoint, upstream, risk, terms }: PathRisk): string[] {
  const shares = [risk.value, risk.low, risk.high].map((share) => Math.round(share * 100));
  const why = terms[0]?.text ?? "";
  return [`${clients} -> ${endpoint} -> ${upstream}`, `${shares[0]} % (${shares[1]} to ${shares[2]} %)`, why];
}

function demandAsText({ atMs, horizonMs, sessionsP50, sessionsUpper, text }: NonNullable<SwarmStatus["demand"]>): string {
  const until = new Date(atMs + horizonMs).toISOString().slice(0, 16);
  return `Expected until ${until}Z: ${Math.round(sessionsP50)} sessions, up to ${Math.ceil(sessionsUpper)} (${text}).`;
}
