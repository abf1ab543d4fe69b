/**
 * A host that gives a machine's CPU to others: what moves packets stands still for a growing share of short periods, so that at first only round
 * trips are a little longer, and in the end it does not run at all.
 */
import { movesPackets, processesOf } from "../namespace.ts";
import { type BuildUpOptions, Course, type FaultAtWork } from "./course.ts";

/** A slice of a scheduler of virtual machines: Xen's credit scheduler gives 30 ms, KVM's hosts a few. */
const PERIOD_MS = 20;
/** Timers are no finer. A shorter standstill is saved up for a period to come. */
const STANDSTILL_MS_MIN = 1;
/** WireGuard may be started again meanwhile, under another number. */
const LOOK_AGAIN_MS = 500;

export class CpuSteal implements FaultAtWork {
  readonly begun = Promise.resolve();
  readonly #endpoint: string;
  readonly #course: Course;
  #timer: NodeJS.Timeout;
  #pids: readonly number[] = [];
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #owedMs = 0;

  constructor({ endpoint, buildUpMs }: BuildUpOptions) {
    this.#endpoint = endpoint;
    this.#course = new Course(buildUpMs);
    this.#timer = setTimeout(() => this.#steal(), 0);
  }

  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    this.#lookedAtMs = Number.NEGATIVE_INFINITY;
    this.#signal("SIGCONT");
  }

  #steal(): void {
    const share = this.#course.convex;
    this.#owedMs += PERIOD_MS * share;
    const stoppedMs = share < 1 ? Math.min(this.#owedMs, PERIOD_MS - STANDSTILL_MS_MIN) : PERIOD_MS;
    if (stoppedMs < STANDSTILL_MS_MIN) {
      this.#timer = setTimeout(() => this.#steal(), PERIOD_MS);
      return;
    }
    this.#owedMs = Math.max(0, this.#owedMs - stoppedMs);
    this.#signal("SIGSTOP");
    this.#timer = setTimeout(() => {
      if (share < 1) this.#signal("SIGCONT");
      this.#timer = setTimeout(() => this.#steal(), PERIOD_MS - stoppedMs);
    }, stoppedMs);
  }

  #signal(signal: "SIGSTOP" | "SIGCONT"): void {
    if (performance.now() - this.#lookedAtMs > LOOK_AGAIN_MS) {
      this.#lookedAtMs = performance.now();
      this.#pids = processesOf(this.#endpoint)
        .filter(movesPackets)
        .map(({ pid }) => pid);
    }
    for (const pid of this.#pids) {
      try {
        process.kill(pid, signal);
      } catch {
        // It ended since we looked.
      }
    }
  }
}
