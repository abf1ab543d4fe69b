/** One job of training: answers with its result and ends. Whatever else runs on the machine goes first. */
import { setPriority } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import { fromModelFile, toModelFile } from "../../models/failure/model-file.ts";
import { trainFailureModel } from "../../models/failure/train.ts";
import { LIMITS } from "../../models/limits.ts";
import { compareOnUnseen } from "../../models/retraining/compare.ts";
import { learnedFrom } from "../../models/retraining/training-set.ts";
import type { Job } from "./jobs.ts";
import { threadedExecutor } from "./pool.ts";

// Of this thread, and of those that it starts; the one that answers Temporal keeps its own.
setPriority(LIMITS.training.niceness);
parentPort?.postMessage(await resultOf(workerData as Job));

async function resultOf(job: Job) {
  if (job.kind === "compare") {
    const { unseenFrom, challenger, champion } = job.request;
    const inUse = champion === undefined ? undefined : fromModelFile(champion).model;
    return compareOnUnseen(job.set, unseenFrom, fromModelFile(challenger).model, inUse);
  }
  const { window, unseenFrom, seed, codeVersion } = job.request;
  const { table, weights } = learnedFrom(job.set, unseenFrom, window);
  const model = await trainFailureModel(table, { window, seed, weights }, threadedExecutor());
  const dataFrom = table.time.reduce((least, at) => Math.min(least, at), Number.POSITIVE_INFINITY);
  const dataUntil = table.time.reduce((most, at) => Math.max(most, at), Number.NEGATIVE_INFINITY);
  return toModelFile(model, { codeVersion, dataFrom, dataUntil, rows: table.rows, units: table.units, seed });
}
