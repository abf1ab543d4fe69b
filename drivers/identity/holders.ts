/**
 * Processes that hold a certificate, as a rotation asks them: for a new one, for what they hold, and which they really show.
 */
import { z } from "zod";
import { LIMITS } from "../../models/limits.ts";
import { type Dial, RETRY_IDEMPOTENT, UnixHttpClient } from "../http-unix.ts";
import type { CertificateHolder } from "../key-ports.ts";
import type { ProcessIdentity } from "./process-identity.ts";

const Held = z.object({ serial: z.string(), peers: z.array(z.string()) });
const Renewed = z.object({ serial: z.string() });

export interface RemoteHolderOptions {
  readonly name: string;
  readonly where: string;
  /** Absent where its API is a unix socket without certificates. */
  readonly dial: Dial | undefined;
}

export function remoteHolder({ name, where, dial }: RemoteHolderOptions): CertificateHolder & { close(): Promise<void> } {
  const http = new UnixHttpClient({ socketPath: where, name, ...(dial === undefined ? {} : { dial }) });
  const call = { timeoutMs: LIMITS.http.requestTimeoutMs, retry: RETRY_IDEMPOTENT };
  return {
    name,
    held: () => http.get("/v1/certificate", { ...call, schema: Held }),
    renew: async (after) => {
      const body = { after };
      return (await http.post("/v1/certificate/renew", { ...call, body, schema: Renewed })).serial;
    },
    shown: async () => {
      if (dial === undefined) return undefined;
      const socket = await dial(where);
      try {
        return socket.getPeerX509Certificate()?.serialNumber;
      } finally {
        socket.destroy();
      }
    },
    close: () => http.close(),
  };
}

/** This process, which nobody connects to, and which connects to everybody. */
export function ownHolder(name: string, identity: ProcessIdentity): CertificateHolder {
  return {
    name,
    held: () => Promise.resolve({ serial: identity.certificate.serial, peers: identity.crl.serialsInUse() }),
    renew: (after) => identity.renewAfter(after),
    shown: () => Promise.resolve(undefined),
  };
}
