/**
 * Takes a process's or an endpoint's certificate out of use: `revoke/SWARM/…`.
 */
import { workflowInfo } from "@temporalio/workflow";
import type { CertificateRevoked, RevokeCertificateInput } from "../models/keys.ts";
import { patientKeys } from "./queues.ts";
import { Journal, operationKey } from "./run.ts";

export async function revokeCertificate(input: RevokeCertificateInput): Promise<CertificateRevoked> {
  const { by, reason, serial, swarm } = input;
  const journal = new Journal({
    swarm,
    cause: "revocation",
    title: `Revoke the certificate ${serial}, asked for by ${by}: ${reason}`,
  });
  journal.enter("revoking");
  await patientKeys.revokeCertificate.executeWithOptions({ summary: `${serial} on the revocation list` }, [
    { swarm, reason: `${reason} (asked for by ${by})`, operation: operationKey("revoke"), serial },
  ]);
  const text = `Certificate ${serial} is on the revocation list; connections with it end as processes read it, within a second or two.`;
  journal.note(text);
  journal.enter("revoked");
  return { workflowId: workflowInfo().workflowId, serial, text };
}
