/**
 * The collector's parts, put together: schema, announcements, streams, telemetry. It serves from the start, also while the
 * database is away; what needs the database says so.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import { z } from "zod";
import { IdentityConfig } from "../../drivers/identity/config.ts";
import { listen } from "../../drivers/store/listener.ts";
import { migrate } from "../../drivers/store/migrate.ts";
import { SESSIONS_CHANNEL } from "../../drivers/store/sessions.ts";
import { openStore, type PostgresStore } from "../../drivers/store/store.ts";
import { VaultConfig } from "../../drivers/vault/config.ts";
import { messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { type Served, serve } from "../http-server.ts";
import { secure } from "../identify.ts";
import { DoorCounts } from "../tls-gate.ts";
import { type CollectorParts, collectorRoutes } from "./api.ts";
import { CrlPublisher } from "./crl.ts";
import { Intake } from "./intake.ts";
import { IpsecHub } from "./ipsec-hub.ts";
import { Lag } from "./lag.ts";
import { OutsideFeed, OutsideFeedConfig } from "./outside-feed.ts";
import { RevokedEndpoints } from "./revoked-endpoints.ts";
import { Rollups } from "./rollups.ts";
import { SessionHub } from "./session-hub.ts";
import { Shadows } from "./shadows.ts";
import { Telemetry } from "./telemetry.ts";

export const CollectorConfig = z.strictObject({
  /** Path of a unix socket, or, with `identity`, `host:port`. */
  socketPath: z.string().min(1),
  databaseUrl: z.string().min(1),
  /** Where outside events are read (docs/operations.md); absent: nowhere. */
  outsideEvents: OutsideFeedConfig.optional(),
  /** Mutual TLS with certificates that Vault signs; absent: a unix socket that its owner alone can reach. */
  identity: IdentityConfig.optional(),
  vault: VaultConfig.optional(),
});
export type CollectorConfig = z.infer<typeof CollectorConfig>;

/** With `revoked` an endpoint was put out, with `forgotten` the fleet is another one; else sessions have changed. */
const Notice = z.object({
  swarm: z.string(),
  version: z.number().optional(),
  revoked: z.string().optional(),
  forgotten: z.boolean().optional(),
});

/** Answers once it serves; the answer ends it. */
export async function startCollector(config: CollectorConfig, log: Logger): Promise<() => Promise<void>> {
  const guarded = await guard(config, log);
  const store = openStore(config);
  const lag = new Lag();
  const telemetry = new Telemetry({ store, log });
  const hub = new SessionHub({ store, lag, log });
  const stop = new AbortController();
  const rollups = new Rollups({ window: telemetry.window, store, log, nowMs: Date.now() });
  const feed = config.outsideEvents === undefined ? undefined : outsideFeed(config.outsideEvents, store, telemetry, log);
  const shadows = new Shadows({ store, telemetry, log });
  const revoked = new RevokedEndpoints();
  const intake = new Intake(telemetry, revoked);
  const ipsec = new IpsecHub({ candidates: (swarm) => shadows.withRoom(swarm, Date.now()), log });
  const parts: CollectorParts = {
    store,
    telemetry,
    rollups,
    feed,
    hub,
    ipsec,
    lag,
    shadows,
    intake,
    revoked,
    guard: guarded?.guard,
  };
  const served: Served = await serve({
    socketPath: config.socketPath,
    log,
    door: guarded?.door,
    routes: (app) => collectorRoutes(app, parts),
  });
  const keepAlive = setInterval(() => hub.keepAlive(), LIMITS.collector.streamKeepAliveMs);
  const loops = [
    migrateThenWork({ config, store, telemetry, rollups, feed, hub, revoked, log, signal: stop.signal }),
    nameShadows(shadows, ipsec, stop.signal),
    guarded === undefined ? Promise.resolve() : guarded.guard.crl.keepFromEnding(stop.signal),
  ];
  return async () => {
    clearInterval(keepAlive);
    stop.abort();
    hub.close();
    await served.close();
    await Promise.all(loops);
    await telemetry.close();
    await rollups.close(Date.now());
    await store.close();
    await guarded?.close();
  };
}

