/** Trains ensembles on several threads: the training set lies in shared memory, each thread takes the next task when it is free. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { Ensemble, EnsembleTask, TrainingSet } from "../../models/failure/ensemble.ts";
import type { Executor } from "../../models/failure/train.ts";

/** More threads gain little: there are ten ensembles to train. */
const THREADS_MAX = 8;

/** What a thread is started with. */
export interface ThreadData {
  readonly set: TrainingSet;
}

/** An executor on at most this many threads of its own; the caller's thread stays free. */
export function threadedExecutor(threads = Math.min(THREADS_MAX, availableParallelism())): Executor {
  return async (set, tasks) => {
    const shared = inSharedMemory(set);
    const waiting = tasks.map((task, at) => ({ task, at }));
    const results: Ensemble[] = [];
    const runThread = async () => {
      const worker = new Worker(new URL("./thread.ts", import.meta.url), { workerData: { set: shared } satisfies ThreadData });
      try {
        for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
          results[next.at] = await ask(worker, next.task);
        }
      } finally {
        await worker.terminate();
      }
    };
    await Promise.all(Array.from({ length: Math.min(threads, tasks.length) }, runThread));
    return results;
  };
}

function ask(worker: Worker, task: EnsembleTask): Promise<Ensemble> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      worker.off("message", onMessage);
      worker.off("error", onError);
      worker.off("exit", onExit);
    };
    const onMessage = (ensemble: Ensemble) => {
      settle();
      resolve(ensemble);
    };
    const onError = (error: Error) => {
      settle();
      reject(error);
    };
    const onExit = (code: number) => onError(new Error(`a training thread ended with code ${code}`));
    worker.on("message", onMessage);
    worker.on("error", onError);
    worker.on("exit", onExit);
    worker.postMessage(task);
  });
}

/** Copies what is not shared yet, so that no thread copies it again. */
function inSharedMemory(set: TrainingSet): TrainingSet {
  const codes =
    set.bins.codes.buffer instanceof SharedArrayBuffer ? set.bins.codes : new Uint8Array(sharedBytes(set.bins.codes));
  return {
    bins: { ...set.bins, codes },
    labels: new Uint8Array(sharedBytes(set.labels)),
    weights: new Float64Array(sharedBytes(set.weights)),
    unit: new Int32Array(sharedBytes(set.unit)),
  };
}

function sharedBytes(array: Uint8Array | Float64Array | Int32Array): SharedArrayBuffer {
  const shared = new SharedArrayBuffer(array.byteLength);
  new Uint8Array(shared).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  return shared;
}
