/** The reflex's local API. */
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { LIMITS } from "../../models/limits.ts";
import { parseInput } from "../../models/parse.ts";
import { SessionState } from "../../models/session.ts";
import { EndpointName, SteeringState } from "../../models/steering.ts";
import { metricsText } from "./metrics.ts";
import type { Reflex } from "./reflex.ts";

const DesiredBody = SteeringState.extend({ operation: z.string().min(1).max(512) });
const SessionsBody = z.array(SessionState).max(LIMITS.reflex.sessionsMax);
const SessionsParams = z.object({ endpoint: EndpointName });
const EventsQuery = z.object({
  after: z.coerce.number().int().min(0).default(0),
  waitMs: z.coerce.number().int().min(0).max(LIMITS.reflex.eventsWaitMsMax).default(0),
});

export function reflexRoutes(app: FastifyInstance, reflex: Reflex): void {
  app.get("/v1/desired", async (_, reply) => reply.type("application/json").send(JSON.stringify(reflex.desired ?? null)));
  app.put("/v1/desired", async (request) => await reflex.apply(parseInput(DesiredBody, request.body, "body")));
  app.get("/v1/health", () => reflex.health());
  app.get("/v1/sessions", () => reflex.sessions());
  app.put("/v1/endpoints/:endpoint/sessions", (request) => {
    const { endpoint } = parseInput(SessionsParams, request.params, "path");
    reflex.putSessions(endpoint, parseInput(SessionsBody, request.body, "body"));
    return { ok: true, probes: reflex.probesOf(endpoint), sentHere: reflex.sentTo(endpoint) };
  });
  app.get("/v1/events", async (request) => {
    const { after, waitMs } = parseInput(EventsQuery, request.query, "query");
    return await reflex.eventsAfter(after, waitMs);
  });
  app.get("/v1/probe-peers", () => reflex.probePeers());
  app.get("/v1/journal", () => reflex.journal());
  app.get("/metrics", async (_, reply) => reply.type("text/plain; version=0.0.4").send(await metricsText(reflex)));
}
