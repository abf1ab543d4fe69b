/**
 * What rotations of every kind share: progress that the Web UI and `foreshift keys status` show, time per phase, and the last word.
 */

import { workflowInfo } from "@temporalio/workflow";
import {
  type KeysRotated,
  newProgress,
  type RotateInput,
  type RotationOutcome,
  type RotationProgress,
  type RotationStatus,
} from "../models/keys.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";
import { store } from "./queues.ts";
import { audit, Journal, operationKey } from "./run.ts";

export class Rotation {
  readonly input: RotateInput;
  readonly journal: Journal;
  #progress: RotationProgress;
  #phaseSinceMs = Date.now();
  #outcome: RotationOutcome | undefined;
  #moved: readonly string[];
  #text = "";

  constructor(input: RotateInput) {
    const { by, carried, kind, reason, swarm } = input;
    this.input = input;
    this.journal = new Journal({ swarm, cause: "rotation", title: `Rotate ${kind} keys, asked for by ${by}: ${reason}` });
    this.#progress = carried ?? newProgress(Date.now());
    this.#moved = input.moved ?? [];
  }

  /** What a run that goes on for this one begins with. */
  get carried(): Pick<RotateInput, "carried" | "moved"> {
    return { carried: this.#progress, moved: this.#moved };
  }

  /** Clients that are through, of a kind that does not take them in their order. */
  carry(moved: readonly string[]): void {
    this.#moved = moved;
  }

  get progress(): RotationProgress {
    return this.#progress;
  }

  status(): RotationStatus {
    const { by, kind, reason, swarm } = this.input;
    const { phase } = this.journal;
    return { swarm, kind, by, reason, phase, outcome: this.#outcome, text: this.#text, ...this.#progress };
  }

  /** For every step on the world: who asked goes into the audit trail by the reason. */
  get why(): string {
    return `${this.input.reason} (asked for by ${this.input.by})`;
  }

  enter(phase: string): void {
    const nowMs = Date.now();
    const before = this.journal.phase;
    if (before !== "") {
      const spentMs = (this.#progress.phaseMs[before] ?? 0) + nowMs - this.#phaseSinceMs;
      this.#progress = { ...this.#progress, phaseMs: { ...this.#progress.phaseMs, [before]: spentMs } };
    }
    this.#phaseSinceMs = nowMs;
    this.journal.enter(phase);
  }

  advance(change: Partial<Omit<RotationProgress, "phaseMs" | "startedAtMs">>): void {
    this.#progress = { ...this.#progress, ...change };
  }

  /** Names the first of those that were left out. */
  skip(publicKeys: readonly string[]): void {
    const named = [...this.#progress.named, ...publicKeys].slice(0, KEY_LIMITS.namedMax);
    this.#progress = { ...this.#progress, skipped: this.#progress.skipped + publicKeys.length, named };
  }

  async finish(outcome: RotationOutcome, text: string): Promise<KeysRotated> {
    const { by, kind, reason, swarm } = this.input;
    this.enter(outcome);
    this.#outcome = outcome;
    this.#text = text;
    this.journal.note(text);
    if (outcome === "failed") {
      await store.page.executeWithOptions({ summary: "Page a person" }, [
        { operation: operationKey("page"), swarm, subject: `rotation of ${kind} keys stuck`, text },
      ]);
    }
    const details = { kind, by, reason, ...this.#progress };
    const auditOutcome = outcome === "rotated" ? "done" : "failed";
    await audit({ name: "end", swarm, action: `rotate ${kind} keys`, outcome: auditOutcome, text, details });
    return { workflowId: workflowInfo().workflowId, kind, outcome, text, ...this.#progress };
  }
}
