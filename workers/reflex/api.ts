/** The reflex's local API. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { ForeshiftError } from "../../models/errors.ts";
import type { Identity } from "../../models/identity.ts";
import { SteeringWord } from "../../models/ipsec/wire.ts";
import { LIMITS } from "../../models/limits.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { parseInput } from "../../models/parse.ts";
import { SessionState } from "../../models/session.ts";
import { EndpointName, SteeringState } from "../../models/steering.ts";
import { demand } from "../tls-gate.ts";
import { metricsText } from "./metrics.ts";
import type { Reflex } from "./reflex.ts";

const DesiredBody = SteeringState.extend({ operation: z.string().min(1).max(512) });
const SessionsBody = z.array(SessionState).max(LIMITS.reflex.sessionsMax);
const SessionsParams = z.object({ endpoint: EndpointName });
const SessionsQuery = z.object({ revocations: z.coerce.number().int().min(0).default(0) });
const EventsQuery = z.object({
  after: z.coerce.number().int().min(0).default(0),
  waitMs: z.coerce.number().int().min(0).max(LIMITS.reflex.eventsWaitMsMax).default(0),
});

/** Agents ask for the sessions and the probe's peers, and no more. */
const isReader = (peer: Identity) => peer.kind === "process";

export function reflexRoutes(app: FastifyInstance, reflex: Reflex): void {
  const get = (url: string, handler: (request: FastifyRequest, reply: FastifyReply) => unknown) =>
    app.get(url, (request, reply) => {
      demand(request, `read ${url}`, isReader);
      return handler(request, reply);
    });
  get("/v1/desired", (_, reply) => reply.type("application/json").send(JSON.stringify(reflex.desired ?? null)));
  app.put("/v1/desired", async (request) => {
    demand(request, "change the desired state", (peer) => peer.kind === "process" && peer.process === "control");
    return await reflex.apply(parseInput(DesiredBody, request.body, "body"));
  });
  get("/v1/health", () => reflex.health());
  app.get("/v1/sessions", () => reflex.sessions());
  app.put("/v1/endpoints/:endpoint/sessions", (request) => {
    const { endpoint } = parseInput(SessionsParams, request.params, "path");
    demand(request, `say which sessions ${endpoint} holds`, (peer) => peer.kind === "agent" && peer.endpoint === endpoint);
    if (reflex.isRevoked(endpoint))
      throw new ForeshiftError("ENDPOINT_REVOKED", { value: endpoint, detail: "its sessions are not heard" });
    const { revocations } = parseInput(SessionsQuery, request.query, "query");
    reflex.putSessions(endpoint, parseInput(SessionsBody, request.body, "body"), revocations);
    return { ok: true, probes: reflex.probesOf(endpoint), sentHere: reflex.sentTo(endpoint) };
  });
  app.put("/v1/endpoints/:endpoint/ipsec", { bodyLimit: IPSEC_LIMITS.wordBytesMax }, async (request) => {
    const { endpoint } = parseInput(SessionsParams, request.params, "path");
    demand(
      request,
      `say which IPsec sessions ${endpoint} holds`,
      (peer) => peer.kind === "agent" && peer.endpoint === endpoint,
    );
    if (reflex.isRevoked(endpoint))
      throw new ForeshiftError("ENDPOINT_REVOKED", { value: endpoint, detail: "its IPsec sessions are not heard" });
    await reflex.putIpsec(endpoint, parseInput(SteeringWord, request.body, "body"));
    return { ok: true };
  });
  get("/v1/events", async (request) => {
    const { after, waitMs } = parseInput(EventsQuery, request.query, "query");
    return await reflex.eventsAfter(after, waitMs);
  });
  app.get("/v1/probe-peers", () => reflex.probePeers());
  get("/v1/journal", () => reflex.journal());
  get("/metrics", async (_, reply) => reply.type("text/plain; version=0.0.4").send(await metricsText(reflex)));
}
