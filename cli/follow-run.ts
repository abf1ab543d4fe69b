/**
 * Waits for the run that somebody asked for: says what it waits for until it begins, then each line that it writes of itself, and
 * answers what came of it.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Temporal } from "../drivers/temporal-client.ts";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import type { DrainFinished } from "../models/swarm-messages.ts";

export interface AskedRun {
  readonly swarm: string;
  readonly endpoint: string;
  readonly workflowId: string;
  /** Run id of the workflow's last run before it was asked for. */
  readonly before: string | undefined;
}

/** ALREADY_UNDER_WAY when the request came to nothing, because the endpoint was lost before its turn. */
export async function followRun(temporal: Temporal, asked: AskedRun, tell: (line: string) => void): Promise<DrainFinished> {
  const runId = await untilBegun(temporal, asked, tell);
  return (await tellOfRun(temporal, asked.workflowId, runId, tell)) as DrainFinished;
}

/** Each line that a run writes of itself, as it comes; answers what the run answers. */
export async function tellOfRun(
  temporal: Temporal,
  workflowId: string,
  runId: string,
  tell: (line: string) => void,
): Promise<unknown> {
  let ended = false;
  const result = temporal.result(workflowId, runId).finally(() => {
    ended = true;
  });
  // It is awaited below; until then its failure is nobody's.
  result.catch(() => undefined);
  let told = 0;
  const tellNews = async () => {
    const lines = await temporal.runLines(workflowId, runId);
    for (const line of lines.slice(told)) tell(line);
    told = Math.max(told, lines.length);
  };
  while (!ended) {
    await tellNews();
    await Promise.race([delay(LIMITS.control.runBeginPollMs), result.catch(() => undefined)]);
  }
  await tellNews();
  return await result;
}

/** A run begins when the budget allows it, which may be long after it was asked for. */
async function untilBegun(temporal: Temporal, asked: AskedRun, tell: (line: string) => void): Promise<string> {
  const { swarm, endpoint, workflowId, before } = asked;
  let waitsFor = "";
  for (;;) {
    const [{ requested, runs, endpoints }, plan] = await Promise.all([temporal.status(swarm), temporal.lastPlan(swarm)]);
    const runId = await temporal.lastRun(workflowId);
    if (runId !== undefined && runId !== before) return runId;
    const waits = requested.some((one) => one.endpoint === endpoint);
    if (!waits && !runs.some((run) => run.workflowId === workflowId)) {
      const detail = endpoints.find((one) => one.endpoint === endpoint)?.reason ?? "it is no endpoint of the swarm any more";
      throw new ForeshiftError("ALREADY_UNDER_WAY", { field: "endpoint", value: endpoint, detail });
    }
    const withheld = plan?.withheld.find(({ step }) => step.kind === "drain-and-replace" && step.endpoint === endpoint);
    if (withheld !== undefined && withheld.because !== waitsFor) tell(`waits: ${withheld.because}`);
    waitsFor = withheld?.because ?? waitsFor;
    await delay(LIMITS.control.runBeginPollMs);
  }
}
