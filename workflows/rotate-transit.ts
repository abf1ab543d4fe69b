/**
 * A further version of the transit key. Every data key is wrapped anew, in bounded batches, and only when none is left that needs an old
 * version is the minimum raised. Nothing has to be undone: until then every version opens what it wrapped.
 */
import { sleep } from "@temporalio/workflow";
import type { KeysRotated } from "../models/keys.ts";
import { CODEC_LIMITS } from "../models/limits-codec.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";
import { counted } from "../models/words.ts";
import { reasonOf } from "./failures.ts";
import { keys as keySteps } from "./queues.ts";
import type { Rotation } from "./rotation.ts";
import { operationKey, step } from "./run.ts";

export async function rotateTransit(rotation: Rotation): Promise<KeysRotated> {
  const { journal } = rotation;
  let version: number;
  try {
    rotation.enter("issuing");
    const after = await keySteps.latestTransitVersion.executeWithOptions({ summary: "Which version is in use?" }, []);
    version = await step(journal, () =>
      keySteps.rotateTransit.executeWithOptions({ summary: `A version after ${after}` }, [
        { ...named(rotation, "rotate"), after },
      ]),
    );
  } catch (thrown) {
    return await rotation.finish("undone", `The transit key is as it was: ${reasonOf(thrown)}.`);
  }
  journal.note(`Version ${version} wraps data keys from here on.`);
  rotation.enter("distributing");
  await sleep(CODEC_LIMITS.registerWithinMs, { summary: "Data keys made just before are registered" });
  try {
    await rewrapAll(rotation);
    rotation.enter("retiring");
    await patiently(rotation, "Old versions are not given up yet", () =>
      keySteps.retireTransit.executeWithOptions({ summary: "Give up old versions" }, [named(rotation, "retire")]),
    );
  } catch (thrown) {
    const text = `Version ${version} is in use, and old ones still open what they wrapped: ${reasonOf(thrown)}.`;
    return await rotation.finish("failed", text);
  }
  const { done } = rotation.progress;
  return await rotation.finish(
    "rotated",
    `${counted(done, "data key")} wrapped anew by version ${version}; older ones are given up.`,
  );
}

async function rewrapAll(rotation: Rotation): Promise<void> {
  rotation.enter("rewrapping");
  for (;;) {
    const { batches, done } = rotation.progress;
    const { left, rewrapped } = await patiently(rotation, "Data keys are not wrapped anew yet", () =>
      keySteps.rewrapDataKeys.executeWithOptions({ summary: "Wrap data keys anew" }, [
        named(rotation, `rewrap-${batches + 1}`),
      ]),
    );
    rotation.advance({ batches: batches + 1, done: done + rewrapped, total: done + rewrapped + left });
    if (left === 0) return;
  }
}

/** At a slow pace, with Vault sealed or refusing: what was begun is in force already, and everything opens. */
async function patiently<T>(rotation: Rotation, what: string, make: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await step(rotation.journal, make);
    } catch (thrown) {
      if (attempt >= KEY_LIMITS.retireAttemptsMax) throw thrown;
      rotation.journal.note(`${what}: ${reasonOf(thrown)}`);
      await sleep(KEY_LIMITS.retireRetryMs, { summary: "Before Vault is asked again" });
    }
  }
}

function named({ input, why }: Rotation, name: string): { swarm: string; reason: string; operation: string } {
  return { swarm: input.swarm, reason: why, operation: operationKey(name) };
}
