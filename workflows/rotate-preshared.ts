/**
 * A new preshared key for every client, in batches that begin with one client: issued and distributed while nobody uses it, switched on
 * both sides, verified by handshakes, and only then is the old version destroyed. WireGuard mixes the key into handshakes alone, so a
 * session goes on through the switch with the keys it has, for up to three minutes: long enough to go back, which needs no Vault.
 */

import { sleep, workflowInfo } from "@temporalio/workflow";
import type { HandshakeLook, VerifyOutcome } from "../activities/keys.ts";
import { batchSize, type KeyChange, type KeysRotated } from "../models/keys.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";
import type { KeyPolicy } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { reasonOf } from "./failures.ts";
import { keys as keySteps, patientKeys } from "./queues.ts";
import type { Rotation } from "./rotation.ts";
import { operationKey, step } from "./run.ts";

/** WireGuard's REKEY_AFTER_TIME: with traffic it shakes hands anew by then. */
const REKEY_AFTER_MS = 120_000;

type Policy = KeyPolicy["preshared"];

/** Undefined: so far so good, and it is time to go on in a new run, whose history is empty. */
export async function rotatePreshared(rotation: Rotation): Promise<KeysRotated | undefined> {
  try {
    const { preshared: policy } = await keySteps.keyPolicy.executeWithOptions({ summary: "What does the swarm file say?" }, [
      { swarm: rotation.input.swarm },
    ]);
    for (;;) {
      const finished = await nextBatch(rotation, policy);
      if (finished !== undefined) return finished;
      if (workflowInfo().continueAsNewSuggested) return undefined;
    }
  } catch (thrown) {
    return await rotation.finish("failed", `Stopped in the midst: ${reasonOf(thrown)}. ${summaryOf(rotation)}`);
  }
}

async function nextBatch(rotation: Rotation, policy: Policy): Promise<KeysRotated | undefined> {
  const { swarm } = rotation.input;
  const { after, batches } = rotation.progress;
  rotation.enter("choosing");
  const limit = batchSize(batches, policy.batchClients);
  const { publicKeys, clients } = await keySteps.nextClients.executeWithOptions({ summary: "Which clients are next?" }, [
    { swarm, after, limit },
  ]);
  rotation.advance({ total: clients });
  if (publicKeys.length === 0) return await rotation.finish("rotated", summaryOf(rotation));
  const trouble = await new Batch(rotation, policy, publicKeys).run();
  if (trouble !== undefined) {
    const text = `Batch ${batches + 1} was undone: ${trouble}. ${summaryOf(rotation)}`;
    return await rotation.finish("undone", text);
  }
  rotation.advance({ after: publicKeys.at(-1), batches: batches + 1 });
  const { done, skipped } = rotation.progress;
  const out = skipped === 0 ? "" : `, ${skipped} left out`;
  rotation.journal.note(`${done} of ${counted(clients, "client")} rotated${out}.`);
  return undefined;
}

function summaryOf({ progress }: Rotation): string {
  const { done, idle, named, skipped, total } = progress;
  const rest = idle === 0 ? "" : `, ${idle} of them without traffic: their next handshake uses the new key`;
  const out = skipped === 0 ? "" : ` ${skipped} keep the key they have: ${named.join(", ")}.`;
  return `${done} of ${counted(total, "client")} have a new preshared key${rest}.${out}`;
}

/** One batch, from fresh keys to old ones destroyed, or back. */
class Batch {
  readonly #rotation: Rotation;
  readonly #policy: Policy;
  readonly #publicKeys: readonly string[];
  readonly #name: string;

  constructor(rotation: Rotation, policy: Policy, publicKeys: readonly string[]) {
    this.#rotation = rotation;
    this.#policy = policy;
    this.#publicKeys = publicKeys;
    this.#name = `batch-${rotation.progress.batches + 1}`;
  }

  /** Undefined when it is through; else why it was undone. */
  async run(): Promise<string | undefined> {
    let issued: readonly KeyChange[] = [];
    let ready: readonly string[];
    try {
      issued = await this.#issue();
      ready = await this.#distribute(issued);
    } catch (thrown) {
      await this.#discard(issued, "discard");
      return reasonOf(thrown);
    }
    const keys = issued.filter(({ publicKey }) => ready.includes(publicKey));
    const unreached = issued.filter(({ publicKey }) => !ready.includes(publicKey));
    this.#rotation.skip(unreached.map(({ publicKey }) => publicKey));
    await this.#discard(unreached, "discard-unreached");
    return keys.length === 0 ? undefined : await this.#switch(keys);
  }

