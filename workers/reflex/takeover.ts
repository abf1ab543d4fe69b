/**
 * Sessions of an ejected endpoint on their way to their shadows: asks the shadows' agents to start the handshakes, asks the next shadow
 * when one does not answer, asks again for those that are not confirmed.
 */
import type { Logger } from "pino";
import type { EndpointAgent } from "../../drivers/ports.ts";
import { messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import type { SessionState } from "../../models/session.ts";
import { shadowOf } from "../../models/shadow.ts";
import { designatedShadow } from "./session-book.ts";

export interface Move {
  readonly session: SessionState;
  readonly from: string;
  readonly to: string;
}

interface Underway extends Move {
  readonly beganAtMs: number;
  readonly askedAtMs: number;
  readonly attempts: number;
  /** Shadows whose agents did not answer. */
  readonly deaf: readonly string[];
}

export interface TakeoverSurroundings {
  readonly agentOf: (endpoint: string) => EndpointAgent | undefined;
  /** Members that may take sessions over now. */
  readonly fit: () => ReadonlySet<string>;
  /** Sessions that a member can take beside its own; infinite where that is not known. */
  readonly roomOf: (endpoint: string) => number;
  /** Moves were given another shadow: pins and ways back follow. */
  readonly redirected: (moves: readonly Move[]) => void;
  /** No session of `from` is under way any more. */
  readonly ended: (from: string, moved: number, left: number, tookMs: number) => void;
  readonly log: Logger;
}

export class Takeover {
  readonly #around: TakeoverSurroundings;
  readonly #moves = new Map<string, Underway>();
  readonly #outcome = new Map<string, { beganAtMs: number; moved: number; left: number }>();
  #operations = 0;

  constructor(around: TakeoverSurroundings) {
    this.#around = around;
  }

  /**
   * A shadow for each session of `from`, and for those on their way to it: one with room as long as there is any. Sessions nobody is fit
   * for are left out.
   */
  assign(from: string, sessions: readonly SessionState[]): readonly Move[] {
    const fit = this.#around.fit();
    const room = new Map([...fit].filter((endpoint) => endpoint !== from).map((one) => [one, this.#around.roomOf(one)]));
    const lost = new Map(sessions.map((session) => [session.publicKey, session]));
    for (const move of this.#moves.values()) if (move.to === from) lost.set(move.session.publicKey, move.session);
    return [...lost.values()].flatMap((session) => {
      const open = new Set([...room].filter(([, left]) => left >= 1).map(([endpoint]) => endpoint));
      const to = designatedShadow({ ...session, endpoint: from }, open.size > 0 ? open : fit);
      if (to === undefined) return [];
      room.set(to, (room.get(to) ?? 0) - 1);
      return [{ session, from, to }];
    });
  }

  /** Asks the shadows; returns at once. */
  begin(moves: readonly Move[], nowMs: number): void {
    for (const move of moves) {
      const underway: Underway = { ...move, beganAtMs: nowMs, askedAtMs: nowMs, attempts: 1, deaf: [] };
      this.#moves.set(move.session.publicKey, underway);
      if (!this.#outcome.has(move.from)) this.#outcome.set(move.from, { beganAtMs: nowMs, moved: 0, left: 0 });
    }
    this.#ask(moves.flatMap((move) => this.#moves.get(move.session.publicKey) ?? []));
  }

  /** An agent reports a session: the first handshake since, anywhere else, ends its move. */
  reported(session: SessionState, nowMs: number): void {
    const move = this.#moves.get(session.publicKey);
    if (move === undefined || session.endpoint === move.from) return;
    if (session.lastHandshakeMs > move.session.lastHandshakeMs) this.#end(move, true, nowMs);
  }

  /** To be called every second or so. */
  tick(nowMs: number): void {
    const due = [...this.#moves.values()].filter((move) => nowMs - move.askedAtMs >= LIMITS.reflex.adoptConfirmMs);
    const again = due.filter((move) => move.attempts < LIMITS.reflex.adoptAttemptsMax);
    for (const move of due) if (move.attempts >= LIMITS.reflex.adoptAttemptsMax) this.#end(move, false, nowMs);
    this.#ask(again.map((move) => this.#update(move, { askedAtMs: nowMs, attempts: move.attempts + 1 })));
  }

  #ask(moves: readonly Underway[]): void {
    for (const [to, group] of Map.groupBy(moves, (move) => move.to)) {
      for (let at = 0; at < group.length; at += LIMITS.agent.adoptBatchMax) {
        const batch = group.slice(at, at + LIMITS.agent.adoptBatchMax);
        this.#post(to, batch).catch((thrown: unknown) => {
          this.#around.log.warn({ event: "adopt-failed", endpoint: to, sessions: batch.length, detail: messageOf(thrown) });
          this.#redirect(to, batch);
        });
      }
    }
  }

  async #post(to: string, batch: readonly Underway[]): Promise<void> {
    const agent = this.#around.agentOf(to);
    if (agent === undefined) throw new Error("it is no member");
    this.#operations += 1;
    const operation = `reflex/${process.pid}/${batch[0]?.beganAtMs}/${to}/${this.#operations}`;
    await agent.adopt({ operation, sessions: batch.map(({ session, to: shadow }) => ({ ...session, shadow })) });
  }

  #redirect(deaf: string, batch: readonly Underway[]): void {
    const fit = this.#around.fit();
    const redirected: Underway[] = [];
    for (const known of batch) {
      const move = this.#moves.get(known.session.publicKey);
      // It may have been confirmed, or sent elsewhere, while the agent was asked.
      if (move === undefined || move.to !== deaf || move.from !== known.from) continue;
      const tried = new Set([...move.deaf, deaf]);
      const others = [...fit].filter((endpoint) => !tried.has(endpoint) && endpoint !== move.from);
      const to = shadowOf(move.session.publicKey, deaf, others);
      // With nobody else left it stays, and is asked for again at the next tick.
      if (to !== undefined) redirected.push(this.#update(move, { to, deaf: [...tried] }));
    }
    if (redirected.length === 0) return;
    this.#around.redirected(redirected);
    this.#ask(redirected);
  }

  #update(move: Underway, change: Partial<Underway>): Underway {
    const changed = { ...move, ...change };
    this.#moves.set(move.session.publicKey, changed);
    return changed;
  }

  #end(move: Underway, moved: boolean, nowMs: number): void {
    this.#moves.delete(move.session.publicKey);
    const outcome = this.#outcome.get(move.from);
    if (outcome === undefined) return;
    if (moved) outcome.moved += 1;
    else outcome.left += 1;
    for (const other of this.#moves.values()) if (other.from === move.from) return;
    this.#outcome.delete(move.from);
    this.#around.ended(move.from, outcome.moved, outcome.left, nowMs - outcome.beganAtMs);
  }
}
