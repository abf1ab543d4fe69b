/**
 * An endpoint's agent, asked over its unix socket.
 */
import { z } from "zod";
import { LIMITS } from "../../models/limits.ts";
import { type Peer, SessionState } from "../../models/session.ts";
import { type Dial, RETRY_IDEMPOTENT, UnixHttpClient } from "../http-unix.ts";
import type { AgentStatus, EndpointAgent, IdentitySessions } from "../ports.ts";

const AgentStatusAnswer: z.ZodType<AgentStatus> = z.object({
  endpoint: z.string(),
  tunnelUp: z.boolean(),
  sessions: z.number(),
  clockMs: z.number(),
  sessionsVersion: z.number(),
  identities: z.array(z.string()),
});

const IdentitySessionsAnswer: z.ZodType<IdentitySessions[]> = z.array(
  z.object({
    identity: z.string(),
    sessions: z.array(z.object({ publicKey: z.string(), lastHandshakeMs: z.number(), rxBytes: z.number() })),
  }),
);

export interface AgentClientOptions {
  readonly socketPath: string;
  readonly dial?: Dial | undefined;
  /** For each attempt; the reflex, which is in a hurry, asks for less than the workflows. */
  readonly timeoutMs?: number;
}

/** Every call is retried when it got no answer: changes carry operation keys. */
export function agentClient(options: AgentClientOptions): EndpointAgent & { close(): Promise<void> } {
  const { socketPath, dial } = options;
  const http = new UnixHttpClient({ socketPath, name: "agent", ...(dial === undefined ? {} : { dial }) });
  const call = { timeoutMs: options.timeoutMs ?? LIMITS.agent.requestTimeoutMs, retry: RETRY_IDEMPOTENT };
  const post = async (action: string, body: object) => {
    await http.post(`/v1/${action}`, { ...call, body });
  };
  return {
    status: () => http.get("/v1/status", { ...call, schema: AgentStatusAnswer }),
    sessions: () => http.get("/v1/sessions", { ...call, schema: z.array(SessionState) }),
    identitySessions: () => http.get("/v1/identity-sessions", { ...call, schema: IdentitySessionsAnswer }),
    // A session is a peer with more to it, and may be given as one; what is more stays here.
    prepare: ({ operation, peers }) => post("prepare", { operation, peers: peers.map(peerAlone) }),
    adopt: (request) => post("adopt", request),
    retire: (request) => post("retire", request),
    recover: (request) => post("recover", request),
    loadKeys: ({ operation, peers }) => post("load-keys", { operation, peers: peers.map(peerAlone) }),
    setKeys: ({ operation, peers }) => post("set-keys", { operation, peers: peers.map(peerAlone) }),
    revoke: (request) => post("revoke", request),
    close: () => http.close(),
  };
}

function peerAlone({ publicKey, innerAddresses, presharedKey, revision }: Peer): Peer {
  return {
    publicKey,
    innerAddresses,
    ...(presharedKey === undefined ? {} : { presharedKey }),
    ...(revision === undefined ? {} : { revision }),
  };
}
