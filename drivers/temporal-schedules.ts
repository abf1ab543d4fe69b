/**
 * The Schedules that train failure models anew, one for each swarm: made, changed, paused and removed as the swarm files and the stop switch
 * want them. Whatever is found otherwise is put right, so that it may be called at any time and by anybody.
 */
import { Client, Connection, type ConnectionOptions, type ScheduleClient, ScheduleNotFoundError } from "@temporalio/client";
import { placeOfHash } from "../models/control-slice.ts";
import { LIMITS } from "../models/limits.ts";
import { type RetrainSchedule, retrainIdOf, STOPPED_BY, wantedSchedules } from "../models/retraining/schedule.ts";
import type { Store } from "./ports.ts";

export interface SchedulesOptions {
  readonly connection: Pick<ConnectionOptions, "address" | "tls" | "apiKey">;
  readonly namespace: string;
}

export interface RetrainSchedules {
  readonly keep: () => Promise<void>;
}

const SECOND_MS = 1_000;
/** Starts are spread over no more than this share of the interval. */
const JITTER_SHARE_MAX = 0.1;

export function retrainSchedules(options: SchedulesOptions, store: Pick<Store, "specs" | "stopSwitches">): RetrainSchedules {
  return {
    keep: async () => {
      const wanted = wantedSchedules(await store.specs(), await store.stopSwitches());
      const connectTimeout = LIMITS.control.updateTimeoutMs;
      const connection = await Connection.connect({ ...options.connection, connectTimeout });
      try {
        const { schedule } = new Client({ connection, namespace: options.namespace });
        await connection.withDeadline(Date.now() + connectTimeout, () => keepAll(schedule, wanted));
      } finally {
        await connection.close();
      }
    },
  };
}

async function keepAll(schedules: ScheduleClient, wanted: readonly RetrainSchedule[]): Promise<void> {
  const ids = new Set(wanted.map(({ swarm }) => retrainIdOf(swarm)));
  for (const one of wanted) await keepOne(schedules, one);
  for await (const { scheduleId } of schedules.list()) {
    if (!scheduleId.startsWith(retrainIdOf("")) || ids.has(scheduleId)) continue;
    await schedules.getHandle(scheduleId).delete().catch(unlessGone);
  }
}

async function keepOne(schedules: ScheduleClient, wanted: RetrainSchedule): Promise<void> {
  const handle = schedules.getHandle(retrainIdOf(wanted.swarm));
  const held = await handle.describe().catch(unlessGone);
  const stated = statedOf(wanted);
  if (held === undefined) {
    const { pausedBecause } = wanted;
    const state = pausedBecause === undefined ? {} : { state: { paused: true, note: pausedBecause } };
    // Somebody else may have made it meanwhile.
    await schedules.create({ scheduleId: handle.scheduleId, ...stated, ...state }).catch(unlessThere);
    return;
  }
  const [interval] = held.spec.intervals ?? [];
  if (interval?.every !== wanted.everyMs) await handle.update(({ state }) => ({ ...stated, state }));
  const { paused, note = "" } = held.state;
  if (wanted.pausedBecause !== undefined && !paused) await handle.pause(wanted.pausedBecause);
  if (wanted.pausedBecause === undefined && paused && note.startsWith(STOPPED_BY))
    await handle.unpause("The stop switch is off");
}

/** Swarms take turns in the interval, by their names; one that trains still is not started again; what was missed for long is left out. */
function statedOf({ swarm, everyMs }: RetrainSchedule) {
  const offset = Math.floor((placeOfHash(swarm) * everyMs) / SECOND_MS) * SECOND_MS;
  const jitter = Math.min(LIMITS.training.jitterMs, Math.floor((everyMs * JITTER_SHARE_MAX) / SECOND_MS) * SECOND_MS);
  return {
    spec: { intervals: [{ every: everyMs, offset }], jitter },
    policies: { overlap: "SKIP" as const, catchupWindow: LIMITS.training.catchUpMs },
    action: {
      type: "startWorkflow" as const,
      workflowType: "retrainModels",
      workflowId: retrainIdOf(swarm),
      taskQueue: "training",
      args: [{ swarm }],
      staticSummary: `Train the failure model of ${swarm} anew`,
    },
  };
}

function unlessGone(thrown: unknown): undefined {
  if (!(thrown instanceof ScheduleNotFoundError)) throw thrown;
}

function unlessThere(thrown: unknown): undefined {
  if (!(thrown instanceof Error) || thrown.name !== "ScheduleAlreadyRunning") throw thrown;
}
