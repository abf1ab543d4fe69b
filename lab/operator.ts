/**
 * The person's tools beside a running lab: who they are to its processes. The certificates are renewed by the lab.
 */
import { dirname, join } from "node:path";
import { ProcessIdentity } from "../drivers/identity/process-identity.ts";
import { processIdentity } from "../models/identity.ts";
import { IDENTITY_LIMITS } from "../models/limits-identity.ts";
import type { Patience } from "../models/patience.ts";
import type { VaultProcess } from "../models/vault-layout.ts";
import type { Connection } from "../setup/connection.ts";

/** Undefined where processes ask for no certificate. UNAUTHORISED when it is not there or has ended: is the lab up? */
export async function operatorIdentity({ identityDir }: Pick<Connection, "identityDir">): Promise<ProcessIdentity | undefined> {
  return identityDir === undefined ? undefined : await borrowed("operator", identityDir);
}

/** As the control worker, which alone may change the balancer's table: what measures the balancer does so in its place. */
export async function controlIdentity(
  { identityDir }: Connection,
  { handshakeTimeoutMs }: Patience,
): Promise<ProcessIdentity | undefined> {
  const dir = identityDir === undefined ? undefined : join(dirname(identityDir), "control");
  return dir === undefined ? undefined : await borrowed("control", dir, handshakeTimeoutMs);
}

async function borrowed(process: VaultProcess, dir: string, handshakeTimeoutMs?: number): Promise<ProcessIdentity> {
  const identity = new ProcessIdentity({
    uri: processIdentity(process),
    pki: undefined,
    dir,
    certificateTtlMs: IDENTITY_LIMITS.certificateTtlMs,
    handshakeTimeoutMs,
    // The list beside the certificate is kept fresh by whose it is.
    crlSources: () => [],
    staleCrl: { newConnections: "refuse", established: "keep" },
    note: () => undefined,
  });
  await identity.start();
  return identity;
}
