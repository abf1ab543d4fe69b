/**
 * The course of a fault that builds up: from the injection to the moment at which the machine fails its users for sure.
 */

/** A fault at work. `stop` undoes what can be undone; what has ended already is a success. */
export interface FaultAtWork {
  /** Rejects when the fault could not begin. */
  readonly begun: Promise<void>;
  stop(): Promise<void>;
  /** Told after the machine was repaired from outside, of faults that a repair does not cure. */
  repaired?(): void;
}

/** Runs a shell script in the machine, whatever it is made of. */
export type RunInside = (script: string) => Promise<void>;

export interface BuildUpOptions {
  readonly endpoint: string;
  readonly runInside: RunInside;
  /** From the injection to the failure. */
  readonly buildUpMs: number;
  readonly onFailure: (thrown: unknown) => void;
}

export class Course {
  readonly #startedAtMs = performance.now();
  readonly #buildUpMs: number;

  constructor(buildUpMs: number) {
    this.#buildUpMs = buildUpMs;
  }

  /** 0 at the injection, 1 from the failure on. */
  get linear(): number {
    return Math.min(1, (performance.now() - this.#startedAtMs) / this.#buildUpMs);
  }

  /** The same ends with hardly anything to see at first: half way it is a quarter. */
  get convex(): number {
    return this.linear ** 2;
  }
}
