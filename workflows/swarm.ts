/**
 * The entity workflow of one swarm. Handlers record what people and runs say; one main loop watches, decides by plan(), and acts through
 * activities and child runs. It lives for as long as the swarm does, over continue-as-new.
 */
import { allHandlersFinished, condition, continueAsNew, setHandler, workflowInfo } from "@temporalio/workflow";
import * as messages from "./messages.ts";
import { type SwarmCarried, SwarmEntity } from "./swarm-entity.ts";

export interface SwarmInput {
  readonly swarm: string;
  /** Set by continue-as-new. */
  readonly carried: SwarmCarried | undefined;
}

export async function swarm(input: SwarmInput): Promise<never> {
  const entity = new SwarmEntity(input.swarm, input.carried);

  setHandler(messages.applySwarmUpdate, (request) => entity.apply(request), {
    validator: (request) => entity.checkApply(request),
    description: "State the swarm file in force; the first one brings the swarm up",
  });
  setHandler(messages.drainEndpointUpdate, (request) => entity.request("drain", request), {
    validator: (request) => entity.checkRequest(request),
    description: "Take an endpoint out of the swarm; the members that remain take its sessions first",
  });
  setHandler(messages.replaceEndpointUpdate, (request) => entity.request("replace", request), {
    validator: (request) => entity.checkRequest(request),
    description: "Replace an endpoint's machine by a fresh one",
  });
  setHandler(messages.stopAutomationUpdate, (request) => entity.stop(request), {
    validator: (request) => entity.checkStop(request),
    description: "Stop every change that automation makes",
  });
  setHandler(messages.resumeAutomationUpdate, (request) => entity.resume(request), {
    validator: (request) => entity.checkStop(request),
    description: "Let automation act again",
  });

  setHandler(messages.rollSwarmUpdate, (request) => entity.roll(request), {
    validator: (request) => entity.checkRoll(request),
    description: "Bring another image to every machine, in batches within the budget",
  });

  setHandler(messages.machineObtainedSignal, (fact) => entity.machineObtained(fact));
  setHandler(messages.drainFinishedSignal, (fact) => entity.drainFinished(fact));
  setHandler(messages.lossHandledSignal, (fact) => entity.lossHandled(fact));
  setHandler(messages.ghostsReplenishedSignal, (fact) => entity.ghostsReplenished(fact));
  setHandler(messages.endpointsAddedSignal, (fact) => entity.endpointsAdded(fact));
  setHandler(messages.endpointRelievedSignal, (fact) => entity.endpointRelieved(fact));
  setHandler(messages.rollAdvancedSignal, (fact) => entity.rollAdvanced(fact));
  setHandler(messages.rollFinishedSignal, (fact) => entity.rollFinished(fact));
  setHandler(messages.risksScoredSignal, (fact) => entity.risksScored(fact));

  setHandler(messages.swarmStatusQuery, () => entity.status(), { description: "Endpoints, runs, stop switch" });
  setHandler(messages.planQuery, () => entity.lastPlan, { description: "The last plan, with what was withheld and why" });

  await condition(() => entity.applied);
  while (!workflowInfo().continueAsNewSuggested) await entity.turn();
  await condition(() => allHandlersFinished() && entity.idle);
  return await continueAsNew<typeof swarm>({ swarm: input.swarm, carried: entity.carried() });
}
