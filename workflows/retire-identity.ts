/**
 * Ends the certificates of a machine that has ended: `retire/SWARM/ENDPOINT`. By itself, so that no drain waits for a Vault that is away: the
 * open runs are what is still to be revoked.
 */
import type { RetireIdentityInput } from "../models/keys.ts";
import { counted } from "../models/words.ts";
import { patientKeys } from "./queues.ts";
import { Journal, operationKey } from "./run.ts";

export async function retireIdentity({ endpoint, reason, swarm }: RetireIdentityInput): Promise<readonly string[]> {
  const title = `Revoke the certificates of ${endpoint}, whose machine is gone`;
  const journal = new Journal({ swarm, endpoint, cause: "revocation", title });
  journal.enter("revoking");
  const serials = await patientKeys.revokeIdentity.executeWithOptions({ summary: `Certificates of ${endpoint} on the list` }, [
    { swarm, endpoint, reason, operation: operationKey("identity") },
  ]);
  journal.note(`${counted(serials.length, "certificate")} on the revocation list.`);
  journal.enter("revoked");
  return serials;
}
