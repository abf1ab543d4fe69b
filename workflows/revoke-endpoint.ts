/**
 * Takes an endpoint out for good: `revoke/SWARM/…`. Nobody hears it and nothing is led to it within two seconds, with its sessions on their
 * shadows; its certificates go on the list, however long Vault takes. That its machine ends is the swarm's own decision.
 */
import { workflowInfo } from "@temporalio/workflow";
import { type EndpointRevoked, type RevokeEndpointInput } from "../models/keys.ts";
import { counted } from "../models/words.ts";
import { balancer, keys, patientKeys } from "./queues.ts";
import { audit, Journal, operationKey } from "./run.ts";

export async function revokeEndpoint(input: RevokeEndpointInput): Promise<EndpointRevoked> {
  const { by, endpoint, reason, swarm } = input;
  const title = `Revoke ${endpoint}, asked for by ${by}: ${reason}`;
  const journal = new Journal({ swarm, endpoint, cause: "revocation", title });
  journal.enter("revoking");
  await keys.findEndpoint.executeWithOptions({ summary: `Is there an endpoint ${endpoint}?` }, [{ swarm, endpoint }]);
  const step = { swarm, endpoint, reason: `${reason} (asked for by ${by})` };
  await patientKeys.revokeEndpoint.executeWithOptions({ summary: `Nobody hears ${endpoint} any more` }, [
    { ...step, operation: operationKey("revoke") },
  ]);
  const expelled = balancer.expelMember.executeWithOptions({ summary: `Nothing is led to ${endpoint} any more` }, [
    { ...step, operation: operationKey("expel") },
  ]);
  const listed = patientKeys.revokeIdentity.executeWithOptions({ summary: `Certificates of ${endpoint} on the list` }, [
    { ...step, operation: operationKey("identity") },
  ]);
  const { outAfterMs } = await expelled;
  const out = outAfterMs === undefined ? "is to be" : `was out after ${Math.ceil(outAfterMs)} ms`;
  journal.note(`${endpoint} ${outAfterMs === undefined ? "is not seen to be out yet; the balancer goes on" : out}.`);
  const serials = await listed;
  const text = textOf(endpoint, outAfterMs, serials.length);
  await audit({
    name: "end",
    swarm,
    endpoint,
    action: "revoke",
    outcome: "done",
    text,
    details: { by, reason, outAfterMs, serials },
  });
  journal.note(text);
  journal.enter("revoked");
  return { workflowId: workflowInfo().workflowId, endpoint, outAfterMs, serials, text };
}

function textOf(endpoint: string, outAfterMs: number | undefined, certificates: number): string {
  const out =
    outAfterMs === undefined
      ? "the balancer was told, and was not seen to obey in time"
      : `out after ${Math.ceil(outAfterMs)} ms`;
  const listed = `${counted(certificates, "certificate")} on the revocation list`;
  return `${endpoint} revoked: ${out}, ${listed}. The swarm ends its machine and puts another in its place.`;
}
