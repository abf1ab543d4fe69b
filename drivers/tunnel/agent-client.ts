/**
 * An endpoint's agent, asked over its unix socket.
 */
import type { Socket } from "node:net";
import { z } from "zod";
import { ForeshiftError } from "../../models/errors.ts";
import {
  AdoptedIpsec,
  HandedOver,
  HeldIpsec,
  type RetireOrder,
  type TakeOverOrder,
  TakeOverOutcome,
} from "../../models/ipsec/wire.ts";
import { LIMITS } from "../../models/limits.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { type Peer, SessionState } from "../../models/session.ts";
import { type Dial, NO_RETRY, RETRY_IDEMPOTENT, UnixHttpClient } from "../http-unix.ts";
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
  readonly dial?: Dial<Socket> | undefined;
  /** For each attempt; the reflex, which is in a hurry, asks for less than the workflows. */
  readonly timeoutMs?: number;
  /** Of its connections, where they are to be kept for longer than those of others. */
  readonly keepAliveMs?: number;
}

/** What the balancer asks of an endpoint that is an IPsec gateway. */
export interface IpsecAgent {
  /** Answers once SAs are in its kernel; nothing for an operation that a life of it before this one has carried out. */
  takeOverIpsec(order: TakeOverOrder): Promise<readonly TakeOverOutcome[]>;
  retireIpsec(order: RetireOrder): Promise<void>;
}

/** The same of one that is left on purpose. */
export interface LeavingIpsecAgent {
  /** Answers once the SAs are out of its kernel. Asked once: its clients wait. */
  handOverIpsec(order: RetireOrder): Promise<HandedOver>;
  close(): Promise<void>;
}

const HeldAnswer = z.object({ sessions: z.array(HeldIpsec).nullable() });
const AdoptAnswer = z.object({ sessions: z.array(AdoptedIpsec) });
const TakeOverAnswer = z.object({ sessions: z.array(TakeOverOutcome) });

/** Every call is retried when it got no answer: changes carry operation keys. */
export function agentClient(options: AgentClientOptions): EndpointAgent & IpsecAgent & LeavingIpsecAgent {
  const { socketPath, dial, keepAliveMs } = options;
  const http = new UnixHttpClient({
    socketPath,
    name: "agent",
    ...(dial === undefined ? {} : { dial }),
    ...(keepAliveMs === undefined ? {} : { keepAliveMs }),
  });
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
    ipsecSessions: async () => {
      try {
        return (await http.get("/v1/ipsec-sessions", { ...call, schema: HeldAnswer })).sessions ?? undefined;
      } catch (thrown) {
        // An agent of an older image has no such route: its sessions are handed over when it leaves.
        if (thrown instanceof ForeshiftError && thrown.code === "INVALID_FIELD") return undefined;
        throw thrown;
      }
    },
    adoptIpsec: async ({ operation, sessions }) => {
      const called = sessions.map(({ session, client, connection, children }) => ({ session, client, connection, children }));
      const options = { ...call, body: { operation, sessions: called }, schema: AdoptAnswer };
      return (await http.post("/v1/ipsec/adopt", options)).sessions;
    },
    letGoIpsec: async (body) => {
      await http.post("/v1/ipsec/let-go", { ...call, timeoutMs: IPSEC_LIMITS.letGoTimeoutMs, body });
    },
    takeOverIpsec: async (body) => {
      const options = { ...call, timeoutMs: IPSEC_LIMITS.takeOverTimeoutMs, body, schema: TakeOverAnswer };
      return (await http.post("/v1/ipsec/take-over", options)).sessions;
    },
    retireIpsec: async (body) => {
      await http.post("/v1/ipsec/retire", { ...call, timeoutMs: IPSEC_LIMITS.takeOverTimeoutMs, body });
    },
    handOverIpsec: (body) => {
      const options = { timeoutMs: IPSEC_LIMITS.handOverTimeoutMs, retry: NO_RETRY, body, schema: HandedOver };
      return http.post("/v1/ipsec/hand-over", options);
    },
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
