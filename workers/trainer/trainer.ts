/**
 * The trainer: a Temporal worker for retrainings alone, and the keeper of the swarms' Schedules.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import { z } from "zod";
import { retrainActivities } from "../../activities/retrain.ts";
import { createStopGuard } from "../../activities/stop-guard.ts";
import { openModelStore } from "../../drivers/store/models.ts";
import { openStore } from "../../drivers/store/store.ts";
import { openTrainingStore } from "../../drivers/store/training.ts";
import { openPayloadSealing } from "../../drivers/temporal-codec/codec.ts";
import { swarmSchedules } from "../../drivers/temporal-schedules.ts";
import { messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { ControlConfig, connectionOptions } from "../control/control-worker.ts";
import { registerSearchAttributes } from "../control/search-attributes.ts";
import { startWorkerSet, TRAINING_QUEUE } from "../control/worker-set.ts";
import { serve } from "../http-server.ts";
import { threadedTrainer } from "./jobs.ts";

export const TrainerConfig = z.strictObject({
  temporal: ControlConfig.shape.temporal,
  databaseUrl: z.string().min(1),
  payloads: ControlConfig.shape.payloads,
  /** Its own: `GET /v1/status`. */
  socketPath: z.string().min(1),
});
export type TrainerConfig = z.infer<typeof TrainerConfig>;

/** Starts it; what it answers ends it. Servers that are away are awaited, not given up on. */
export async function startTrainer(config: TrainerConfig, log: Logger): Promise<() => Promise<void>> {
  const connection = await connectionOptions(config.temporal);
  const { namespace } = config.temporal;
  const store = openStore({ databaseUrl: config.databaseUrl });
  const models = openModelStore({ databaseUrl: config.databaseUrl });
  const training = openTrainingStore({ databaseUrl: config.databaseUrl });
  const stopGuard = createStopGuard(store);
  const codeVersion = await versionOfProgram();
  const activities = retrainActivities({ store, models, training, stopGuard, trainer: threadedTrainer(), codeVersion });
  const sealing = openPayloadSealing(config.payloads, {
    databaseUrl: config.databaseUrl,
    onTrouble: (detail) => log.warn({ event: "data-key-not-refreshed", detail }),
  });
  const prepare = () => registerSearchAttributes(connection, namespace, log);
  const workers = await startWorkerSet({
    connection,
    namespace,
    activities: { [TRAINING_QUEUE]: activities },
    workflowQueue: TRAINING_QUEUE,
    sealing,
    log,
    prepare,
  });
  const schedules = swarmSchedules({ connection, namespace, sealing }, store);
  const stopping = new AbortController();
  const keeping = keepSchedules(schedules.keep, log, stopping.signal);
  const served = await serve({
    socketPath: config.socketPath,
    log,
    routes: (app) => {
      app.get("/v1/status", () => workers.status());
    },
  });
  return async () => {
    stopping.abort();
    await served.close();
    await workers.stop();
    await keeping;
    await Promise.all([store.close(), models.close(), training.close(), sealing.close()]);
  };
}

/** The swarm's workflow does so at once when a file is applied; this repairs what went by it, as a switch thrown while Temporal was away. */
async function keepSchedules(keep: () => Promise<void>, log: Logger, stop: AbortSignal): Promise<void> {
  let trouble = "";
  while (!stop.aborted) {
    try {
      await keep();
      trouble = "";
    } catch (thrown) {
      const detail = messageOf(thrown);
      if (detail !== trouble) log.warn({ event: "schedules-not-kept", detail });
      trouble = detail;
    }
    await delay(LIMITS.training.scheduleCheckMs, undefined, { signal: stop }).catch(() => undefined);
  }
}

async function versionOfProgram(): Promise<string> {
  const text = await readFile(join(import.meta.dirname, "..", "..", "package.json"), "utf8");
  return z.object({ version: z.string() }).parse(JSON.parse(text)).version;
}
