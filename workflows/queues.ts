/**
 * The activities as workflows call them: which task queue, how long an attempt may take, how often it is made again.
 */
import { ActivityCancellationType, proxyActivities, type RetryPolicy } from "@temporalio/workflow";
import type { Activities } from "../activities/index.ts";
import { LIMITS } from "../models/limits.ts";

const { control } = LIMITS;
const { heartbeatTimeoutMs, stepTimeoutMs, machineTimeoutMs } = control;

/** Until it succeeds or is refused for good: what must be finished once begun, however long a downstream is away. */
const FOR_EVER: RetryPolicy = {
  initialInterval: control.retryFirstMs,
  backoffCoefficient: 2,
  maximumInterval: control.retryLongestMs,
};

/** On an endpoint that may be dead: the caller has another way. */
const DOUBTFUL: RetryPolicy = { ...FOR_EVER, maximumAttempts: control.doubtfulAttemptsMax };

const MACHINE: RetryPolicy = { ...FOR_EVER, maximumAttempts: control.retryAttemptsMax };

export const balancer = proxyActivities<Activities["balancer"]>({
  taskQueue: "balancer",
  startToCloseTimeout: stepTimeoutMs + control.preflightTimeoutMs,
  heartbeatTimeout: heartbeatTimeoutMs,
  retry: FOR_EVER,
});

/** Weights that plan() asks for: outdated soon, so not tried for ever. */
export const balancerForNow = proxyActivities<Activities["balancer"]>({
  taskQueue: "balancer",
  startToCloseTimeout: stepTimeoutMs,
  heartbeatTimeout: heartbeatTimeoutMs,
  retry: MACHINE,
});

export const hypervisor = proxyActivities<Activities["hypervisor"]>({
  taskQueue: "hypervisor",
  startToCloseTimeout: machineTimeoutMs,
  heartbeatTimeout: heartbeatTimeoutMs,
  retry: MACHINE,
});

export const terminator = proxyActivities<Activities["hypervisor"]>({
  taskQueue: "hypervisor",
  startToCloseTimeout: machineTimeoutMs,
  heartbeatTimeout: heartbeatTimeoutMs,
  retry: FOR_EVER,
});

export const agents = proxyActivities<Activities["agents"]>({
  taskQueue: "agents",
  startToCloseTimeout: "15 minutes",
  heartbeatTimeout: heartbeatTimeoutMs,
  retry: MACHINE,
});

export const doubtfulAgents = proxyActivities<Activities["agents"]>({
  taskQueue: "agents",
  startToCloseTimeout: stepTimeoutMs,
  heartbeatTimeout: heartbeatTimeoutMs,
  retry: DOUBTFUL,
});

export const store = proxyActivities<Activities["store"]>({
  taskQueue: "store",
  startToCloseTimeout: stepTimeoutMs,
  heartbeatTimeout: heartbeatTimeoutMs,
  retry: FOR_EVER,
});

/** Long: they wait for something to happen, and heartbeat. */
export const patientStore = proxyActivities<Activities["store"]>({
  taskQueue: "store",
  startToCloseTimeout: "30 days",
  heartbeatTimeout: heartbeatTimeoutMs,
  retry: FOR_EVER,
});

/** One look, for somebody who waits for the answer. */
export const observer = proxyActivities<Activities["watch"]>({
  taskQueue: "watch",
  startToCloseTimeout: stepTimeoutMs,
  heartbeatTimeout: heartbeatTimeoutMs,
  retry: DOUBTFUL,
});

export const watcher = proxyActivities<Activities["watch"]>({
  taskQueue: "watch",
  startToCloseTimeout: 2 * control.watchLongestMs,
  heartbeatTimeout: heartbeatTimeoutMs,
  retry: FOR_EVER,
  cancellationType: ActivityCancellationType.TRY_CANCEL,
});
