/**
 * Takes clients out for good: `revoke/SWARM/…`. Out of the endpoints first, within seconds; then their keys, however long Vault takes.
 */
import { sleep, workflowInfo } from "@temporalio/workflow";
import type { ClientsRevoked, RevokeClientsInput } from "../models/keys.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";
import { counted } from "../models/words.ts";
import { reasonOf } from "./failures.ts";
import { keys as keySteps, patientKeys } from "./queues.ts";
import { audit, Journal, operationKey } from "./run.ts";

export async function revokeClients(input: RevokeClientsInput): Promise<ClientsRevoked> {
  const { by, clients, reason, swarm } = input;
  const journal = new Journal({
    swarm,
    cause: "revocation",
    title: `Revoke ${counted(clients.length, "client")}, asked for by ${by}: ${reason}`,
  });
  journal.enter("revoking");
  const publicKeys = await keySteps.findClients.executeWithOptions({ summary: "Who are they?" }, [{ swarm, clients }]);
  const why = `${reason} (asked for by ${by})`;
  const { endpoints } = await patientKeys.revokeClients.executeWithOptions(
    { summary: `${counted(publicKeys.length, "client")} out of every endpoint` },
    [{ swarm, reason: why, operation: operationKey("revoke"), publicKeys }],
  );
  for (const { because, endpoint, outAfterMs } of endpoints)
    journal.note(outAfterMs === undefined ? `${endpoint}: ${because}` : `${endpoint}: out after ${Math.ceil(outAfterMs)} ms.`);
  journal.enter("destroying-keys");
  const keysDestroyed = await destroyKeys(journal, { swarm, reason: why, publicKeys });
  const unreached = endpoints.filter(({ outAfterMs }) => outAfterMs === undefined).map(({ endpoint }) => endpoint);
  const rest =
    unreached.length === 0 ? "" : ` ${unreached.join(", ")} could not be asked, and serves nobody again before it knows.`;
  const text = `${counted(publicKeys.length, "client")} revoked on ${endpoints.length - unreached.length} of ${counted(endpoints.length, "endpoint")}.${rest}`;
  const details = { by, reason, clients: publicKeys, endpoints, keysDestroyed };
  await audit({ name: "end", swarm, action: "revoke", outcome: "done", text, details });
  journal.note(text);
  journal.enter("revoked");
  return { workflowId: workflowInfo().workflowId, publicKeys, endpoints, keysDestroyed, text };
}

/** They let nobody in any more; so a Vault that is away costs nothing but patience. */
async function destroyKeys(
  journal: Journal,
  step: { swarm: string; reason: string; publicKeys: readonly string[] },
): Promise<boolean> {
  const options = { summary: "Destroy their preshared keys" };
  for (let attempt = 1; attempt <= KEY_LIMITS.retireAttemptsMax; attempt += 1) {
    try {
      await keySteps.destroyClientKeys.executeWithOptions(options, [{ ...step, operation: operationKey("destroy") }]);
      return true;
    } catch (thrown) {
      journal.note(`Their keys are not destroyed yet: ${reasonOf(thrown)}`);
      await sleep(KEY_LIMITS.retireRetryMs, { summary: "Before Vault is asked again" });
    }
  }
  return false;
}
