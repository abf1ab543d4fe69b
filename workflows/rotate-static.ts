/**
 * Another static key for the swarm. Every endpoint answers to the next one beside the one that serves; clients get a way to it beside
 * theirs, shake hands by it, and only then send by it. Both ways stay up in both directions, so nothing is held and nothing is lost. The
 * former key goes when all have moved, or when the grace period is over, with the names of those who have not.
 */
import { sleep, workflowInfo } from "@temporalio/workflow";
import { batchSize, type KeysRotated } from "../models/keys.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";
import { alone, broughtUp, type StaticIdentity, servingOf, switchedBack, switchedOver } from "../models/static-identities.ts";
import type { KeyPolicy } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { reasonOf } from "./failures.ts";
import { keys as keySteps, patientKeys } from "./queues.ts";
import type { Rotation } from "./rotation.ts";
import { operationKey, step } from "./run.ts";

/** Of a run's id, which ends in what is random. */
const RUN_CHARS = 6;

/** Undefined: so far so good, and it is time to go on in a new run, whose history is empty. */
export async function rotateStatic(rotation: Rotation): Promise<KeysRotated | undefined> {
  try {
    const { static: policy } = await keySteps.keyPolicy.executeWithOptions({ summary: "What does the swarm file say?" }, [
      { swarm: rotation.input.swarm },
    ]);
    return await new StaticRotation(rotation, policy).run();
  } catch (thrown) {
    return await rotation.finish("failed", `Stopped in the midst: ${reasonOf(thrown)}. ${summaryOf(rotation)}`);
  }
}

function summaryOf({ progress }: Rotation): string {
  const { done, named, skipped, total } = progress;
  const rest = skipped === 0 ? "" : ` ${skipped} have not: ${named.join(", ")}.`;
  return `${done} of ${counted(total, "client")} moved to the next static key.${rest}`;
}

class StaticRotation {
  readonly #rotation: Rotation;
  readonly #policy: KeyPolicy["static"];
  /** Clients that send by the next key. */
  readonly #moved: Set<string>;
  #identities: readonly StaticIdentity[] = [];
  #steps = 0;

  constructor(rotation: Rotation, policy: KeyPolicy["static"]) {
    this.#rotation = rotation;
    this.#policy = policy;
    this.#moved = new Set(rotation.input.moved);
  }

