/**
 * Rotates the keys of several kinds, one kind after the other, each as a child by its own id: an emergency, asked for by a person, or
 * one kind that is due. A kind whose rotation runs already is waited for and then rotated, or, when it was merely due, left to itself.
 */
import { WorkflowExecutionAlreadyStartedError } from "@temporalio/common";
import { executeChild, patched, sleep, workflowInfo } from "@temporalio/workflow";
import { type KeyKind, type KeysRotated, type RotateAllInput, type RotatedAll, scopeOf } from "../models/keys.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";
import { reasonOf } from "./failures.ts";
import type { rotateKeys } from "./rotate-keys.ts";
import { audit, Journal } from "./run.ts";

export async function rotateAll(input: RotateAllInput): Promise<RotatedAll> {
  const { by, kinds, reason, swarm } = input;
  const journal = new Journal({
    swarm,
    cause: "rotation",
    title: `Rotate ${kinds.join(", ")} keys, asked for by ${by}: ${reason}`,
  });
  const rotations: KeysRotated[] = [];
  const failed: KeyKind[] = [];
  for (const kind of kinds) {
    journal.enter(kind);
    try {
      const rotated = await rotateOne(journal, input, kind);
      if (rotated === undefined) continue;
      rotations.push(rotated);
      journal.note(`${kind}: ${rotated.text}`);
      if (rotated.outcome !== "rotated") failed.push(kind);
    } catch (thrown) {
      failed.push(kind);
      journal.note(`${kind}: ${reasonOf(thrown)}`);
    }
  }
  const outcome = failed.length === 0 ? "rotated" : "incomplete";
  const text = failed.length === 0 ? `Rotated: ${kinds.join(", ")}.` : `Not rotated to the end: ${failed.join(", ")}.`;
  const details = { by, reason, kinds, failed };
  const auditOutcome = outcome === "rotated" ? "done" : "failed";
  await audit({ name: "end", swarm, action: "rotate all keys", outcome: auditOutcome, text, details });
  journal.enter(outcome);
  return { workflowId: workflowInfo().workflowId, outcome, rotations, failed, text };
}

/** Undefined: one of this kind runs already, and nobody waits for it. */
async function rotateOne(journal: Journal, input: RotateAllInput, kind: KeyKind): Promise<KeysRotated | undefined> {
  const { by, reason, swarm, waits } = input;
  // Runs that were under way when the transit key became everybody's end as they began.
  const scope = kind !== "transit" || patched("transit-of-all") ? scopeOf(kind, swarm) : swarm;
  const workflowId = `rotate/${scope}/${kind}`;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await executeChild<typeof rotateKeys>("rotateKeys", {
        workflowId,
        args: [{ swarm: scope, kind, by, reason }],
      });
    } catch (thrown) {
      if (!(thrown instanceof WorkflowExecutionAlreadyStartedError) || attempt >= KEY_LIMITS.underWayLooksMax) throw thrown;
      journal.note(`${kind}: one runs already${waits ? "; it is waited for" : ""}.`);
      if (!waits) return undefined;
      await sleep(KEY_LIMITS.underWayPollMs, { summary: `Until the rotation of ${kind} keys that runs has ended` });
    }
  }
}
