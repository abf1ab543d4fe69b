/**
 * The agent's local API: what the reflex and the workflows ask of an endpoint. Everything that changes something carries an
 * operation key and happens once.
 */
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { AgentStatus } from "../../drivers/ports.ts";
import type { RevokedPeer } from "../../models/keys.ts";
import { LIMITS } from "../../models/limits.ts";
import { parseInput } from "../../models/parse.ts";
import { Peer, PublicKey, SessionState } from "../../models/session.ts";
import { ipsecRoutes } from "./ipsec/api.ts";
import type { IpsecGateway } from "./ipsec/gateway.ts";
import type { Journal } from "./journal.ts";
import type { Sessions } from "./sessions.ts";
import type { Tunnels } from "./tunnels.ts";

const operation = z.string().min(1).max(512);
const PrepareBody = z.strictObject({ operation, peers: z.array(Peer).max(LIMITS.agent.peersMax) });
const AdoptBody = z.strictObject({ operation, sessions: z.array(SessionState).max(LIMITS.agent.adoptBatchMax) });
const RetireBody = z.strictObject({ operation, publicKeys: z.array(PublicKey).max(LIMITS.agent.adoptBatchMax) });
const RevokeBody = z.strictObject({
  operation,
  peers: z.array(z.strictObject({ publicKey: PublicKey, revision: z.number().int().nonnegative() })).max(LIMITS.agent.peersMax),
});
const RecoverBody = z.strictObject({ operation, adopts: z.boolean().default(true) });

export interface AgentApi {
  readonly tunnel: Tunnels;
  readonly sessions: Sessions;
  readonly journal: Journal;
  readonly status: () => AgentStatus;
  readonly recover: (adopts: boolean) => Promise<number>;
  readonly revoke: (peers: readonly RevokedPeer[]) => Promise<number>;
  /** Something was changed: look at the device at once. */
  readonly poke: () => void;
  /** Undefined where the endpoint is no IPsec gateway. */
  readonly ipsec: IpsecGateway | undefined;
}

export function agentRoutes(app: FastifyInstance, api: AgentApi): void {
  const { tunnel, sessions, journal } = api;
  if (api.ipsec !== undefined) ipsecRoutes(app, api.ipsec, journal);
  app.get("/v1/status", () => api.status());
  app.get("/v1/sessions", () => sessions.live());
  app.get("/v1/ipsec-sessions", () => ({ sessions: api.ipsec?.moves.held() ?? null }));
  app.get("/v1/identity-sessions", () => tunnel.identitySessions());
  app.get("/v1/journal", () => journal.entries());
  app.post("/v1/prepare", async (request) => {
    const body = parseInput(PrepareBody, request.body, "body");
    await journal.once(body.operation, "prepare", () => tunnel.configure(body.peers));
    return { ok: true };
  });
  app.post("/v1/adopt", async (request) => {
    const body = parseInput(AdoptBody, request.body, "body");
    await journal.once(body.operation, "adopt", () => tunnel.adopt(body.sessions));
    api.poke();
    return { ok: true };
  });
  app.post("/v1/retire", async (request) => {
    const body = parseInput(RetireBody, request.body, "body");
    await journal.once(body.operation, "retire", () => tunnel.retire(body.publicKeys));
    api.poke();
    return { ok: true };
  });
  app.post("/v1/load-keys", async (request) => {
    const body = parseInput(PrepareBody, request.body, "body");
    await journal.once(body.operation, "load keys", () => tunnel.loadKeys(body.peers));
    return { ok: true };
  });
  app.post("/v1/set-keys", async (request) => {
    const body = parseInput(PrepareBody, request.body, "body");
    await journal.once(body.operation, "set keys", () => tunnel.setKeys(body.peers));
    return { ok: true };
  });
  app.post("/v1/revoke", async (request) => {
    const body = parseInput(RevokeBody, request.body, "body");
    await journal.once(body.operation, "revoke", () => api.revoke(body.peers));
    api.poke();
    return { ok: true };
  });
  app.post("/v1/recover", async (request) => {
    const body = parseInput(RecoverBody, request.body, "body");
    await journal.once(body.operation, "recover", () => api.recover(body.adopts));
    api.poke();
    return { ok: true };
  });
}
