/**
 * The lab as the hook by which clients are reached: it holds their hosts. Keys pass by reference; the lab reads them from Vault.
 */

import { z } from "zod";
import { KEY_LIMITS } from "../../models/limits-keys.ts";
import { RETRY_IDEMPOTENT, UnixHttpClient } from "../http-unix.ts";
import type { ClientProvisioner, IdentityOrder, Provisioned } from "../key-ports.ts";

const Answer: z.ZodType<Provisioned> = z.object({ taken: z.array(z.string()), refused: z.array(z.string()) });

export function labProvisioner(options: { socketPath: string }): ClientProvisioner & { close(): Promise<void> } {
  const http = new UnixHttpClient({ socketPath: options.socketPath, name: "lab" });
  const call = { timeoutMs: KEY_LIMITS.provisionTimeoutMs, retry: RETRY_IDEMPOTENT, schema: Answer };
  const order = (action: string, { identity, publicKeys }: IdentityOrder) =>
    http.post<Provisioned>(`/v1/clients/identity/${action}`, { ...call, body: { publicKeys, identity } });
  return {
    distribute: ({ keys }) => http.post("/v1/clients/keys/distribute", { ...call, body: { keys } }),
    activate: ({ keys, handshake }) => http.post("/v1/clients/keys/activate", { ...call, body: { keys, handshake } }),
    bringIdentity: (request) => order("bring", request),
    useIdentity: (request) => order("use", request),
    dropIdentity: (request) => order("drop", request),
    close: () => http.close(),
  };
}
