/** One training thread: answers each task with its ensemble. */
import { parentPort, workerData } from "node:worker_threads";
import { type EnsembleTask, trainEnsemble } from "../../models/failure/ensemble.ts";
import type { ThreadData } from "./pool.ts";

const { set } = workerData as ThreadData;
parentPort?.on("message", (task: EnsembleTask) => {
  parentPort?.postMessage(trainEnsemble(set, task));
});
