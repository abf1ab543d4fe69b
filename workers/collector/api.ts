/**
 * The collector's local API: heartbeats and session deltas in, sessions and telemetry out.
 */
import { PassThrough } from "node:stream";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { ProcessIdentity } from "../../drivers/identity/process-identity.ts";
import type { PostgresStore } from "../../drivers/store/store.ts";
import type { Identity } from "../../models/identity.ts";
import { IpsecWord } from "../../models/ipsec/wire.ts";
import { LIMITS } from "../../models/limits.ts";
import { HEARTBEAT_LIMITS, IDENTITY_LIMITS } from "../../models/limits-identity.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { parseInput } from "../../models/parse.ts";
import { PublicKey, SessionState } from "../../models/session.ts";
import { EndpointName, SwarmName } from "../../models/steering.ts";
import { METRICS_TYPE, type MetricFamily, one, textOf } from "../prometheus.ts";
import { type DoorCounts, demand, isOfFormerCertificate, peerOf } from "../tls-gate.ts";
import type { CrlPublisher } from "./crl.ts";
import { type Intake, isOf } from "./intake.ts";
import type { IpsecHub } from "./ipsec-hub.ts";
import type { Lag } from "./lag.ts";
import type { OutsideFeed } from "./outside-feed.ts";
import type { RevokedEndpoints } from "./revoked-endpoints.ts";
import type { Rollups } from "./rollups.ts";
import type { SessionHub } from "./session-hub.ts";
import type { Shadows } from "./shadows.ts";
import type { Telemetry } from "./telemetry.ts";

const deltasMax = LIMITS.collector.sessionDeltasPerRequestMax;
const SessionsBody = z.strictObject({
  swarm: SwarmName,
  endpoint: EndpointName,
  upserts: z.array(SessionState).max(deltasMax),
  removed: z.array(PublicKey).max(deltasMax),
});
const SwarmQuery = z.object({ swarm: SwarmName });
const WindowParams = z.object({ swarm: SwarmName });
const WindowQuery = z.object({
  sinceMs: z.coerce.number().int().nonnegative().default(0),
  endpoint: EndpointName.optional(),
  /** Names with commas between. */
  metric: z.string().min(1).optional(),
});
const CrlQuery = z.object({
  after: z.coerce.bigint().nonnegative().optional(),
  waitMs: z.coerce.number().int().min(0).max(IDENTITY_LIMITS.crlWaitMsMax).default(0),
});
/** The version of the shadows that the endpoint knows. */
const IpsecQuery = z.object({ shadows: z.coerce.number().int().nonnegative().optional() });
const StreamQuery = z.object({
  swarm: SwarmName,
  after: z.coerce.number().int().nonnegative().default(0),
  /** An endpoint that wants the IPsec sessions which it is the shadow of as well. */
  ipsec: EndpointName.optional(),
});

export interface CollectorParts {
  readonly store: PostgresStore;
  readonly telemetry: Telemetry;
  readonly rollups: Rollups;
  readonly feed: OutsideFeed | undefined;
  readonly hub: SessionHub;
  readonly ipsec: IpsecHub;
  readonly shadows: Shadows;
  readonly lag: Lag;
  readonly intake: Intake;
  readonly revoked: RevokedEndpoints;
  /** Undefined without certificates. */
  readonly guard:
    | {
        readonly crl: CrlPublisher;
        readonly door: DoorCounts;
        readonly identity: Pick<ProcessIdentity, "certificate" | "onRenewed">;
      }
    | undefined;
}

/** What reads of all endpoints: the control plane and the people's tools. */
const isReader = (peer: Identity) => peer.kind === "process";

export function collectorRoutes(app: FastifyInstance, parts: CollectorParts): void {
  const { store, revoked, shadows } = parts;
  heartbeatRoute(app, parts);
  sessionStreamRoute(app, parts);
  readRoutes(app, parts);
  crlRoutes(app, parts);
  app.post("/v1/sessions", async (request) => {
    const deltas = parseInput(SessionsBody, request.body, "body");
    demand(request, `send sessions of ${deltas.endpoint} (${deltas.swarm})`, (peer) => isOf(peer, deltas));
    revoked.refuse(deltas);
    const candidates = shadows.candidates(deltas.swarm, Date.now());
    return { taken: await store.applyDeltas(deltas, shadows.namer(deltas.swarm, candidates)) };
  });
  ipsecRoute(app, parts);
}

