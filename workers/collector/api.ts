/**
 * The collector's local API: heartbeats and session deltas in, sessions and telemetry out.
 */
import { PassThrough } from "node:stream";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { PostgresStore } from "../../drivers/store/store.ts";
import { LIMITS } from "../../models/limits.ts";
import { parseInput } from "../../models/parse.ts";
import { PublicKey, SessionState } from "../../models/session.ts";
import { shadowOf } from "../../models/shadow.ts";
import { EndpointName, SwarmName } from "../../models/steering.ts";
import type { Lag } from "./lag.ts";
import type { SessionHub } from "./session-hub.ts";
import type { Telemetry } from "./telemetry.ts";

const count = z.number().int().nonnegative();
const share = z.number().min(0).max(1).optional();
const HeartbeatBody = z.strictObject({
  swarm: SwarmName,
  endpoint: EndpointName,
  atMs: count,
  sequence: count,
  startedAtMs: count,
  cpuShare: share,
  cpuPressure: share,
  memoryShare: share,
  tunnelUp: z.boolean(),
  sessions: count,
  rxBytes: count,
  txBytes: count,
  rxDrops: count,
  txDrops: count,
});
const deltasMax = LIMITS.collector.sessionDeltasPerRequestMax;
const SessionsBody = z.strictObject({
  swarm: SwarmName,
  endpoint: EndpointName,
  upserts: z.array(SessionState).max(deltasMax),
  removed: z.array(PublicKey).max(deltasMax),
});
const SwarmQuery = z.object({ swarm: SwarmName });
const StreamQuery = z.object({ swarm: SwarmName, after: z.coerce.number().int().nonnegative().default(0) });

export interface CollectorParts {
  readonly store: PostgresStore;
  readonly telemetry: Telemetry;
  readonly hub: SessionHub;
  readonly lag: Lag;
}

export function collectorRoutes(app: FastifyInstance, parts: CollectorParts): void {
  const { store, telemetry, hub, lag } = parts;
  app.post("/v1/heartbeats", (request, reply) => {
    const { cpuShare, cpuPressure, memoryShare, ...rest } = parseInput(HeartbeatBody, request.body, "body");
    telemetry.take({ ...rest, cpuShare, cpuPressure, memoryShare });
    return reply.code(202).send({ ok: true });
  });
  app.post("/v1/sessions", async (request) => {
    const deltas = parseInput(SessionsBody, request.body, "body");
    const candidates = telemetry.candidates(deltas.swarm, Date.now());
    return { taken: await store.applyDeltas(deltas, (publicKey, holder) => shadowOf(publicKey, holder, candidates)) };
  });
  app.get("/v1/sessions", (request) => store.sessions(parseInput(SwarmQuery, request.query, "query").swarm));
  app.get("/v1/sessions/stream", async (request, reply) => {
    const { swarm, after } = parseInput(StreamQuery, request.query, "query");
    const out = new PassThrough();
    await hub.subscribe(swarm, after, out);
    return reply.type("application/x-ndjson").send(out);
  });
  app.get("/v1/telemetry", (request) => telemetry.latest(parseInput(SwarmQuery, request.query, "query").swarm));
  app.get("/v1/lag", () => lag.summary());
  app.get("/metrics", (_request, reply) => reply.type("text/plain; version=0.0.4").send(metricsText(parts)));
}

function metricsText({ telemetry, hub, lag }: CollectorParts): string {
  const { received, written, dropped, queued } = telemetry.counts();
  const { samples, lagMsP50, lagMsP99, lagMsMax } = lag.summary();
  const lines: [name: string, kind: "counter" | "gauge", value: number | undefined][] = [
    ["foreshift_heartbeats_received_total", "counter", received],
    ["foreshift_heartbeats_written_total", "counter", written],
    ["foreshift_heartbeats_dropped_total", "counter", dropped],
    ["foreshift_heartbeats_queued", "gauge", queued],
    ["foreshift_session_streams", "gauge", hub.subscribers],
    ["foreshift_session_changes_replicated_total", "counter", samples],
    ["foreshift_session_lag_p50_seconds", "gauge", inSeconds(lagMsP50)],
    ["foreshift_session_lag_p99_seconds", "gauge", inSeconds(lagMsP99)],
    ["foreshift_session_lag_max_seconds", "gauge", inSeconds(lagMsMax)],
  ];
  const known = lines.filter(([, , value]) => value !== undefined);
  return known.map(([name, kind, value]) => `# TYPE ${name} ${kind}\n${name} ${value}\n`).join("");
}

function inSeconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1_000;
}
