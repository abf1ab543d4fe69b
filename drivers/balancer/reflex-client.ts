/** The reflex, asked over its unix socket. */
import { z } from "zod";
import { LIMITS } from "../../models/limits.ts";
import { SessionState } from "../../models/session.ts";
import { type MemberHealth, type ReflexEvent, SteeringState } from "../../models/steering.ts";
import { type Dial, NO_RETRY, RETRY_IDEMPOTENT, UnixHttpClient } from "../http-unix.ts";
import type { Balancer } from "../ports.ts";

export interface ReflexClientOptions {
  readonly socketPath: string;
  readonly dial?: Dial | undefined;
  /** For each attempt. */
  readonly timeoutMs?: number;
}

/** Changes carry operation keys and are asked again when no answer came; a long poll is not. */
export function reflexClient(options: ReflexClientOptions): Balancer & { close(): Promise<void> } {
  const { socketPath, dial } = options;
  const http = new UnixHttpClient({ socketPath, name: "reflex", ...(dial === undefined ? {} : { dial }) });
  const timeoutMs = options.timeoutMs ?? LIMITS.http.requestTimeoutMs;
  const call = { timeoutMs, retry: RETRY_IDEMPOTENT };
  return {
    desired: async () => (await http.get("/v1/desired", { ...call, schema: SteeringState.nullable() })) ?? undefined,
    apply: async (state) => {
      await http.put("/v1/desired", { ...call, timeoutMs: timeoutMs + LIMITS.reflex.nftTimeoutMs, body: state });
    },
    health: () => http.get<readonly MemberHealth[]>("/v1/health", call),
    sessions: () => http.get("/v1/sessions", { ...call, schema: z.array(SessionState) }),
    events: ({ after, waitMs, signal }) =>
      http.get<readonly ReflexEvent[]>(`/v1/events?after=${after}&waitMs=${waitMs}`, {
        timeoutMs: timeoutMs + waitMs,
        retry: waitMs > 0 ? NO_RETRY : RETRY_IDEMPOTENT,
        ...(signal === undefined ? {} : { signal }),
      }),
    close: () => http.close(),
  };
}