  async run(): Promise<KeysRotated | undefined> {
    const rotation = this.#rotation;
    const trouble = await this.#begin();
    if (trouble !== undefined) return await this.#undone(trouble);
    for (;;) {
      const left = await this.#round();
      if (typeof left === "string") return await this.#undone(left);
      if (left.length === 0 || this.#timeLeftMs() <= 0) return await this.#end(left);
      if (workflowInfo().continueAsNewSuggested) {
        rotation.carry([...this.#moved]);
        return undefined;
      }
      rotation.enter("waiting");
      const pauseMs = Math.min(this.#policy.retryEveryMs, this.#timeLeftMs());
      await sleep(pauseMs, { summary: `Before ${counted(left.length, "client")} is tried again` });
    }
  }

  /** A key that an earlier run has brought up, or left, is gone on with. Answers why there is none. */
  async #begin(): Promise<string | undefined> {
    const rotation = this.#rotation;
    rotation.enter("issuing");
    try {
      const { swarm } = rotation.input;
      const look = await keySteps.lookAtIdentities.executeWithOptions({ summary: "Which keys are there?" }, [{ swarm }]);
      this.#identities = look.identities;
      if (look.identities.length === 1) {
        const { path } = servingOf(look.identities).secret;
        const issued = await step(rotation.journal, () =>
          keySteps.issueStaticKey.executeWithOptions({ summary: "Issue a static key pair" }, [
            { ...this.#step("issue"), path, after: look.newest },
          ]),
        );
        this.#identities = broughtUp(look.identities, issued);
      }
      rotation.enter("distributing");
      await keySteps.stateIdentities.executeWithOptions({ summary: "Endpoints answer to it as well" }, [
        { ...this.#step("endpoints"), identities: this.#identities },
      ]);
      return undefined;
    } catch (thrown) {
      return reasonOf(thrown);
    }
  }

  /** One try at every client that has not moved. Answers those that still have not, or why everybody has to go back. */
  async #round(): Promise<readonly string[] | string> {
    const rotation = this.#rotation;
    const left: string[] = [];
    let after: string | undefined;
    for (let batches = this.#moved.size === 0 ? 0 : rotation.progress.batches; ; batches += 1) {
      const { publicKeys, clients } = await keySteps.nextClients.executeWithOptions({ summary: "Which clients are next?" }, [
        { swarm: rotation.input.swarm, after, limit: batchSize(batches, this.#policy.batchClients) },
      ]);
      if (publicKeys.length === 0) break;
      after = publicKeys.at(-1);
      const waiting = publicKeys.filter((publicKey) => !this.#moved.has(publicKey));
      const trouble = waiting.length === 0 ? undefined : await this.#move(waiting);
      if (trouble !== undefined) return trouble;
      left.push(...waiting.filter((publicKey) => !this.#moved.has(publicKey)));
      rotation.advance({ total: clients, done: this.#moved.size, batches: rotation.progress.batches + 1 });
    }
    rotation.advance({ skipped: left.length, named: left.slice(0, KEY_LIMITS.namedMax) });
    rotation.journal.note(summaryOf(rotation));
    return left;
  }

  /** A client whose packets do not come by the next key is put back, and with it everybody: what ails it may ail all. */
  async #move(publicKeys: readonly string[]): Promise<string | undefined> {
    const rotation = this.#rotation;
    const identity = this.#next;
    try {
      rotation.enter("distributing");
      const brought = await step(rotation.journal, () =>
        keySteps.bringIdentity.executeWithOptions(
          { summary: `A way to the next key for ${counted(publicKeys.length, "client")}` },
          [{ ...this.#step("bring"), publicKeys, identity }],
        ),
      );
      if (brought.taken.length === 0) return undefined;
      rotation.enter("verifying");
      const active = await this.#active(brought.taken);
      const before = await this.#seen(active, undefined);
      const shaken = brought.taken.filter((key) => before.some(({ publicKey }) => publicKey === key) || !active.includes(key));
      rotation.enter("switching");
      const { taken } = await patientKeys.useIdentity.executeWithOptions({ summary: "They send by the next key" }, [
        { ...this.#step("use"), publicKeys: shaken, identity },
      ]);
      for (const publicKey of taken) this.#moved.add(publicKey);
      const busy = taken.filter((publicKey) => active.includes(publicKey));
      const through = await this.#seen(busy, before);
      const silent = busy.filter((key) => !through.some(({ publicKey }) => publicKey === key));
      rotation.advance({ idle: rotation.progress.idle + taken.length - busy.length });
      if (silent.length === 0) return undefined;
      return `nothing came by the next key from ${counted(silent.length, "client")} with traffic: ${silent.slice(0, 3).join(", ")}`;
    } catch (thrown) {
      return reasonOf(thrown);
    }
  }

  #seen(publicKeys: readonly string[], before: Awaited<ReturnType<typeof keySteps.awaitByIdentity>> | undefined) {
    const { verifyTimeoutMs: timeoutMs } = this.#policy;
    const { swarm } = this.#rotation.input;
    const summary = before === undefined ? "Have they shaken hands by it?" : "Do their packets come by it?";
    return patientKeys.awaitByIdentity.executeWithOptions({ summary }, [
      { swarm, publicKeys, identity: this.#next, before, timeoutMs },
    ]);
  }

  async #active(publicKeys: readonly string[]): Promise<readonly string[]> {
    const looks = await keySteps.lookAtHandshakes.executeWithOptions({ summary: "Which of the clients carry traffic?" }, [
      { swarm: this.#rotation.input.swarm, publicKeys },
    ]);
    return looks.filter(({ active }) => active).map(({ publicKey }) => publicKey);
  }

  /** The next key serves, and the former one goes. With nobody moved and somebody left, the former one stays. */
  async #end(left: readonly string[]): Promise<KeysRotated> {
    const rotation = this.#rotation;
    if (this.#moved.size === 0 && left.length > 0)
      return await this.#undone("no client could be moved within the grace period");
    const [next, former] = [this.#next, this.#former];
    rotation.enter("switching");
    await this.#state("serving", switchedOver(this.#identities));
    await patientKeys.probeByServing.executeWithOptions({ summary: "Endpoints are probed by the next key" }, [
      { ...this.#step("probe"), identities: this.#identities },
    ]);
    await sleep(KEY_LIMITS.identityOverlapMs, { summary: "Probes go by the next key" });
    rotation.enter("retiring");
    await this.#drop(former, [...this.#moved]);
    await this.#state("retired", alone(this.#identities));
    await this.#destroy(former, next);
    const rest = left.length === 0 ? "" : " Their sessions by the former key have ended.";
    return await rotation.finish("rotated", `${summaryOf(rotation)}${rest} It is version ${next.secret.version}.`);
  }

  /** Everybody who has moved goes back; while somebody cannot be told to, both keys stay. */
  async #undone(trouble: string): Promise<KeysRotated> {
    const rotation = this.#rotation;
    rotation.enter("undoing");
    const moved = [...this.#moved];
    if (this.#identities.length > 1) {
      const [next, former] = [this.#next, this.#former];
      const { refused } = await patientKeys.useIdentity.executeWithOptions({ summary: "They send by the former key again" }, [
        { ...this.#step("back"), publicKeys: moved, identity: former },
      ]);
      if (refused.length > 0) {
        rotation.advance({ done: refused.length, skipped: 0, named: [] });
        const who = `${counted(refused.length, "client")} cannot be told to go back`;
        return await rotation.finish("failed", `${trouble}. Both static keys stay: ${who}.`);
      }
      if (former.state === "leaving") await this.#state("back", switchedBack(this.#identities));
      await this.#drop(next, moved);
      await this.#state("former", alone(this.#identities));
      await this.#destroy(next, former);
    }
    rotation.advance({ done: 0, idle: 0 });
    return await rotation.finish("undone", `The static key is as it was: ${trouble}.`);
  }

  /** Whoever cannot be reached keeps a way that leads nowhere, and does not use it. */
  async #drop(identity: StaticIdentity, publicKeys: readonly string[]): Promise<void> {
    try {
      await keySteps.dropIdentity.executeWithOptions({ summary: "Clients take the other way down" }, [
        { ...this.#step("drop"), publicKeys, identity },
      ]);
    } catch (thrown) {
      this.#rotation.journal.note(`Clients keep a way that leads nowhere: ${reasonOf(thrown)}`);
    }
  }

  async #state(name: string, identities: readonly StaticIdentity[]): Promise<void> {
    this.#identities = identities;
    await patientKeys.stateIdentities.executeWithOptions({ summary: `Endpoints: ${name}` }, [
      { ...this.#step(name), identities },
    ]);
  }

  /** No endpoint answers to it any more. It is tried for as long as it takes, at a slow pace, with Vault sealed or refusing. */
  async #destroy(identity: StaticIdentity, kept: StaticIdentity): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await keySteps.destroyStaticKey.executeWithOptions({ summary: "Destroy its version" }, [
          { ...this.#step(`destroy-${attempt}`), identity, keep: kept.secret },
        ]);
      } catch (thrown) {
        if (attempt >= KEY_LIMITS.retireAttemptsMax) throw thrown;
        this.#rotation.journal.note(`Its version is not destroyed yet: ${reasonOf(thrown)}`);
        await sleep(KEY_LIMITS.retireRetryMs, { summary: "Before Vault is asked again" });
      }
    }
  }

  /** Of two, the one that came later: it is beside the one that serves, or serves while the other leaves. */
  get #next(): StaticIdentity {
    return this.#one(({ state }) => state === "beside") ?? servingOf(this.#identities);
  }

  get #former(): StaticIdentity {
    return this.#one(({ state }) => state === "leaving") ?? servingOf(this.#identities);
  }

  #one(is: (identity: StaticIdentity) => boolean): StaticIdentity | undefined {
    return this.#identities.find(is);
  }

  #timeLeftMs(): number {
    return this.#rotation.progress.startedAtMs + this.#policy.graceMs - Date.now();
  }

  #step(name: string): { swarm: string; reason: string; operation: string } {
    const { input, why } = this.#rotation;
    this.#steps += 1;
    // Steps are counted anew in each run that goes on for the one before.
    const run = workflowInfo().runId.slice(-RUN_CHARS);
    return { swarm: input.swarm, reason: why, operation: operationKey(`${name}-${run}-${this.#steps}`) };
  }
}
