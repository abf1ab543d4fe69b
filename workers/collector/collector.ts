/**
 * The collector's parts, put together: schema, announcements, streams, telemetry. It serves from the start, also while the
 * database is away; what needs the database says so.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import { z } from "zod";
import { listen } from "../../drivers/store/listener.ts";
import { migrate } from "../../drivers/store/migrate.ts";
import { SESSIONS_CHANNEL } from "../../drivers/store/sessions.ts";
import { openStore, type PostgresStore } from "../../drivers/store/store.ts";
import { messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { type Served, serve } from "../http-server.ts";
import { type CollectorParts, collectorRoutes } from "./api.ts";
import { Lag } from "./lag.ts";
import { SessionHub } from "./session-hub.ts";
import { Shadows } from "./shadows.ts";
import { Telemetry } from "./telemetry.ts";

export const CollectorConfig = z.strictObject({ socketPath: z.string().min(1), databaseUrl: z.string().min(1) });
export type CollectorConfig = z.infer<typeof CollectorConfig>;

const Notice = z.object({ swarm: z.string(), version: z.number() });

/** Answers once it serves; the answer ends it. */
export async function startCollector(config: CollectorConfig, log: Logger): Promise<() => Promise<void>> {
  const store = openStore(config);
  const lag = new Lag();
  const telemetry = new Telemetry({ store, log });
  const hub = new SessionHub({ store, lag, log });
  const stop = new AbortController();
  const parts: CollectorParts = { store, telemetry, hub, lag };
  const served: Served = await serve({ socketPath: config.socketPath, log, routes: (app) => collectorRoutes(app, parts) });
  const keepAlive = setInterval(() => hub.keepAlive(), LIMITS.collector.streamKeepAliveMs);
  const shadows = new Shadows({ store, telemetry, log });
  const loops = [
    migrateThenListen(config, hub, log, stop.signal),
    nameShadows(shadows, stop.signal),
    retainTelemetry(store, log, stop.signal),
  ];
  return async () => {
    clearInterval(keepAlive);
    stop.abort();
    hub.close();
    await served.close();
    await Promise.all(loops);
    await telemetry.close();
    await store.close();
  };
}

async function migrateThenListen(config: CollectorConfig, hub: SessionHub, log: Logger, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const applied = await migrate(config.databaseUrl);
      log.info({ event: "schema-ready", applied });
      break;
    } catch (thrown) {
      log.warn({ event: "schema-not-ready", detail: messageOf(thrown) });
      await delay(LIMITS.collector.migrateRetryMs, undefined, { signal }).catch(() => undefined);
    }
  }
  await listen({
    databaseUrl: config.databaseUrl,
    channel: SESSIONS_CHANNEL,
    onNotice: (payload) => hub.announced(swarmOf(payload)),
    onListening: () => {
      log.info({ event: "listening" });
      hub.announced();
    },
    onBreak: (thrown) => log.warn({ event: "listening-broken", detail: messageOf(thrown) }),
    signal,
  });
}

/** Undefined, which stands for all, when somebody else wrote to the channel. */
function swarmOf(payload: string): string | undefined {
  try {
    return Notice.parse(JSON.parse(payload)).swarm;
  } catch {
    return undefined;
  }
}

async function nameShadows(shadows: Shadows, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await delay(LIMITS.collector.shadowCheckMs, undefined, { signal }).catch(() => undefined);
    if (!signal.aborted) await shadows.check();
  }
}

async function retainTelemetry(store: PostgresStore, log: Logger, signal: AbortSignal): Promise<void> {
  const { retentionIntervalMs, telemetryRetentionMs } = LIMITS.collector;
  while (!signal.aborted) {
    await delay(retentionIntervalMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    try {
      const deleted = await store.deleteHeartbeatsBefore(Date.now() - telemetryRetentionMs);
      log.info({ event: "telemetry-deleted", deleted });
    } catch (thrown) {
      log.warn({ event: "telemetry-not-deleted", detail: messageOf(thrown) });
    }
  }
}
