/**
 * The probes of the last seconds and what became of them. Silence is told by probes that were sent after the last answer came: where answers
 * are late, those that were under way when one came say nothing. Probes before the one that was answered first are of the time in which there
 * was nobody to answer yet: once one is, they are not held against it.
 */
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
  /** Newest probe that was under way, or answered, when the last answer came. */
  #heardAtSeq = 0;
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
    if (this.#lastAnswerAtMs === undefined) this.#probes = this.#probes.filter((earlier) => earlier.seq >= seq);
    this.#lastAnswerAtMs = atMs;
    this.#heardAtSeq = this.#probes.at(-1)?.seq ?? seq;
    this.missesInARow = 0;
    this.answersInARow += 1;
  }

  /** No answer came in time. True when nothing was heard since it was sent either, so that it is one more of those missed in a row. */
  missed(seq: number): boolean {
    const probe = this.#probes.find((candidate) => candidate.seq === seq);
    if (probe !== undefined) probe.missed = true;
    if (seq <= this.#heardAtSeq) return false;
    this.missesInARow += 1;
    this.answersInARow = 0;
    return true;
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