export function ipsecRoute(app: FastifyInstance, { ipsec, revoked }: Pick<CollectorParts, "ipsec" | "revoked">): void {
  app.post("/v1/ipsec", { bodyLimit: IPSEC_LIMITS.wordBytesMax }, async (request) => {
    const word = parseInput(IpsecWord, request.body, "body");
    demand(request, `send IPsec sessions of ${word.endpoint} (${word.swarm})`, (peer) => isOf(peer, word));
    revoked.refuse(word);
    return ipsec.take(word, parseInput(IpsecQuery, request.query, "query").shadows);
  });
}

interface StreamParts extends Pick<CollectorParts, "revoked"> {
  readonly hub: Pick<SessionHub, "subscribe">;
  readonly ipsec?: IpsecHub;
  readonly guard: Pick<NonNullable<CollectorParts["guard"]>, "identity"> | undefined;
}

export function sessionStreamRoute(app: FastifyInstance, { guard, hub, ipsec, revoked }: StreamParts): void {
  app.get("/v1/sessions/stream", async (request, reply) => {
    const { swarm, after, ipsec: shadow } = parseInput(StreamQuery, request.query, "query");
    demand(request, `follow the sessions of ${swarm}`, (peer) => isReader(peer) || peer.swarm === swarm);
    // Sealed keys are for the endpoint alone that is to use them.
    if (shadow !== undefined)
      demand(request, `follow what ${shadow} is the shadow of`, (peer) => isOf(peer, { swarm, endpoint: shadow }));
    const out = new PassThrough();
    // Who follows comes back where it stands, and is shown the new certificate then.
    const forget = guard?.identity.onRenewed(() => out.end());
    out.once("close", () => forget?.());
    const peer = peerOf(request);
    if (peer?.kind === "agent") {
      revoked.refuse(peer);
      out.once(
        "close",
        revoked.whenOut(peer, () => out.destroy()),
      );
    }
    await hub.subscribe(swarm, after, out);
    if (shadow !== undefined) ipsec?.subscribe(swarm, shadow, out);
    // On a connection from before the renewal it would keep the former certificate in use for as long as it lasts.
    if (guard !== undefined && isOfFormerCertificate(request, guard.identity)) out.end();
    return reply.type("application/x-ndjson").send(out);
  });
}

function heartbeatRoute(app: FastifyInstance, { intake, telemetry }: CollectorParts): void {
  app.route({
    method: "POST",
    url: "/v1/heartbeats",
    bodyLimit: HEARTBEAT_LIMITS.bytesMax,
    onRequest: async (request) => intake.admit(request, Date.now()),
    errorHandler: (thrown) => {
      intake.unreadable(thrown);
      throw thrown;
    },
    handler: async (request, reply) => {
      const receivedAtMs = Date.now();
      const { swarm, endpoint } = intake.take(request, receivedAtMs);
      const peers = telemetry.peersFor(swarm, endpoint, receivedAtMs);
      return reply.code(202).send({ ok: true, receivedAtMs, peers, answeredAtMs: Date.now() });
    },
  });
}

/** The list is signed and meant for everybody; who may come in may have it. */
function crlRoutes(app: FastifyInstance, { guard }: CollectorParts): void {
  if (guard === undefined) return;
  app.get("/v1/crl", async (request, reply) => {
    const { after, waitMs } = parseInput(CrlQuery, request.query, "query");
    const patienceMs = isOfFormerCertificate(request, guard.identity) ? 0 : waitMs;
    const crl = await guard.crl.newerThan(after, patienceMs);
    return crl === undefined ? reply.code(204).send() : { crl };
  });
  app.post("/v1/crl/refresh", async (request) => {
    demand(request, "have the revocation list read anew", isReader);
    return { number: await guard.crl.refresh() };
  });
}

