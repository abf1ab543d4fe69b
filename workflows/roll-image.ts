/**
 * Brings another image to every machine of a swarm. It watches and decides by models/roll.ts what is to be replaced next; the swarm, who
 * owns members and budget, begins the replacements, each of which moves sessions before it ends a machine.
 */
import { allHandlersFinished, condition, continueAsNew, setHandler, workflowInfo } from "@temporalio/workflow";
import type { RollWatchInput, WatchResult } from "../activities/watch.ts";
import { ForeshiftError } from "../models/errors.ts";
import { shortImage } from "../models/image.ts";
import * as rolls from "../models/roll.ts";
import type * as facts from "../models/swarm-messages.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { checked } from "./failures.ts";
import * as messages from "./messages.ts";
import { store, watcher } from "./queues.ts";
import { audit, Journal, operationKey, tellSwarm } from "./run.ts";
import { Watch } from "./watch.ts";

export interface RollInput {
  readonly swarm: string;
  readonly spec: SwarmSpec;
  readonly roll: rolls.RollState;
  /** Set by continue-as-new: counts operations, so that their keys never repeat. */
  readonly operations?: number;
}

export async function rollImage(input: RollInput): Promise<facts.RollFinished> {
  const rollout = new Rollout(input);
  setHandler(messages.pauseRollUpdate, (request) => rollout.pause(request), {
    validator: (request) => rollout.check(request),
    description: "Begin nothing more; what is under way ends",
  });
  setHandler(messages.resumeRollUpdate, (request) => rollout.resume(request), {
    validator: (request) => rollout.check(request),
    description: "Go on, and judge anew",
  });
  setHandler(messages.abortRollUpdate, (request) => rollout.abort(request), {
    validator: (request) => rollout.check(request),
    description: "Go back to the former image, or end where it is",
  });
  setHandler(messages.drainFinishedSignal, (fact) => rollout.replacementEnded(fact));
  setHandler(messages.rollQuery, () => rollout.status, { description: "How far it is" });

  while (!rollout.ended) {
    await rollout.turn();
    if (!workflowInfo().continueAsNewSuggested || rollout.ended) continue;
    await condition(allHandlersFinished);
    await continueAsNew<typeof rollImage>(rollout.carried);
  }
  const fact = await rollout.finish();
  await condition(allHandlersFinished);
  return fact;
}

