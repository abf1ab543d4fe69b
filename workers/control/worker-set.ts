/**
 * All Temporal workers of one process: workflows on the queue `control`, activities on one queue for each downstream, each with its own
 * rate. A connection that breaks for good is made again, for as long as the set is wanted.
 */
import { setTimeout as delay } from "node:timers/promises";
import {
  type LogLevel,
  makeTelemetryFilterString,
  NativeConnection,
  type NativeConnectionOptions,
  Runtime,
  type Logger as SdkLogger,
  Worker,
  type WorkflowBundle,
  type WorkflowBundleOption,
} from "@temporalio/worker";
import type { Logger } from "pino";
import type { Activities, ActivityQueue } from "../../activities/index.ts";
import type { RetrainActivities } from "../../activities/retrain.ts";
import type { PayloadSealing } from "../../drivers/temporal-codec/codec.ts";
import { messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { bundleWorkflows } from "./workflow-bundle.ts";

/** Queue of the workflows. */
export const CONTROL_QUEUE = "control";

/** Queue of retrainings, workflow and activities alike: the trainer's own. */
export const TRAINING_QUEUE = "training";

const CALLS_PER_SECOND: Readonly<Record<ActivityQueue, number | undefined>> = {
  balancer: LIMITS.control.balancerCallsPerSecond,
  hypervisor: LIMITS.control.hypervisorCallsPerSecond,
  agents: LIMITS.control.agentCallsPerSecond,
  store: LIMITS.control.storeCallsPerSecond,
  vault: LIMITS.control.vaultCallsPerSecond,
  watch: undefined,
};

export interface WorkerSetOptions {
  readonly connection: NativeConnectionOptions;
  readonly namespace: string;
  /** By queue. */
  readonly activities: Partial<Activities> | { readonly [TRAINING_QUEUE]: RetrainActivities };
  /** Queue of the workflows; `control` where left out. */
  readonly workflowQueue?: string;
  /** How what is said to Temporal is sealed; PLAIN_PAYLOADS for not at all. */
  readonly sealing: PayloadSealing;
  readonly log: Logger;
  /** Of this code, made by another process; left out, it is made here. */
  readonly bundle?: WorkflowBundleOption;
  /** How long a run's next step waits for the worker that has the run in memory; left out, until a dead one would be noticed anyway. */
  readonly stickyTimeoutMs?: number;
  /** Done before the workers start, each time a connection is made. */
  readonly prepare?: () => Promise<void>;
}

export interface WorkerSet {
  readonly status: () => WorkerSetStatus;
  readonly stop: () => Promise<void>;
}

export interface WorkerSetStatus {
  readonly state: "connecting" | "running" | "stopped";
  /** Times the workers had to be made again. */
  readonly restarts: number;
  readonly lastError: string | undefined;
}

/** Of this code, with the failure converter that goes with the sealing. */
export function bundleFor(log: Logger, { converter }: PayloadSealing): Promise<WorkflowBundle> {
  return bundleWorkflows(sdkLogger(log), converter?.failureConverterPath);
}

let runtimeInstalled = false;

/** The SDK's runtime is one for the process; its log goes where ours goes, from warnings on. */
export function installRuntime(log: Logger): void {
  if (runtimeInstalled) return;
  runtimeInstalled = true;
  const filter = makeTelemetryFilterString({ core: "WARN", other: "ERROR" });
  Runtime.install({ logger: sdkLogger(log), telemetryOptions: { logging: { forward: {}, filter } }, shutdownSignals: [] });
}

/**
 * Lines of the SDK as events of our log. That a queue has no workflows, or no activities, is how this set is cut, and no warning.
 */
function sdkLogger(log: Logger): SdkLogger {
  const write = (level: LogLevel, message: string, meta?: Record<string, unknown>) => {
    const { workflowId, activityType, attempt, error } = meta ?? {};
    const line = {
      event: "temporal",
      message,
      workflowId,
      activityType,
      attempt,
      error: error === undefined ? undefined : messageOf(error),
    };
    if (level === "ERROR") log.error(line);
    else if (level === "WARN" && !message.startsWith("No ")) log.warn(line);
    else log.debug(line);
  };
  return {
    log: write,
    trace: () => undefined,
    debug: (message, meta) => write("DEBUG", message, meta),
    info: (message, meta) => write("INFO", message, meta),
    warn: (message, meta) => write("WARN", message, meta),
    error: (message, meta) => write("ERROR", message, meta),
  };
}

/** Returns at once; `status()` says when the workers run. */
export async function startWorkerSet(options: WorkerSetOptions): Promise<WorkerSet> {
  installRuntime(options.log);
  const bundle = options.bundle ?? (await bundleFor(options.log, options.sealing));
  const stopping = new AbortController();
  let status: WorkerSetStatus = { state: "connecting", restarts: 0, lastError: undefined };
  const running = keepRunning(options, bundle, stopping.signal, (change) => {
    status = { ...status, ...change };
  });
  return {
    status: () => status,
    stop: async () => {
      stopping.abort();
      await running;
      status = { ...status, state: "stopped" };
    },
  };
}

type Report = (change: Partial<WorkerSetStatus>) => void;

async function keepRunning(
  options: WorkerSetOptions,
  bundle: WorkflowBundleOption,
  stop: AbortSignal,
  report: Report,
): Promise<void> {
  let pauseMs: number = LIMITS.control.workerRestartFirstMs;
  for (let restarts = 0; !stop.aborted; restarts += 1) {
    report({ restarts });
    const startedAtMs = Date.now();
    try {
      await runOnce(options, bundle, stop, report);
    } catch (thrown) {
      report({ state: "connecting", lastError: messageOf(thrown) });
      options.log.warn({ event: "workers-restart", detail: messageOf(thrown) });
    }
    if (stop.aborted) return;
    const lasted = Date.now() - startedAtMs > LIMITS.control.workerRestartLongestMs;
    pauseMs = lasted ? LIMITS.control.workerRestartFirstMs : Math.min(2 * pauseMs, LIMITS.control.workerRestartLongestMs);
    await delay(pauseMs, undefined, { signal: stop }).catch(() => undefined);
  }
}

/** Runs until told to stop, or until one of the workers fails, which ends the others. */
async function runOnce(
  options: WorkerSetOptions,
  bundle: WorkflowBundleOption,
  stop: AbortSignal,
  report: Report,
): Promise<void> {
  const connection = await NativeConnection.connect(options.connection);
  const workers: Worker[] = [];
  const shutDown = () => {
    for (const worker of workers) if (worker.getState() === "RUNNING") worker.shutdown();
  };
  try {
    await options.prepare?.();
    // A worker that cannot seal could not even say that a task failed.
    await options.sealing.ready();
    await createWorkers(options, bundle, connection, workers);
    report({ state: "running", lastError: undefined });
    options.log.info({ event: "workers-running", queues: Object.keys(options.activities) });
    stop.addEventListener("abort", shutDown);
    const runs = workers.map((worker) => worker.run().finally(shutDown));
    if (stop.aborted) shutDown();
    const failed = (await Promise.allSettled(runs)).find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  } finally {
    stop.removeEventListener("abort", shutDown);
    await connection.close();
  }
}

async function createWorkers(
  options: WorkerSetOptions,
  bundle: WorkflowBundleOption,
  connection: NativeConnection,
  workers: Worker[],
): Promise<void> {
  const { converter } = options.sealing;
  const shared = {
    connection,
    ...(converter === undefined ? {} : { dataConverter: converter }),
    namespace: options.namespace,
    shutdownGraceTime: LIMITS.control.workerShutdownMs,
    shutdownForceTime: 2 * LIMITS.control.workerShutdownMs,
    // A cancelled watch and a stopped step hear of it within this.
    maxHeartbeatThrottleInterval: LIMITS.control.heartbeatIntervalMs,
  };
  const { stickyTimeoutMs: stickyQueueScheduleToStartTimeout = LIMITS.control.heartbeatTimeoutMs } = options;
  const { workflowQueue = CONTROL_QUEUE } = options;
  workers.push(
    await Worker.create({ ...shared, taskQueue: workflowQueue, workflowBundle: bundle, stickyQueueScheduleToStartTimeout }),
  );
  for (const [taskQueue, activities] of Object.entries(options.activities)) {
    const perSecond = CALLS_PER_SECOND[taskQueue as ActivityQueue];
    const rate = perSecond === undefined ? {} : { maxTaskQueueActivitiesPerSecond: perSecond };
    // A training takes all threads there are.
    const atOnce = taskQueue === TRAINING_QUEUE ? { maxConcurrentActivityTaskExecutions: 1 } : {};
    workers.push(await Worker.create({ ...shared, taskQueue, activities, ...rate, ...atOnce }));
  }
}
