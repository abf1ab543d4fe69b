/** The probes of the last seconds and what became of them. */
import { LIMITS } from "../../models/limits.ts";
import type { ProbeStats } from "../../models/steering.ts";

interface Sent {
  readonly seq: number;
  readonly atMs: number;
  rttMs: number | undefined;
  missed: boolean;
}

export class ProbeWindow {
  #probes: Sent[] = [];
  #seq = 0;
  #lastAnswerAtMs: number | undefined;
  missesInARow = 0;
  answersInARow = 0;

  next(atMs: number): number {
    this.#seq += 1;
    this.sent(this.#seq, atMs);
    return this.#seq;
  }

  sent(seq: number, atMs: number): void {
    this.#probes.push({ seq, atMs, rttMs: undefined, missed: false });
    if (this.#probes.length > LIMITS.reflex.probesKeptMax) this.#probes.shift();
  }

  /** An answer that comes late clears the misses all the same. */
  answered(seq: number, rttMs: number, atMs: number): void {
    const probe = this.#probes.find((candidate) => candidate.seq === seq);
    if (probe !== undefined) probe.rttMs = rttMs;
    this.#lastAnswerAtMs = atMs;
    this.missesInARow = 0;
    this.answersInARow += 1;
  }

  missed(seq: number): void {
    const probe = this.#probes.find((candidate) => candidate.seq === seq);
    if (probe !== undefined) probe.missed = true;
    this.missesInARow += 1;
    this.answersInARow = 0;
  }

  /** Probes that are still under way are not counted. */
  stats(nowMs: number): ProbeStats {
    const decided = this.#probes.filter(
      ({ atMs, rttMs, missed }) => nowMs - atMs <= LIMITS.reflex.probeWindowMs && (missed || rttMs !== undefined),
    );
    const rtts = decided.flatMap(({ rttMs }) => (rttMs === undefined ? [] : [rttMs])).sort((a, b) => a - b);
    return {
      sent: decided.length,
      answered: rtts.length,
      missesInARow: this.missesInARow,
      answersInARow: this.answersInARow,
      rttMsP50: rtts[Math.floor(rtts.length / 2)],
      rttMsP75: rtts[Math.floor(rtts.length * 0.75)],
      rttMsMax: rtts.at(-1),
      lastAnswerAtMs: this.#lastAnswerAtMs,
    };
  }
}
