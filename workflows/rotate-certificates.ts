/**
 * A further certificate for every endpoint of the swarm, in batches that begin with one, and then for the processes that all swarms share.
 * Old and new are good side by side until the new one is seen in use and the old one is not any more; only then is the old one revoked.
 * So there is nothing to undo: what was not brought to its end has two good certificates, one of which ends by itself within a day.
 */
import { sleep } from "@temporalio/workflow";
import { batchSize, type CertificateChange, type KeysRotated } from "../models/keys.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";
import { counted } from "../models/words.ts";
import { reasonOf } from "./failures.ts";
import { keys as keySteps, patientKeys } from "./queues.ts";
import type { Rotation } from "./rotation.ts";
import { operationKey, step } from "./run.ts";

export async function rotateCertificates(rotation: Rotation): Promise<KeysRotated> {
  const lingered: string[] = [];
  try {
    rotation.enter("choosing");
    const names = await keySteps.certificateHolders.executeWithOptions({ summary: "Who has a certificate?" }, []);
    rotation.advance({ total: names.length });
    const { certificates: policy } = await keySteps.keyPolicy.executeWithOptions({ summary: "What does the swarm file say?" }, [
      { swarm: rotation.input.swarm },
    ]);
    for (let at = 0, batch = 0; at < names.length; batch += 1) {
      const some = names.slice(at, at + batchSize(batch, KEY_LIMITS.certificateBatchMax));
      at += some.length;
      const trouble = await rotateBatch(rotation, some, policy.overlapMs, lingered);
      if (trouble !== undefined) return await rotation.finish("undone", `${trouble} ${summaryOf(rotation, lingered)}`);
      rotation.journal.note(`${rotation.progress.done} of ${counted(names.length, "certificate")} replaced.`);
    }
  } catch (thrown) {
    const text = `Certificates that were not replaced stay good: ${reasonOf(thrown)}. ${summaryOf(rotation, lingered)}`;
    return await rotation.finish(rotation.journal.phase === "retiring" ? "failed" : "undone", text);
  }
  return await rotation.finish("rotated", summaryOf(rotation, lingered));
}

/** Why the rotation ends here; undefined when the batch is through. */
async function rotateBatch(
  rotation: Rotation,
  names: readonly string[],
  timeoutMs: number,
  lingered: string[],
): Promise<string | undefined> {
  const { input, journal, why } = rotation;
  const { swarm } = input;
  const number = rotation.progress.batches + 1;
  const named = (name: string) => ({ swarm, reason: why, operation: operationKey(`batch-${number}-${name}`) });
  rotation.enter("issuing");
  const { held, unreached } = await keySteps.heldCertificates.executeWithOptions({ summary: "Which do they have?" }, [
    { names },
  ]);
  rotation.skip(unreached.map(({ name }) => name));
  for (const { name, why: because } of unreached) journal.note(`${name} keeps the one it has: ${because}`);
  rotation.advance({ batches: number });
  if (held.length === 0) return undefined;
  const changes = await step(journal, () =>
    keySteps.renewCertificates.executeWithOptions({ summary: `Another for ${held.map(({ name }) => name).join(", ")}` }, [
      { ...named("renew"), held },
    ]),
  );
  rotation.enter("verifying");
  const { lingering, unseen } = await patientKeys.awaitCertificates.executeWithOptions(
    { summary: `Are ${counted(changes.length, "new certificate")} in use?` },
    [{ changes, timeoutMs }],
  );
  const through = changes.filter(({ name }) => !unseen.includes(name));
  lingered.push(...lingering.filter((name) => !unseen.includes(name)));
  rotation.enter("retiring");
  await retire(rotation, through, named("retire"));
  rotation.advance({ done: rotation.progress.done + through.length });
  rotation.skip(unseen);
  return unseen.length === 0
    ? undefined
    : `The new certificate of ${unseen.join(", ")} was not seen in use; the old one stays good.`;
}

/** The new ones are in use: it is tried for as long as it takes, at a slow pace, with Vault sealed or refusing. */
async function retire(
  rotation: Rotation,
  changes: readonly CertificateChange[],
  named: { swarm: string; reason: string; operation: string },
): Promise<void> {
  if (changes.length === 0) return;
  const options = { summary: `Revoke ${counted(changes.length, "replaced certificate")}` };
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await step(rotation.journal, () =>
        keySteps.revokeCertificates.executeWithOptions(options, [{ ...named, changes }]),
      );
    } catch (thrown) {
      if (attempt >= KEY_LIMITS.retireAttemptsMax) throw thrown;
      rotation.journal.note(`Replaced certificates not revoked yet: ${reasonOf(thrown)}`);
      await sleep(KEY_LIMITS.retireRetryMs, { summary: "Before Vault is asked again" });
    }
  }
}

function summaryOf({ progress }: Rotation, lingered: readonly string[]): string {
  const { done, named, skipped, total } = progress;
  const out = skipped === 0 ? "" : ` ${skipped} keep the one they have: ${named.join(", ")}.`;
  const cut = lingered.length === 0 ? "" : ` Connections with the old one were ended: ${lingered.join(", ")}.`;
  return `${done} of ${counted(total, "certificate")} replaced, and the old ones revoked.${out}${cut}`;
}
