/**
 * The collector, asked over its unix socket.
 */

import { LIMITS } from "../../models/limits.ts";
import type { Heartbeat } from "../../models/observation.ts";
import type { SessionState } from "../../models/session.ts";
import { type Dial, RETRY_IDEMPOTENT, UnixHttpClient } from "../http-unix.ts";
import type { Telemetry } from "../ports.ts";

/** Milliseconds from an endpoint's observation of a session to its handling in the collector. */
export interface LagAnswer {
  readonly samples: number;
  readonly lagMsP50?: number;
  readonly lagMsP99?: number;
  readonly lagMsMax?: number;
  readonly lagMsLast?: number;
}

export interface CollectorClient extends Telemetry {
  /** Latest heartbeat of each endpoint. */
  telemetry(swarm: string): Promise<readonly Heartbeat[]>;
  sessions(swarm: string): Promise<readonly SessionState[]>;
  lag(): Promise<LagAnswer>;
  close(): Promise<void>;
}

export function collectorClient({ socketPath, dial }: { socketPath: string; dial?: Dial | undefined }): CollectorClient {
  const http = new UnixHttpClient({ socketPath, name: "collector", ...(dial === undefined ? {} : { dial }) });
  const call = { timeoutMs: LIMITS.http.requestTimeoutMs, retry: RETRY_IDEMPOTENT };
  return {
    telemetry: (swarm) => http.get(`/v1/telemetry?swarm=${encodeURIComponent(swarm)}`, call),
    window: (swarm, { sinceMs, endpoint, metrics }) => {
      const query = new URLSearchParams({ sinceMs: String(sinceMs) });
      if (endpoint !== undefined) query.set("endpoint", endpoint);
      if (metrics !== undefined) query.set("metric", metrics.join(","));
      return http.get(`/v1/telemetry/${encodeURIComponent(swarm)}?${query.toString()}`, call);
    },
    sessions: (swarm) => http.get(`/v1/sessions?swarm=${encodeURIComponent(swarm)}`, call),
    lag: () => http.get("/v1/lag", call),
    close: () => http.close(),
  };
}
