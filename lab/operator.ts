/**
 * The person's tools beside a running lab: who they are to its processes. The supervisor renews the certificate.
 */
import { ProcessIdentity } from "../drivers/identity/process-identity.ts";
import { processIdentity } from "../models/identity.ts";
import { IDENTITY_LIMITS } from "../models/limits-identity.ts";
import type { Connection } from "../setup/connection.ts";

/** Undefined where processes ask for no certificate. UNAUTHORISED when it is not there or has ended: is the lab up? */
export async function operatorIdentity({ identityDir }: Connection): Promise<ProcessIdentity | undefined> {
  if (identityDir === undefined) return undefined;
  const identity = new ProcessIdentity({
    uri: processIdentity("operator"),
    pki: undefined,
    dir: identityDir,
    certificateTtlMs: IDENTITY_LIMITS.certificateTtlMs,
    // The list beside the certificate is the supervisor's, which keeps it fresh.
    crlSources: () => [],
    staleCrl: { newConnections: "refuse", established: "keep" },
    note: () => undefined,
  });
  await identity.start();
  return identity;
}
