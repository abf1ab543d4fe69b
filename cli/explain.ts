/** `foreshift explain`: why the last decision about an endpoint was what it was, in words and numbers. */
import type { Command } from "commander";
import type { Store } from "../drivers/ports.ts";
import { ForeshiftError } from "../models/errors.ts";
import { aroundOf, conditionsOf, type Explanation, explanationAsText } from "../models/explain.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { withStore, withTemporal } from "./control.ts";
import { print } from "./output.ts";

interface Options {
  readonly swarm?: string;
  readonly at?: string;
  readonly json?: boolean;
}

/** Rows of the trail that are looked through, and shown. */
const ROWS_READ = 500;
const ROWS_SHOWN = 8;
/** Endpoints that were heard in so many minutes were there. */
const HEARD_MINUTES = 3;
/** Scores that are read to know the bands again: enough for whatever they may remember. */
const SCORES_READ_SPANS = 3;
const SCORES_READ = 20_000;

export function register(program: Command): void {
  program
    .command("explain")
    .description("why the last decision about an endpoint was what it was")
    .argument("<endpoint>")
    .option("-s, --swarm <name>", "its swarm; may be left out where there is only one")
    .option("--at <time>", "as of this moment, e.g. 2026-11-21T08:15:00Z")
    .option("--json", "print JSON")
    .action(async (endpoint: string, options: Options, command: Command) => {
      const atMs = options.at === undefined ? Date.now() : momentOf(options.at);
      const past = await withStore(async (store) => {
        const spec = await swarmOf(store, options.swarm);
        return { spec, explanation: await explain(store, spec, endpoint, atMs) };
      });
      const explanation =
        options.at === undefined ? await withPresent(past.explanation, past.spec.name, endpoint) : past.explanation;
      print(command, explanation, explanationAsText);
    });
}

async function explain(store: Store, spec: SwarmSpec, endpoint: string, atMs: number): Promise<Explanation> {
  const { foresight: policy, name: swarm } = spec;
  const [scores, rows, around] = await Promise.all([
    store.riskScores({ swarm, endpoint, untilMs: atMs, limit: policy.confirmationsOf }),
    store.auditTrail({ swarm, endpoint, limit: ROWS_READ }),
    aroundAt(store, spec, endpoint, atMs),
  ]);
  const deeds = rows.filter((row) => row.atMs <= atMs).toReversed();
  return {
    endpoint,
    atMs,
    belief: undefined,
    mode: policy.mode,
    score: scores[0]?.score,
    sessions: scores[0]?.sessions,
    conditions: conditionsOf(scores, spec, around, atMs),
    deeds: deeds
      .slice(0, ROWS_SHOWN)
      .map((row) => ({ atMs: row.atMs, action: row.action, outcome: row.outcome, text: row.text })),
    withheld: [],
  };
}

/** The swarm at that moment: who was heard in the minutes before, and what was predicted of all. */
async function aroundAt(store: Store, { name: swarm, foresight: policy }: SwarmSpec, endpoint: string, atMs: number) {
  const heardMs = HEARD_MINUTES * 60_000;
  const sinceMs = atMs - SCORES_READ_SPANS * (policy.scoreStaleMs + policy.dwellMs + policy.coolDownMs);
  const [heard, scores] = await Promise.all([
    store.telemetry({ swarm, metric: "sessions", sinceMs: atMs - heardMs, untilMs: atMs, stepMs: heardMs }),
    store.riskScores({ swarm, sinceMs, untilMs: atMs, limit: SCORES_READ }),
  ]);
  const members = [...new Set([...heard.map((series) => series.endpoint), ...scores.map(({ score }) => score.endpoint)])];
  return aroundOf(endpoint, members, scores.toReversed(), policy, atMs);
}

/** With what the workflow believes at this moment. UNKNOWN_ENDPOINT when nobody has ever heard of it. */
async function withPresent(explanation: Explanation, swarm: string, endpoint: string): Promise<Explanation> {
  return await withTemporal(async (temporal) => {
    const [status, plan] = await Promise.all([temporal.status(swarm), temporal.lastPlan(swarm)]);
    const record = status.endpoints.find((one) => one.endpoint === endpoint);
    if (record === undefined && explanation.score === undefined && explanation.deeds.length === 0) {
      throw new ForeshiftError("UNKNOWN_ENDPOINT", { field: "endpoint", value: endpoint });
    }
    const withheld = (plan?.withheld ?? [])
      .filter(({ step }) => "endpoint" in step && step.endpoint === endpoint)
      .map(({ step, because }) => `${step.kind}, because ${because}`);
    const belief =
      record === undefined
        ? "it is gone"
        : `${record.phase}, weight ${record.weight}, signal ${record.signal}. ${record.reason}`;
    return { ...explanation, belief, withheld };
  });
}

async function swarmOf(store: Store, name: string | undefined): Promise<SwarmSpec> {
  const specs = await store.specs();
  const found = name === undefined && specs.length === 1 ? specs[0] : specs.find((spec) => spec.name === name);
  if (found !== undefined) return found;
  if (name !== undefined || specs.length === 0) throw new ForeshiftError("UNKNOWN_SWARM", { value: name ?? "(none)" });
  const detail = `there are several: ${specs.map((spec) => spec.name).join(", ")}`;
  throw new ForeshiftError("INVALID_FIELD", { field: "--swarm", value: "nothing", detail });
}

function momentOf(text: string): number {
  const atMs = Date.parse(text);
  if (Number.isFinite(atMs)) return atMs;
  const detail = "expected a moment such as 2026-11-21T08:15:00Z";
  throw new ForeshiftError("INVALID_FIELD", { field: "--at", value: text, detail });
}