function readRoutes(app: FastifyInstance, parts: CollectorParts): void {
  const { store, telemetry, lag } = parts;
  const read = (url: string, handler: (request: FastifyRequest, reply: FastifyReply) => unknown) =>
    app.get(url, (request, reply) => {
      demand(request, `read ${url}`, isReader);
      return handler(request, reply);
    });
  read("/v1/sessions", (request) => store.sessions(parseInput(SwarmQuery, request.query, "query").swarm));
  read("/v1/telemetry", (request) => telemetry.latest(parseInput(SwarmQuery, request.query, "query").swarm));
  read("/v1/telemetry/:swarm", (request) => {
    const { swarm } = parseInput(WindowParams, request.params, "path");
    const { sinceMs, endpoint, metric } = parseInput(WindowQuery, request.query, "query");
    return telemetry.window.read(swarm, { sinceMs, endpoint, metrics: metric?.split(",") }, Date.now());
  });
  read("/v1/outside-events", () => store.outsideEvents({ activeAtMs: Date.now() }));
  read("/v1/lag", () => lag.summary());
  read("/metrics", (_request, reply) => reply.type(METRICS_TYPE).send(metricsText(parts)));
}

function metricsText(parts: CollectorParts): string {
  const { hub, lag } = parts;
  const { samples, lagMsP50, lagMsP99, lagMsMax } = lag.summary();
  const lines: MetricFamily[] = [
    ...telemetryLines(parts),
    one("foreshift_session_streams", "gauge", hub.subscribers),
    one("foreshift_session_changes_replicated_total", "counter", samples),
    one("foreshift_session_lag_p50_seconds", "gauge", inSeconds(lagMsP50)),
    one("foreshift_session_lag_p99_seconds", "gauge", inSeconds(lagMsP99)),
    one("foreshift_session_lag_max_seconds", "gauge", inSeconds(lagMsMax)),
  ];
  return textOf(lines);
}

function telemetryLines({ telemetry, rollups, feed, intake, guard }: CollectorParts): MetricFamily[] {
  const { received, written, dropped, queued, restarts, faults } = telemetry.counts();
  const rolled = Object.entries(rollups.counts());
  const outside = feed?.counts();
  return [
    one("foreshift_heartbeats_received_total", "counter", received),
    one("foreshift_heartbeats_written_total", "counter", written),
    one("foreshift_heartbeats_dropped_total", "counter", dropped),
    one("foreshift_heartbeats_queued", "gauge", queued),
    one("foreshift_agent_restarts_total", "counter", restarts),
    {
      name: "foreshift_telemetry_faults_total",
      kind: "counter",
      values: Object.entries(faults).map(([kind, value]) => [`{kind="${kind}"}`, value]),
    },
    {
      name: "foreshift_heartbeats_refused_total",
      kind: "counter",
      values: [...intake.refused].map(([kind, value]) => [`{why="${kind}"}`, value]),
    },
    {
      name: "foreshift_connections_refused_total",
      kind: "counter",
      values: [...(guard?.door.refused ?? [])].map(([kind, value]) => [`{why="${kind}"}`, value]),
    },
    one("foreshift_connections", "gauge", guard?.door.open),
    one("foreshift_telemetry_series", "gauge", telemetry.window.size),
    one("foreshift_telemetry_values_refused_total", "counter", telemetry.window.refused),
    {
      name: "foreshift_rollups_written_total",
      kind: "counter",
      values: rolled.map(([grain, counts]) => [`{grain="${grain}"}`, counts.written]),
    },
    {
      name: "foreshift_rollups_dropped_total",
      kind: "counter",
      values: rolled.map(([grain, counts]) => [`{grain="${grain}"}`, counts.dropped]),
    },
    one("foreshift_outside_events", "gauge", outside?.events),
    one("foreshift_outside_events_refused_total", "counter", outside?.refusedTotal),
    one("foreshift_outside_feed_reads_total", "counter", outside?.read),
    one("foreshift_outside_feed_failures_total", "counter", outside?.failed),
  ];
}

function inSeconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1_000;
}
