/**
 * Trains a swarm's failure model anew, on a Schedule: rows are gathered, a challenger is trained, compared with the model in use on what
 * neither has seen, and put in use only when it is better and calibrated. A kill costs the step that was under way.
 */
import type { RetrainEnd, RetrainResult } from "../activities/retrain.ts";
import { counted } from "../models/words.ts";
import { reasonOf } from "./failures.ts";
import { training, trainingLong } from "./queues.ts";
import { Journal, operationKey, step } from "./run.ts";

export interface RetrainInput {
  readonly swarm: string;
}

type Ending = Pick<RetrainEnd, "outcome" | "why" | "challenger" | "champion" | "details">;

export async function retrainModels({ swarm }: RetrainInput): Promise<RetrainResult> {
  const journal = new Journal({ swarm, title: `Train the failure model of ${swarm} anew` });
  let ending: Ending;
  try {
    ending = await challenge(journal);
  } catch (thrown) {
    const why = `the training came to nothing: ${reasonOf(thrown)}`;
    ending = { outcome: "kept", why, challenger: undefined, champion: undefined, details: {} };
  }
  journal.enter("ending");
  const options = { summary: `${ending.outcome === "promoted" ? "Promote" : "Keep"}: ${ending.why}` };
  const reason = `Retraining of ${swarm}`;
  const result = await step(journal, () =>
    training.endRetraining.executeWithOptions(options, [{ swarm, reason, operation: operationKey("end"), ...ending }]),
  );
  journal.note(result.text);
  journal.enter(result.outcome);
  return result;
}

async function challenge(journal: Journal): Promise<Ending> {
  const { swarm } = journal;
  const reason = `Retraining of ${swarm}`;
  journal.enter("snapshot");
  const snapshot = await step(journal, () =>
    trainingLong.takeSnapshot.executeWithOptions({ summary: "Gather telemetry and what came of it" }, [
      { swarm, reason, operation: operationKey("snapshot") },
    ]),
  );
  const { id, facts } = snapshot;
  const { champion } = facts;
  const details = { snapshot: id, ...facts };
  journal.note(
    `Snapshot ${id}: ${facts.rows} rows of ${counted(facts.units, "piece")} of lives, ${counted(facts.failures, "failure")}.`,
  );
  if (facts.tooFew !== undefined) return { outcome: "kept", why: facts.tooFew, challenger: undefined, champion, details };
  journal.enter("training");
  const challenger = await step(journal, () =>
    trainingLong.trainChallenger.executeWithOptions({ summary: `Train a challenger on snapshot ${id}` }, [
      { swarm, reason, operation: operationKey("train"), snapshot },
    ]),
  );
  journal.note(`Challenger ${challenger.id} was trained on ${challenger.origin.rows} rows.`);
  journal.enter("comparing");
  const against = champion === undefined ? "alone: no model is in use" : `against ${champion}`;
  const {
    promote,
    reason: why,
    ...trials
  } = await trainingLong.compareModels.executeWithOptions({ summary: `Try challenger ${challenger.id} ${against}` }, [
    { swarm, reason, operation: operationKey("compare"), snapshot, challenger: challenger.id },
  ]);
  journal.note(`On the newest ${trials.challenger.rows} rows, ${trials.challenger.positives} before a failure: ${why}.`);
  return {
    outcome: promote ? "promoted" : "kept",
    why,
    challenger: challenger.id,
    champion,
    details: { ...details, ...trials },
  };
}
