/** What follows from the probes' answers and misses: ejection with its sessions to their shadows, and the return. */
import { randomBytes } from "node:crypto";
import type { Logger } from "pino";
import { messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { KEY_LIMITS } from "../../models/limits-keys.ts";
import {
  afterAnswer,
  afterMiss,
  afterOverload,
  decideEjection,
  ejected,
  ejectionMs,
  mayReturn,
  returned,
  tolerated,
} from "../../models/outlier.ts";
import type { SessionState } from "../../models/session.ts";
import type { SteeringState } from "../../models/steering.ts";
import { counted } from "../../models/words.ts";
import type { Agents } from "./agents.ts";
import type { EventJournal } from "./event-journal.ts";
import type { IpsecFailover } from "./ipsec.ts";
import type { PathKeeper } from "./path-keeper.ts";
import type { Revocations } from "./revocations.ts";
import type { SessionBook } from "./session-book.ts";
import type { ReflexState } from "./state.ts";
import { Takeover } from "./takeover.ts";
import { type PacketCounts, Workload } from "./workload.ts";

export interface FailoverOptions {
  readonly state: ReflexState;
  readonly book: SessionBook;
  readonly path: PathKeeper;
  readonly agents: Agents;
  readonly events: EventJournal;
  readonly revocations: Revocations;
  readonly ipsec: IpsecFailover;
  readonly save: () => Promise<void>;
  readonly throughput: () => Promise<PacketCounts>;
  readonly lastAnswerAtMs: (endpoint: string) => number | undefined;
  readonly log: Logger;
}

export class Failover {
  readonly #around: FailoverOptions;
  readonly #state: ReflexState;
  readonly #takeover: Takeover;
  readonly #workload: Workload;
  /** Members whose ejection was refused since they last answered; said once. */
  readonly #refused = new Set<string>();
  /** Revoked members whose sessions are on their way. */
  readonly #leaving = new Map<string, NodeJS.Timeout>();
  #panic = false;

  constructor(options: FailoverOptions) {
    this.#around = options;
    this.#state = options.state;
    this.#workload = new Workload({
      state: options.state,
      book: options.book,
      count: options.throughput,
      counted: () => this.#decideAgain(),
      log: options.log,
    });
    this.#takeover = new Takeover({
      agentOf: (endpoint) => options.agents.of(endpoint),
      fit: () => options.state.fit(),
      roomOf: (endpoint) => this.#roomOf(endpoint),
      redirected: (moves) => this.#inBackground("redirect", () => options.path.follow(moves)),
      ended: (from, moved, left, tookMs) => this.#takeoverEnded(from, moved, left, tookMs),
      log: options.log,
    });
  }

  get inPanic(): boolean {
    return this.#panic;
  }

  /** An agent reports a session. */
  reported(session: SessionState): void {
    this.#takeover.reported(session, Date.now());
  }

  tick(): void {
    const nowMs = Date.now();
    this.#takeover.tick(nowMs);
    for (const [endpoint, record] of this.#state.records) this.#state.records.set(endpoint, afterOverload(record, nowMs));
    this.#workload.forgetBeyond(this.#state.records);
  }

  /** After a restart: sessions whose new handshake was not seen before it; agents skip those that came in the meantime. */
  resume(desired: SteeringState): void {
    const nowMs = Date.now();
    this.expel(desired);
    for (const { endpoint } of desired.members) {
      if (this.#state.record(endpoint).ejectedAtMs === undefined || !desired.outlier.takeover) continue;
      const moves = this.#takeover.assign(endpoint, this.#around.book.heldBy(endpoint, nowMs));
      this.#takeover.begin(moves, nowMs);
      const ipsec = this.#around.ipsec.assign(endpoint, nowMs);
      if (moves.length === 0 && ipsec.length === 0) continue;
      this.#inBackground("resume-takeover", async () => {
        await this.#around.path.follow(moves);
        await this.#around.ipsec.carryOut(ipsec);
      });
    }
  }

  answered(endpoint: string): void {
    const { desired } = this.#state;
    if (desired === undefined || !this.#state.records.has(endpoint)) return;
    const before = this.#state.record(endpoint);
    const record = afterAnswer(before);
    this.#state.records.set(endpoint, record);
    this.#refused.delete(endpoint);
    this.#workload.answered(endpoint);
    if (this.#refused.size === 0) this.#panic = false;
    if (!before.proven) this.#inBackground("save", () => this.#around.save());
    const knows = this.#around.revocations.isUpToDate(endpoint, this.#state.records.keys());
    if (knows && !this.#state.isRevoked(endpoint) && mayReturn(record, desired.outlier, Date.now()))
      this.#return(endpoint, desired);
  }

  missed(endpoint: string, refused: boolean): void {
    const { desired } = this.#state;
    if (desired === undefined || !this.#state.records.has(endpoint)) return;
    this.#state.records.set(endpoint, afterMiss(this.#state.record(endpoint)));
    this.#workload.look(endpoint, desired);
    this.#decide(endpoint, desired, refused);
  }

  /** Without WireGuard nothing is carried. */
  #decide(endpoint: string, desired: SteeringState, refused: boolean): void {
    const load = refused ? undefined : this.#workload.of(endpoint, desired);
    const decision = decideEjection(endpoint, [...this.#state.records.values()], desired.outlier, load);
    const misses = this.#state.record(endpoint).missesInARow;
    const why = refused ? "its WireGuard is gone" : `${misses} probes in a row were not answered`;
    if (decision.kind === "eject") this.#eject(endpoint, desired, why, refused);
    else if (decision.kind === "refuse") this.#refuse(endpoint, decision);
    else if (decision.kind === "tolerate") this.#tolerate(endpoint, decision.because);
  }

  /** What was counted says more of those that are silent than what was known when they missed their last probes. */
  #decideAgain(): void {
    const { desired, records } = this.#state;
    if (desired === undefined) return;
    const silent = [...records.values()].filter(
      ({ missesInARow, ejectedAtMs }) => missesInARow > 0 && ejectedAtMs === undefined,
    );
    for (const { endpoint, missesInARow } of silent) {
      if (missesInARow >= desired.outlier.missesToEject) this.#decide(endpoint, desired, false);
      this.#workload.look(endpoint, desired);
    }
  }

  #roomOf(endpoint: string): number {
    const { desired } = this.#state;
    const member = desired?.members.find((one) => one.endpoint === endpoint);
    if (desired?.capacitySessions === undefined || member === undefined) return Number.POSITIVE_INFINITY;
    return this.#workload.roomOf(endpoint, member.weight, desired.capacitySessions);
  }

  /** It keeps its sessions; new ones go elsewhere, unless everybody is as full. */
  #tolerate(endpoint: string, because: string): void {
    const nowMs = Date.now();
    const before = this.#state.record(endpoint);
    this.#state.records.set(endpoint, tolerated(before, nowMs));
    if (before.overloadedAtMs !== undefined) return;
    const text = `${endpoint} loses probes but is not ejected: ${because}`;
    const details = { because, misses: before.missesInARow };
    this.#around.events.add({ kind: "overloaded", endpoint, text, details }, nowMs);
    this.#inBackground("tolerate", async () => {
      if (this.#around.path.rebalance()) await this.#around.path.push();
    });
  }

  /**
   * Revoked members, whatever their probes say. Their sessions are called to their shadows at once, and what still comes through them is let
   * pass for the second that this may take: each session's way back follows when its shadow reports it. Then they are put out for good.
   */
  expel(desired: SteeringState): void {
    for (const { endpoint } of desired.members) {
      if (!this.#state.isRevoked(endpoint) || this.#leaving.has(endpoint)) continue;
      if (this.#state.record(endpoint).ejectedAtMs !== undefined) continue;
      const moves = this.#takeover.assign(endpoint, this.#around.book.heldBy(endpoint, Date.now()));
      if (moves.length === 0 || !desired.outlier.takeover) {
        this.#eject(endpoint, desired, "it was revoked");
        continue;
      }
      const putOut = () => this.#putOut(endpoint);
      this.#leaving.set(endpoint, setTimeout(putOut, KEY_LIMITS.expelMs));
      this.#takeover.begin(moves, Date.now());
      this.#inBackground("expel", () => this.#around.path.pin(moves));
    }
  }

  close(): void {
    for (const timer of this.#leaving.values()) clearTimeout(timer);
  }

  #putOut(endpoint: string): void {
    clearTimeout(this.#leaving.get(endpoint));
    this.#leaving.delete(endpoint);
    const { desired } = this.#state;
    if (desired === undefined || !this.#state.records.has(endpoint)) return;
    if (this.#state.record(endpoint).ejectedAtMs === undefined) this.#eject(endpoint, desired, "it was revoked");
  }

  #refuse(endpoint: string, decision: { panic: boolean; because: string }): void {
    const known = this.#refused.has(endpoint);
    this.#refused.add(endpoint);
    if (decision.panic && !this.#panic) {
      this.#panic = true;
      const text = `nobody is ejected: ${decision.because}; the prober itself may be at fault`;
      this.#around.events.add({ kind: "panic", endpoint: undefined, text, details: { because: decision.because } }, Date.now());
    }
    if (known) return;
    const text = `${endpoint} does not answer but is not ejected: ${decision.because}`;
    this.#around.events.add(
      { kind: "ejection-refused", endpoint, text, details: { because: decision.because, panic: decision.panic } },
      Date.now(),
    );
  }

  /** Everything in one go: nothing here waits for a disk, a controller or another endpoint's answer. */
  #eject(endpoint: string, desired: SteeringState, why: string, refused = false): void {
    const nowMs = Date.now();
    const record = ejected(this.#state.record(endpoint), desired.outlier, nowMs);
    this.#state.records.set(endpoint, record);
    this.#refused.delete(endpoint);
    const sessions = this.#around.book.heldBy(endpoint, nowMs);
    const moves = this.#takeover.assign(endpoint, sessions);
    if (desired.outlier.takeover) this.#takeover.begin(moves, nowMs);
    const ipsec = desired.outlier.takeover ? this.#around.ipsec.assign(endpoint, nowMs) : [];
    this.#inBackground("eject", async () => {
      await this.#around.path.follow(moves);
      if (ipsec.length > 0) this.#inBackground("ipsec", () => this.#around.ipsec.carryOut(ipsec));
      const followedMs = Date.now() - nowMs;
      this.#around.log.info({ event: "ejection-in-force", endpoint, sessions: moves.length, tookMs: followedMs });
      this.#around.path.rebalance();
      await this.#around.path.push();
      await this.#around.save();
    });
    const lastAnswerAtMs = this.#around.lastAnswerAtMs(endpoint) ?? nowMs;
    const until = this.#state.isRevoked(endpoint) ? "for good" : `for at least ${ejectionMs(record, desired.outlier)} ms`;
    this.#around.events.add(
      {
        kind: "ejected",
        endpoint,
        text: `${endpoint} is out ${until}: ${why}; ${counted(moves.length, "session")} for the shadows`,
        details: {
          misses: record.missesInARow,
          refused,
          silentMs: nowMs - lastAnswerAtMs,
          sessions: sessions.length,
          moves: moves.length,
          shadows: [...new Set(moves.map((move) => move.to))].sort(),
          takeover: desired.outlier.takeover,
          ...this.#loadDetails(endpoint, desired),
        },
      },
      nowMs,
    );
  }

  /** What spoke for it, or against it, where its load was in doubt. */
  #loadDetails(endpoint: string, desired: SteeringState): Readonly<Record<string, number>> {
    const load = this.#workload.of(endpoint, desired);
    if (load?.carried === undefined) return {};
    const { silence } = load.carried;
    return { givenPackets: silence.given, passedPackets: silence.passed, roomElsewhere: load.roomElsewhere };
  }

  #return(endpoint: string, desired: SteeringState): void {
    const nowMs = Date.now();
    const before = this.#state.record(endpoint);
    this.#state.records.set(endpoint, returned(before, nowMs));
    const outMs = nowMs - (before.ejectedAtMs ?? nowMs);
    const text = `${endpoint} answers again after ${outMs} ms; its weight rises over ${desired.outlier.slowStartMs} ms`;
    this.#around.events.add({ kind: "returned", endpoint, text, details: { outMs, ejections: before.ejections } }, nowMs);
    this.#inBackground("return", async () => {
      await this.#around.ipsec.retire(endpoint);
      await this.#retireMoved(endpoint);
      this.#around.path.rebalance();
      await this.#around.path.push();
      await this.#around.save();
    });
  }

  /** The endpoint forgets sessions that live elsewhere by now, so that it begins no handshake for them. */
  async #retireMoved(endpoint: string): Promise<void> {
    const current = this.#around.book.current(Date.now());
    const moved = this.#around.book.all().filter((session) => {
      const holder = current.get(session.publicKey)?.endpoint;
      return session.endpoint === endpoint && holder !== undefined && holder !== endpoint;
    });
    const publicKeys = moved.map((session) => session.publicKey).slice(0, LIMITS.agent.adoptBatchMax);
    if (publicKeys.length === 0) return;
    try {
      const operation = `reflex/return/${endpoint}/${randomBytes(8).toString("hex")}`;
      await this.#around.agents.of(endpoint)?.retire({ operation, publicKeys });
      this.#around.book.forget(endpoint, new Set(publicKeys));
    } catch (thrown) {
      this.#around.log.warn({ event: "retire-failed", endpoint, detail: messageOf(thrown) });
    }
  }

  #takeoverEnded(from: string, moved: number, left: number, tookMs: number): void {
    const rest = left === 0 ? "" : `; ${counted(left, "client")} did not answer`;
    const text = `Shadows hold ${counted(moved, "session")} of ${from} after ${tookMs} ms${rest}`;
    this.#around.events.add({ kind: "sessions-moved", endpoint: from, text, details: { moved, left, tookMs } }, Date.now());
  }

  #inBackground(what: string, task: () => Promise<unknown>): void {
    task().catch((thrown: unknown) => this.#around.path.failed(what, thrown));
  }
}
