/**
 * Scores a swarm's endpoints for as long as the swarm lives, and hands what has changed to the swarm's workflow, which decides. Its page
 * in the Web UI shows what is expected of each endpoint, and on what evidence.
 */
import { continueAsNew, setCurrentDetails, upsertSearchAttributes, workflowInfo } from "@temporalio/workflow";
import type { ScoredEndpoint } from "../models/risk.ts";
import { type ToldRisk, toldAfter } from "../models/risk-news.ts";
import { risksScoredSignal } from "./messages.ts";
import { watcher } from "./queues.ts";
import { SEARCH_ATTRIBUTES, tellSwarm } from "./run.ts";

export interface PredictInput {
  readonly swarm: string;
  /** Carried over continue-as-new: what the swarm was told last of each endpoint. */
  readonly told: readonly ToldRisk[];
}

export async function predict(input: PredictInput): Promise<never> {
  const { swarm } = input;
  let told = input.told;
  upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.swarm, value: swarm }]);
  setCurrentDetails(`**Risks of swarm ${swarm}**\n\nNothing to tell yet.`);
  while (!workflowInfo().continueAsNewSuggested) {
    const options = { summary: "Watch the endpoints' risks until one changes" };
    const scores = await watcher.watchRisks.executeWithOptions(options, [{ swarm, told }]);
    told = toldAfter(told, scores);
    if (scores.length === 0) continue;
    setCurrentDetails(page(swarm, scores));
    await tellSwarm(swarm, risksScoredSignal, { scores });
  }
  return await continueAsNew<typeof predict>({ swarm, told });
}

function page(swarm: string, scores: readonly ScoredEndpoint[]): string {
  const percent = (share: number) => `${Math.round(share * 100)} %`;
  const rows = scores.map(({ score, sessions }) => {
    const { low, value, high } = score.failure;
    const why = score.terms[0]?.text ?? (score.carriesSignal ? "" : "too little telemetry to tell");
    return `| ${score.endpoint} | ${percent(value)} | ${percent(low)} to ${percent(high)} | ${sessions} | ${why} |`;
  });
  const head = ["| endpoint | fails | interval | sessions | strongest evidence |", "|---|---|---|---|---|"];
  return [`**Risks of swarm ${swarm}**`, "", ...head, ...rows].join("\n");
}
