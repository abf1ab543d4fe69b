/** Trains and compares models on a thread of its own, so that the one that answers Temporal never waits. */
import { Worker } from "node:worker_threads";
import type { CompareRequest, Trainer, TrainRequest } from "../../activities/retrain.ts";
import type { FailureModelFile } from "../../models/failure/model-file.ts";
import type { Comparison } from "../../models/retraining/compare.ts";
import type { TrainingSet } from "../../models/retraining/training-set.ts";

/** What the thread is started with. */
export type Job =
  | { readonly kind: "train"; readonly set: TrainingSet; readonly request: TrainRequest }
  | { readonly kind: "compare"; readonly set: TrainingSet; readonly request: CompareRequest };

export function threadedTrainer(): Trainer {
  return {
    train: (set, request, signal) => run<FailureModelFile>({ kind: "train", set, request }, signal),
    compare: (set, request, signal) => run<Comparison>({ kind: "compare", set, request }, signal),
  };
}

/** Ends the thread, and what it does, when the signal says so. */
function run<R>(job: Job, signal: AbortSignal): Promise<R> {
  const worker = new Worker(new URL("./job-thread.ts", import.meta.url), { workerData: job });
  return new Promise<R>((resolve, reject) => {
    const abort = () => reject(signal.reason instanceof Error ? signal.reason : new Error("the training was cancelled"));
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.once("exit", (code) => reject(new Error(`the training thread ended with code ${code}`)));
  }).finally(() => void worker.terminate());
}