/** Everybody of ours may come in; what each may ask is the routes' business. */
async function guard(config: CollectorConfig, log: Logger) {
  if (config.identity === undefined) return undefined;
  const secured = await secure({ name: "collector", config, log });
  const { identity, vault } = secured;
  const door = { identity, accepts: () => true, counts: new DoorCounts() };
  const crl = new CrlPublisher({ identity, pki: vault.pki, log });
  return { door, guard: { crl, door: door.counts, identity }, close: () => secured.close() };
}

interface Work {
  readonly config: CollectorConfig;
  readonly store: PostgresStore;
  readonly telemetry: Telemetry;
  readonly rollups: Rollups;
  readonly feed: OutsideFeed | undefined;
  readonly hub: SessionHub;
  readonly revoked: RevokedEndpoints;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Everything that stands on the schema. */
async function migrateThenWork(work: Work): Promise<void> {
  const { config, feed, log, signal } = work;
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
  await Promise.all([listenToSessions(work), turnDays(work), keepRollups(work), feed?.follow(signal)]);
}

async function listenToSessions({ config, hub, log, revoked, signal, store }: Work): Promise<void> {
  await listen({
    databaseUrl: config.databaseUrl,
    channel: SESSIONS_CHANNEL,
    onNotice: (payload) => {
      const notice = noticeOf(payload);
      if (notice?.forgotten === true) revoked.forget(notice.swarm);
      if (notice?.revoked === undefined) hub.announced(notice?.swarm);
      else revoked.add({ swarm: notice.swarm, endpoint: notice.revoked });
    },
    onListening: () => {
      log.info({ event: "listening" });
      hub.announced();
      void revoked.load(store, log, signal);
    },
    onBreak: (thrown) => log.warn({ event: "listening-broken", detail: messageOf(thrown) }),
    signal,
  });
}

function outsideFeed(config: OutsideFeedConfig, store: PostgresStore, telemetry: Telemetry, log: Logger): OutsideFeed {
  const onChange = () => {
    for (const swarm of telemetry.swarms()) telemetry.announce("outside-events", swarm);
  };
  return new OutsideFeed({ config, store, log, onChange });
}

/** Undefined, which stands for all, when somebody else wrote to the channel. */
function noticeOf(payload: string): z.infer<typeof Notice> | undefined {
  try {
    return Notice.parse(JSON.parse(payload));
  } catch {
    return undefined;
  }
}

async function nameShadows(shadows: Shadows, ipsec: IpsecHub, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await delay(LIMITS.collector.shadowCheckMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    await shadows.check();
    ipsec.check(Date.now());
  }
}

/** First what another life of this process left, so that the window is full at once; then what comes. */
async function keepRollups({ store, telemetry, rollups, log, signal }: Work): Promise<void> {
  try {
    const sinceMs = Date.now() - LIMITS.telemetry.windowMs;
    for (const { swarm, endpoint, atMs, sample } of await store.heartbeatsSince(sinceMs))
      telemetry.window.put(swarm, endpoint, atMs, Object.entries(sample));
  } catch (thrown) {
    log.warn({ event: "window-not-restored", detail: messageOf(thrown) });
  }
  while (!signal.aborted) {
    await delay(LIMITS.telemetry.rollupCheckMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    telemetry.checkSilence(Date.now());
    await rollups.check(Date.now());
  }
}

async function turnDays({ store, log, signal }: Work): Promise<void> {
  while (!signal.aborted) {
    try {
      const dropped = await store.turnTelemetryDays(Date.now());
      if (dropped > 0) log.info({ event: "telemetry-dropped", partitions: dropped });
    } catch (thrown) {
      log.warn({ event: "telemetry-days-not-turned", detail: messageOf(thrown) });
    }
    await delay(LIMITS.telemetry.partitionCheckMs, undefined, { signal }).catch(() => undefined);
  }
}
