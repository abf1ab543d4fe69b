/**
 * What silent members still carry: counts of the packets that went to them and came out of them, taken only while somebody's load is in
 * doubt, and the sessions that others have room for.
 */
import type { Logger } from "pino";
import { messageOf } from "../../models/errors.ts";
import { OVERLOAD_LIMITS } from "../../models/limits-overload.ts";
import { type Carried, isLoadInDoubt, type MemberLoad, type Throughput } from "../../models/overload.ts";
import type { SteeringState } from "../../models/steering.ts";
import type { SessionBook } from "./session-book.ts";
import type { ReflexState } from "./state.ts";

/** Packets so far, by the member's mark. */
export interface PacketCounts {
  readonly given: ReadonlyMap<number, number>;
  readonly passed: ReadonlyMap<number, number>;
}

export interface WorkloadOptions {
  readonly state: ReflexState;
  readonly book: SessionBook;
  readonly count: () => Promise<PacketCounts>;
  /** A stretch was counted: what is said of the silent may be another thing. */
  readonly counted: () => void;
  readonly log: Logger;
}

interface Count extends PacketCounts {
  readonly beganAtMs: number;
}

export class Workload {
  readonly #around: WorkloadOptions;
  readonly #silentSince = new Map<string, number>();
  /** Of the last second, the newest last. */
  #counts: readonly Count[] = [];
  #counting = false;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #sessions: { readonly atMs: number; readonly by: ReadonlyMap<string, number> } | undefined;

  constructor(options: WorkloadOptions) {
    this.#around = options;
  }

  answered(endpoint: string): void {
    this.#silentSince.delete(endpoint);
  }

  /** Somebody is silent: where its load is in doubt what it carries is counted, one stretch after the other. */
  look(endpoint: string, desired: SteeringState): void {
    const nowMs = Date.now();
    if (!this.#silentSince.has(endpoint)) this.#silentSince.set(endpoint, nowMs);
    const load = this.of(endpoint, desired);
    if (load !== undefined && isLoadInDoubt(load)) this.#count(nowMs);
  }

  forgetBeyond(members: ReadonlyMap<string, unknown>): void {
    for (const endpoint of this.#silentSince.keys()) if (!members.has(endpoint)) this.#silentSince.delete(endpoint);
  }

  /** Undefined where nothing is said of what a member carries. */
  of(endpoint: string, { members, capacitySessions }: SteeringState): MemberLoad | undefined {
    if (capacitySessions === undefined) return undefined;
    const { state } = this.#around;
    const sessions = this.#held(endpoint);
    const roomElsewhere = members
      .filter((other) => other.endpoint !== endpoint && !other.draining && state.isFit(other.endpoint))
      .reduce((room, other) => room + Math.max(0, this.roomOf(other.endpoint, other.weight, capacitySessions)), 0);
    return { sessions, capacity: capacitySessions, roomElsewhere, carried: this.#carriedBy(endpoint) };
  }

  /** Sessions that a member can take beside its own; what is overloaded can take none. */
  roomOf(endpoint: string, weight: number, capacitySessions: number): number {
    if (this.#around.state.record(endpoint).overloadedAtMs !== undefined) return 0;
    return Math.floor((capacitySessions * weight) / 100) - this.#held(endpoint);
  }

  #held(endpoint: string): number {
    const nowMs = Date.now();
    if (this.#sessions === undefined || nowMs - this.#sessions.atMs >= OVERLOAD_LIMITS.recountMs)
      this.#sessions = { atMs: nowMs, by: this.#around.book.counts(nowMs) };
    return this.#sessions.by.get(endpoint) ?? 0;
  }

  /** All counts lie in its silence, so that nothing counts that passed before it. */
  #carriedBy(endpoint: string): Carried | undefined {
    const sinceMs = this.#silentSince.get(endpoint);
    const mark = this.#around.state.slots.get(endpoint);
    if (sinceMs === undefined || mark === undefined) return undefined;
    const counts = this.#counts.filter(({ beganAtMs }) => beganAtMs >= sinceMs);
    const [first, newest] = [counts[0], counts.at(-1)];
    if (first === undefined || newest === undefined || first === newest) return undefined;
    const before = counts.findLast(({ beganAtMs }) => beganAtMs <= newest.beganAtMs - OVERLOAD_LIMITS.diedMsMin) ?? first;
    const grown = (from: Count, what: keyof PacketCounts) =>
      Math.max(0, (newest[what].get(mark) ?? 0) - (from[what].get(mark) ?? 0));
    const since = (from: Count): Throughput => ({ given: grown(from, "given"), passed: grown(from, "passed") });
    return { silence: since(first), newest: since(before) };
  }

  #count(beganAtMs: number): void {
    if (this.#counting || beganAtMs - this.#lookedAtMs < OVERLOAD_LIMITS.stretchMsMin) return;
    this.#counting = true;
    this.#lookedAtMs = beganAtMs;
    this.#around
      .count()
      .then((packets) => {
        const recent = this.#counts.filter((one) => one.beganAtMs >= beganAtMs - OVERLOAD_LIMITS.pastMsMax);
        this.#counts = [...recent, { ...packets, beganAtMs }];
      })
      .catch((thrown: unknown) => {
        this.#around.log.warn({ event: "workload-not-counted", detail: messageOf(thrown) });
      })
      .finally(() => {
        this.#counting = false;
        this.#around.counted();
      });
  }
}
