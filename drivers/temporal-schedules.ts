/**
 * The Schedules of swarms: failure models trained anew, keys rotated. Made, changed, paused and removed as the swarm files and the stop
 * switch want them. Whatever is found otherwise is put right, so that it may be called at any time and by anybody.
 */
import { Client, Connection, type ConnectionOptions, type ScheduleClient, ScheduleNotFoundError } from "@temporalio/client";
import { placeOfHash } from "../models/control-slice.ts";
import { type KeySchedule, rotationDueId, wantedRotations } from "../models/key-schedule.ts";
import { LIMITS } from "../models/limits.ts";
import { type RetrainSchedule, retrainIdOf, STOPPED_BY, wantedSchedules } from "../models/retraining/schedule.ts";
import type { Store } from "./ports.ts";
import type { PayloadSealing } from "./temporal-codec/codec.ts";

export interface SchedulesOptions {
  readonly connection: Pick<ConnectionOptions, "address" | "tls" | "apiKey">;
  readonly namespace: string;
  /** The workers' own way to seal payloads; a Schedule holds the arguments of the runs that it starts. */
  readonly sealing: PayloadSealing;
}

export interface SwarmSchedules {
  readonly keep: () => Promise<void>;
}

const SECOND_MS = 1_000;
/** Starts are spread over no more than this share of the interval. */
const JITTER_SHARE_MAX = 0.1;

/** One of ours, whatever it begins. Times in milliseconds. */
interface Wanted {
  readonly id: string;
  readonly everyMs: number;
  /** Why it stands still; undefined: it does not. */
  readonly pausedBecause: string | undefined;
  readonly stated: ReturnType<typeof retrainStated> | ReturnType<typeof rotationStated>;
}

export function swarmSchedules(options: SchedulesOptions, store: Pick<Store, "specs" | "stopSwitches">): SwarmSchedules {
  return {
    keep: async () => {
      const [specs, switches] = [await store.specs(), await store.stopSwitches()];
      const wanted: readonly Wanted[] = [
        ...wantedSchedules(specs, switches).map((one) => ({ ...one, id: retrainIdOf(one.swarm), stated: retrainStated(one) })),
        ...wantedRotations(specs, switches).map((one) => ({ ...one, stated: rotationStated(one) })),
      ];
      const connectTimeout = LIMITS.control.updateTimeoutMs;
      const connection = await Connection.connect({ ...options.connection, connectTimeout });
      try {
        const { namespace, sealing } = options;
        const dataConverter = sealing.converter;
        const { schedule } = new Client({ connection, namespace, ...(dataConverter === undefined ? {} : { dataConverter }) });
        await connection.withDeadline(Date.now() + connectTimeout, () => keepAll(schedule, wanted));
      } finally {
        await connection.close();
      }
    },
  };
}

async function keepAll(schedules: ScheduleClient, wanted: readonly Wanted[]): Promise<void> {
  const ids = new Set(wanted.map(({ id }) => id));
  for (const one of wanted) await keepOne(schedules, one);
  const ours = [retrainIdOf(""), rotationDueId("", "")];
  for await (const { scheduleId } of schedules.list()) {
    if (ids.has(scheduleId) || !ours.some((prefix) => scheduleId.startsWith(prefix))) continue;
    await schedules.getHandle(scheduleId).delete().catch(unlessGone);
  }
}

async function keepOne(schedules: ScheduleClient, { everyMs, id, pausedBecause, stated }: Wanted): Promise<void> {
  const handle = schedules.getHandle(id);
  const held = await handle.describe().catch(unlessGone);
  if (held === undefined) {
    const state = pausedBecause === undefined ? {} : { state: { paused: true, note: pausedBecause } };
    // Somebody else may have made it meanwhile.
    await schedules.create({ scheduleId: id, ...stated, ...state }).catch(unlessThere);
    return;
  }
  const [interval] = held.spec.intervals ?? [];
  const isStated =
    interval?.every === everyMs &&
    held.spec.jitter === stated.spec.jitter &&
    held.policies.catchupWindow === stated.policies.catchupWindow;
  if (!isStated) await handle.update(({ state }) => ({ ...stated, state }));
  const { paused, note = "" } = held.state;
  if (pausedBecause !== undefined && !paused) await handle.pause(pausedBecause);
  if (pausedBecause === undefined && paused && note.startsWith(STOPPED_BY)) await handle.unpause("The stop switch is off");
}

/** Swarms take turns in the interval, by their names; one that trains still is not started again; what was missed for long is left out. */
function retrainStated({ swarm, everyMs }: RetrainSchedule) {
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

/** A run of its own, by the time, which begins the rotation by its fixed id: one that is under way already is left to itself. */
function rotationStated({ catchUpMs, everyMs, id, jitterMs, kind, swarm }: KeySchedule) {
  const offset = Math.floor((placeOfHash(id) * everyMs) / SECOND_MS) * SECOND_MS;
  return {
    spec: { intervals: [{ every: everyMs, offset }], jitter: jitterMs },
    policies: { overlap: "SKIP" as const, catchupWindow: catchUpMs },
    action: {
      type: "startWorkflow" as const,
      workflowType: "rotateAll",
      workflowId: id,
      taskQueue: "control",
      args: [{ swarm, kinds: [kind], by: "schedule", reason: `due every ${Math.round(everyMs / SECOND_MS)} s`, waits: false }],
      staticSummary: `Rotate ${kind} keys of ${swarm}, which is due`,
    },
  };
}

function unlessGone(thrown: unknown): undefined {
  if (!(thrown instanceof ScheduleNotFoundError)) throw thrown;
}

function unlessThere(thrown: unknown): undefined {
  if (!(thrown instanceof Error) || thrown.name !== "ScheduleAlreadyRunning") throw thrown;
}
