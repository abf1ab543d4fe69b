/** A machine that is squeezed: delay that rises from the start, and loss that begins later and rises too. */
import { movesPackets, signalHost } from "../namespace.ts";
import type { FaultAtWork, RunInside } from "./course.ts";
import { ChangingLoss } from "./ingress-loss.ts";

/** What moves its packets stands still for a growing part of each period. */
const BROWNOUT = {
  /** As the kernel's CPU quota has it by default. */
  periodMs: 100,
  stoppedShareFirst: 0.3,
  stoppedShareMax: 0.8,
  /** From the first share to the largest. */
  riseMs: 15_000,
  lossAfterMs: 10_000,
  lossFirst: 0.01,
  lossMax: 0.3,
  /** From the first loss to the largest. */
  lossRiseMs: 10_000,
  lossStepMs: 1_000,
} as const;

export class Brownout implements FaultAtWork {
  readonly begun = Promise.resolve();
  readonly #endpoint: string;
  readonly #startedAtMs = performance.now();
  readonly #loss: ChangingLoss;
  #timer: NodeJS.Timeout;

  constructor(endpoint: string, runInside: RunInside, onFailure: (thrown: unknown) => void) {
    this.#endpoint = endpoint;
    this.#timer = setTimeout(() => this.#squeeze(), 0);
    this.#loss = new ChangingLoss(runInside, { stepMs: BROWNOUT.lossStepMs, shareAt: () => this.#lossShare(), onFailure });
  }

  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    signalHost(this.#endpoint, "SIGCONT", movesPackets);
    await this.#loss.stop();
  }

  /** Stops them for their share of the period, then lets it run for the rest. */
  #squeeze(): void {
    const progress = Math.min(1, (performance.now() - this.#startedAtMs) / BROWNOUT.riseMs);
    const share = BROWNOUT.stoppedShareFirst + (BROWNOUT.stoppedShareMax - BROWNOUT.stoppedShareFirst) * progress;
    signalHost(this.#endpoint, "SIGSTOP", movesPackets);
    this.#timer = setTimeout(() => {
      signalHost(this.#endpoint, "SIGCONT", movesPackets);
      this.#timer = setTimeout(() => this.#squeeze(), BROWNOUT.periodMs * (1 - share));
    }, BROWNOUT.periodMs * share);
  }

  #lossShare(): number | undefined {
    const sinceMs = performance.now() - this.#startedAtMs - BROWNOUT.lossAfterMs;
    if (sinceMs < 0) return undefined;
    const progress = Math.min(1, sinceMs / BROWNOUT.lossRiseMs);
    return BROWNOUT.lossFirst + (BROWNOUT.lossMax - BROWNOUT.lossFirst) * progress;
  }
}
