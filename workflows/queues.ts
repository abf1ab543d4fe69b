/**
 * The activities as workflows call them: which task queue, how long an attempt may take, how often it is made again.
 */

import type { Duration } from "@temporalio/common";
import { ActivityCancellationType, proxyActivities, type RetryPolicy } from "@temporalio/workflow";
import type { Activities, ActivityQueue } from "../activities/index.ts";
import type { RetrainActivities } from "../activities/retrain.ts";
import { LIMITS } from "../models/limits.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";

const { control } = LIMITS;
const { heartbeatTimeoutMs: heartbeatTimeout, stepTimeoutMs, machineTimeoutMs } = control;

/** Until it succeeds or is refused for good: what must be finished once begun, however long a downstream is away. */
const FOR_EVER: RetryPolicy = {
  initialInterval: control.retryFirstMs,
  backoffCoefficient: 2,
  maximumInterval: control.retryLongestMs,
};

/** On an endpoint that may be dead: the caller has another way. */
const DOUBTFUL: RetryPolicy = { ...FOR_EVER, maximumAttempts: control.doubtfulAttemptsMax };

const MACHINE: RetryPolicy = { ...FOR_EVER, maximumAttempts: control.retryAttemptsMax };

/** Each attempt in its time, ended early when its worker's heartbeats end. */
function on<Q extends ActivityQueue>(
  taskQueue: Q,
  startToCloseTimeout: Duration,
  retry: RetryPolicy,
  cancellationType?: ActivityCancellationType,
) {
  const cancellation = cancellationType === undefined ? {} : { cancellationType };
  return proxyActivities<Activities[Q]>({ taskQueue, startToCloseTimeout, heartbeatTimeout, retry, ...cancellation });
}

export const balancer = on("balancer", stepTimeoutMs + control.preflightTimeoutMs, FOR_EVER);

/** Weights that plan() asks for: outdated soon, so not tried for ever. */
export const balancerForNow = on("balancer", stepTimeoutMs, MACHINE);

export const hypervisor = on("hypervisor", machineTimeoutMs, MACHINE);

/** What ends must end, however long it takes. */
export const terminator = on("hypervisor", machineTimeoutMs, FOR_EVER);

export const agents = on("agents", "15 minutes", MACHINE);

export const doubtfulAgents = on("agents", stepTimeoutMs, DOUBTFUL);

export const store = on("store", stepTimeoutMs, FOR_EVER);

/** Long: they wait for something to happen, and heartbeat. */
export const patientStore = on("store", "30 days", FOR_EVER);

/** One look, for somebody who waits for the answer. */
export const observer = on("watch", stepTimeoutMs, DOUBTFUL);

export const watcher = on("watch", 2 * control.watchLongestMs, FOR_EVER, ActivityCancellationType.TRY_CANCEL);

/** The trainer may be away for long, and a step waits for it; what it fails at so many times is given up until the next training. */
const TRAINING = {
  taskQueue: "training",
  heartbeatTimeout: LIMITS.training.heartbeatTimeoutMs,
  retry: { ...FOR_EVER, maximumAttempts: LIMITS.training.attemptsMax },
} as const;

export const training = proxyActivities<RetrainActivities>({
  ...TRAINING,
  startToCloseTimeout: stepTimeoutMs,
  retry: FOR_EVER,
});

export const trainingLong = proxyActivities<RetrainActivities>({
  ...TRAINING,
  startToCloseTimeout: LIMITS.training.stepTimeoutMs,
});
/** Versions of keys, agents and clients of a rotation: given up on before anything is switched. */
export const keys = on("vault", KEY_LIMITS.stepTimeoutMs, MACHINE);

/** What must be brought to an end once a switch has begun. */
export const patientKeys = on("vault", KEY_LIMITS.stepTimeoutMs, FOR_EVER);