class Rollout {
  readonly #input: RollInput;
  readonly #journal: Journal;
  readonly #watch = new Watch((input: RollWatchInput) =>
    watcher.watchRoll.executeWithOptions({ summary: "Watch until there is something new of the rollout" }, [input]),
  );
  #roll: rolls.RollState;
  #operations: number;
  #told = "";
  #shown = "";
  #stopped: WatchResult["stopped"];

  constructor(input: RollInput) {
    const { operations, roll, swarm } = input;
    const title = `Roll ${swarm} from ${roll.previous} to ${roll.image}, asked for by ${roll.by}`;
    this.#input = input;
    this.#roll = roll;
    this.#operations = operations ?? 0;
    this.#journal = new Journal({ swarm, cause: rolls.ROLL_CAUSE, title });
  }

  get ended(): boolean {
    return this.#roll.ended !== undefined;
  }

  get status(): rolls.RollStatus {
    return rolls.rollStatus(this.#roll);
  }

  get carried(): RollInput {
    return { ...this.#input, roll: this.#roll, operations: this.#operations };
  }

  /** One turn: tell the swarm what is wanted, watch, decide. */
  async turn(): Promise<void> {
    await this.#tell();
    const { changes } = this.#watch;
    const { spec, swarm } = this.#input;
    const seen = await this.#watch.next({ swarm, roll: this.#roll, spec, stopped: this.#stopped });
    if (seen === undefined || changes !== this.#watch.changes) return;
    const { observation, stopped } = seen;
    if ((stopped === undefined) !== (this.#stopped === undefined)) this.#takeSwitch(stopped);
    if (stopped !== undefined) return;
    const before = this.#roll;
    this.#roll = rolls.advance(before, spec, observation, observation.atMs);
    if (before.held === undefined && this.#roll.held !== undefined) await this.#page(this.#roll.held.why);
  }

  check(request: facts.RollControl): void {
    checked(() => {
      if (request.by === "")
        throw new ForeshiftError("INVALID_FIELD", { field: "by", value: "nothing", detail: "say who asks" });
      if (this.ended) throw new ForeshiftError("NO_ROLLOUT", { value: this.#input.swarm, detail: `: ${this.status.text}` });
    });
  }

  pause({ by }: facts.RollControl): Promise<rolls.RollStatus> {
    return this.#control("pause the rollout", rolls.pause(this.#roll, by), `${by} paused the rollout.`);
  }

  resume({ by }: facts.RollControl): Promise<rolls.RollStatus> {
    return this.#control("resume the rollout", rolls.resume(this.#roll), `${by} resumed the rollout.`);
  }

  abort({ by, keep }: facts.RollAbort): Promise<rolls.RollStatus> {
    const then = keep ? "it ends where it is" : "what was replaced goes back";
    return this.#control("abort the rollout", rolls.abort(this.#roll, by, keep), `${by} aborted the rollout: ${then}.`);
  }

  replacementEnded({ outcome, text }: facts.DrainFinished): void {
    this.#roll = rolls.replacementEnded(this.#roll, outcome === "replaced" || outcome === "drained", text);
    this.#journal.note(text);
    this.#watch.startAnew();
  }

  async finish(): Promise<facts.RollFinished> {
    const { swarm } = this.#input;
    const { by, direction, ended, image, previous } = this.#roll;
    const { outcome, text } = ended ?? { outcome: "left", text: "" };
    const details = { by, image, previous, direction, outcome };
    const auditOutcome = outcome === "rolled" ? "done" : "failed";
    await audit({ name: "end", swarm, action: "roll the image", outcome: auditOutcome, text, details });
    this.#show();
    // What is left where it was is of two images, of which the former is the one that was known to be good.
    const inForce = outcome === "rolled" ? image : previous;
    const fact: facts.RollFinished = { ...this.#fact(), image: inForce, outcome, text };
    await tellSwarm(swarm, messages.rollFinishedSignal, fact);
    return fact;
  }

  async #control(action: string, roll: rolls.RollState, text: string): Promise<rolls.RollStatus> {
    const { swarm } = this.#input;
    this.#roll = roll;
    this.#journal.note(text);
    this.#watch.startAnew();
    const name = `${action.split(" ")[0]}-${this.#nextOperation()}`;
    await audit({ name, swarm, action, outcome: "done", text, details: { image: roll.image } });
    return this.status;
  }

  /** The swarm replaces what was told last, until it is told otherwise. */
  async #tell(): Promise<void> {
    const fact = this.#fact();
    const word = JSON.stringify(fact);
    if (word === this.#told) return;
    this.#told = word;
    this.#show();
    await tellSwarm(this.#input.swarm, messages.rollAdvancedSignal, fact);
  }

  #fact(): facts.RollAdvanced {
    const { workflowId } = workflowInfo();
    return { workflowId, image: rolls.goalOf(this.#roll), endpoints: rolls.askedFor(this.#roll), status: this.status };
  }

  #show(): void {
    const { phase, text } = this.status;
    const isNews = phase !== this.#shown;
    this.#shown = phase;
    this.#journal.enter(this.#stopped === undefined ? phase : "halted");
    if (isNews) this.#journal.note(text);
  }

  #takeSwitch(stopped: WatchResult["stopped"]): void {
    this.#stopped = stopped;
    this.#roll = rolls.interrupted(this.#roll);
    this.#journal.enter(stopped === undefined ? this.status.phase : "halted");
    this.#journal.note(stopped === undefined ? "Resumed." : `Halted by the stop switch: ${stopped.reason}.`);
  }

  async #page(text: string): Promise<void> {
    const { swarm } = this.#input;
    const subject = `rollout of ${shortImage(this.#roll.image)} waits for a person`;
    await store.page.executeWithOptions({ summary: "Page a person" }, [
      { operation: operationKey(`page-${this.#nextOperation()}`), swarm, subject, text },
    ]);
  }

  #nextOperation(): number {
    this.#operations += 1;
    return this.#operations;
  }
}
