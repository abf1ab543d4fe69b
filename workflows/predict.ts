/**
 * Scores a swarm's endpoints for as long as the swarm lives, and hands what has changed to the swarm's workflow, which decides. Its page
 * in the Web UI shows what is expected of each endpoint, and on what evidence.
 */
import { continueAsNew, setCurrentDetails, upsertSearchAttributes, workflowInfo } from "@temporalio/workflow";
import type { ScoredEndpoint } from "../models/risk.ts";
import { type ToldRisk, toldAfter } from "../models/risk-news.ts";
import type { DemandForecast } from "../models/scale.ts";
import { risksScoredSignal } from "./messages.ts";
import { watcher } from "./queues.ts";
import { SEARCH_ATTRIBUTES, tellSwarm } from "./run.ts";

export interface PredictInput {
  readonly swarm: string;
  /** Carried over continue-as-new: what the swarm was told last of each endpoint. */
  readonly told: readonly ToldRisk[];
  readonly toldDemand?: DemandForecast | undefined;
}

export async function predict(input: PredictInput): Promise<never> {
  const { swarm } = input;
  let { told, toldDemand } = input;
  upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.swarm, value: swarm }]);
  setCurrentDetails(`**Risks of swarm ${swarm}**\n\nNothing to tell yet.`);
  while (!workflowInfo().continueAsNewSuggested) {
    const options = { summary: "Watch the endpoints' risks and the swarm's load until something changes" };
    const news = await watcher.watchRisks.executeWithOptions(options, [{ swarm, told, toldDemand }]);
    const { scores, demand } = news;
    told = toldAfter(told, scores);
    toldDemand = demand ?? toldDemand;
    if (scores.length === 0 && demand === undefined) continue;
    setCurrentDetails(page(swarm, scores, toldDemand));
    await tellSwarm(swarm, risksScoredSignal, news);
  }
  return await continueAsNew<typeof predict>({ swarm, told, toldDemand });
}

function page(swarm: string, scores: readonly ScoredEndpoint[], demand: DemandForecast | undefined): string {
  const percent = (share: number) => `${Math.round(share * 100)} %`;
  const rows = scores.map(({ score, sessions }) => {
    const { low, value, high } = score.failure;
    const why = score.terms[0]?.text ?? (score.carriesSignal ? "" : "too little telemetry to tell");
    return `| ${score.endpoint} | ${percent(value)} | ${percent(low)} to ${percent(high)} | ${sessions} | ${why} |`;
  });
  const head = ["| endpoint | fails | interval | sessions | strongest evidence |", "|---|---|---|---|---|"];
  const load =
    demand === undefined
      ? []
      : [
          "",
          `Sessions expected within ${demand.horizonMs / 60_000} min: ${Math.round(demand.sessionsP50)}, up to ${Math.ceil(demand.sessionsUpper)} (${demand.text}).`,
        ];
  return [`**Risks of swarm ${swarm}**`, "", ...head, ...rows, ...load].join("\n");
}