  async #issue(): Promise<readonly KeyChange[]> {
    this.#rotation.enter("issuing");
    const count = counted(this.#publicKeys.length, "preshared key");
    const { swarm } = this.#rotation.input;
    const clients = await keySteps.newestVersions.executeWithOptions({ summary: "Which versions are there?" }, [
      { swarm, publicKeys: this.#publicKeys },
    ]);
    return await step(this.#rotation.journal, () =>
      keySteps.issuePresharedKeys.executeWithOptions({ summary: `Issue ${count}` }, [{ ...this.#step("issue"), clients }]),
    );
  }

  async #distribute(keys: readonly KeyChange[]): Promise<readonly string[]> {
    this.#rotation.enter("distributing");
    const { taken } = await step(this.#rotation.journal, () =>
      keySteps.distributeKeys.executeWithOptions({ summary: "Endpoints and clients fetch the new keys" }, [
        { ...this.#step("distribute"), keys },
      ]),
    );
    return taken;
  }

  /** From here on it goes through or back, whatever the stop switch says: halted in between, clients would be cut off. */
  async #switch(keys: readonly KeyChange[]): Promise<string | undefined> {
    const { handshake, verifyTimeoutMs } = this.#policy;
    this.#rotation.enter("switching");
    try {
      await keySteps.setEndpointKeys.executeWithOptions({ summary: "Endpoints use the new keys from the next handshake on" }, [
        { ...this.#step("endpoints"), keys },
      ]);
    } catch (thrown) {
      await this.#undo({ keys, taken: [] });
      return reasonOf(thrown);
    }
    let before: readonly HandshakeLook[];
    let taken: readonly string[];
    try {
      before = await this.#look(keys);
      const told = await keySteps.activateClientKeys.executeWithOptions({ summary: "Clients use the new keys" }, [
        { ...this.#step("clients"), keys, handshake: handshake === "force" },
      ]);
      taken = told.taken;
    } catch (thrown) {
      // Some may have taken it before the answer was lost.
      await this.#undo({ keys: [], taken: keys });
      return reasonOf(thrown);
    }
    const timeoutMs = verifyTimeoutMs + (handshake === "await" ? REKEY_AFTER_MS : 0);
    const found = await this.#verify(taken, before, timeoutMs);
    return await this.#settle(keys, taken, found);
  }

  async #look(keys: readonly KeyChange[]): Promise<readonly HandshakeLook[]> {
    return await keySteps.lookAtHandshakes.executeWithOptions({ summary: "Which of the clients carry traffic?" }, [
      { swarm: this.#rotation.input.swarm, publicKeys: keys.map(({ publicKey }) => publicKey) },
    ]);
  }

  async #verify(taken: readonly string[], before: readonly HandshakeLook[], timeoutMs: number): Promise<VerifyOutcome> {
    this.#rotation.enter("verifying");
    const { swarm } = this.#rotation.input;
    return await patientKeys.verifyKeys.executeWithOptions(
      { summary: `New handshakes of ${counted(taken.length, "client")}?` },
      [{ swarm, publicKeys: taken, before, timeoutMs }],
    );
  }

  async #settle(keys: readonly KeyChange[], taken: readonly string[], found: VerifyOutcome): Promise<string | undefined> {
    const rotation = this.#rotation;
    const among = (publicKeys: readonly string[]) => keys.filter(({ publicKey }) => publicKeys.includes(publicKey));
    const refused = keys.filter(({ publicKey }) => !taken.includes(publicKey));
    const kept =
      refused.length + found.failed.length > 0 ? await this.#undo({ keys: refused, taken: among(found.failed) }) : [];
    const through = among([...found.verified, ...found.idle, ...kept]);
    await this.#retire(through);
    rotation.advance({
      done: rotation.progress.done + through.length,
      idle: rotation.progress.idle + found.idle.length,
    });
    rotation.skip(refused.map(({ publicKey }) => publicKey));
    if (found.failed.length === 0) return undefined;
    rotation.skip(found.failed);
    return `${counted(found.failed.length, "client")} with traffic did not shake hands with the new key`;
  }

  /** Answers the clients that keep the new key because nobody could tell them to go back. */
  async #undo(what: { keys: readonly KeyChange[]; taken: readonly KeyChange[] }): Promise<readonly string[]> {
    const rotation = this.#rotation;
    rotation.enter("undoing");
    const { kept } = await patientKeys.undoKeys.executeWithOptions({ summary: "Both sides go back to the key from before" }, [
      { ...this.#step("undo"), ...what },
    ]);
    rotation.journal.note(`Undone for ${what.keys.length + what.taken.length - kept.length} of ${this.#name}.`);
    const back = [...what.keys, ...what.taken].filter(({ publicKey }) => !kept.includes(publicKey));
    await this.#discard(back, "discard");
    return kept;
  }

  /** The new keys are in use by now: it is tried for as long as it takes, at a slow pace, with Vault sealed or refusing. */
  async #retire(keys: readonly KeyChange[]): Promise<void> {
    if (keys.length === 0) return;
    const rotation = this.#rotation;
    rotation.enter("retiring");
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await step(rotation.journal, () =>
          keySteps.retireKeys.executeWithOptions({ summary: `Destroy old versions of ${counted(keys.length, "key")}` }, [
            { ...this.#step("retire"), keys },
          ]),
        );
      } catch (thrown) {
        if (attempt >= KEY_LIMITS.retireAttemptsMax) throw thrown;
        rotation.journal.note(`Old versions not destroyed yet: ${reasonOf(thrown)}`);
        await sleep(KEY_LIMITS.retireRetryMs, { summary: "Before Vault is asked again" });
      }
    }
  }

  /** Nobody uses them; a Vault that refuses even this keeps versions that the next rotation destroys. */
  async #discard(keys: readonly KeyChange[], name: string): Promise<void> {
    if (keys.length === 0) return;
    try {
      await keySteps.discardKeys.executeWithOptions({ summary: `Destroy ${counted(keys.length, "unused version")}` }, [
        { ...this.#step(name), keys },
      ]);
    } catch (thrown) {
      this.#rotation.journal.note(`Unused versions stay until the next rotation: ${reasonOf(thrown)}`);
    }
  }

  #step(name: string): { swarm: string; reason: string; operation: string } {
    const { input, why } = this.#rotation;
    return { swarm: input.swarm, reason: why, operation: operationKey(`${this.#name}-${name}`) };
  }
}
