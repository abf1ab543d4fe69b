/**
 * What the reflex does about IPsec beside WireGuard: when an endpoint is put out it reads how far the endpoint's SAs can have come, and has the
 * shadows go on with them. The packet path itself is the view's (view.ts): an ejection moves SPIs, IKE and fences in one transaction.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Logger } from "pino";
import { passedAtMost } from "../../drivers/balancer/nftables-ipsec-ruleset.ts";
import type { IpsecAgent, LeavingIpsecAgent } from "../../drivers/tunnel/agent-client.ts";
import { messageOf } from "../../models/errors.ts";
import type { HandedOver, Passed, SteeredSession, SteeringWord, TakeOverOutcome } from "../../models/ipsec/wire.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { counted } from "../../models/words.ts";
import type { MemberAgent } from "./agents.ts";
import type { EventJournal } from "./event-journal.ts";
import { KeptFile, readJson } from "./files.ts";
import { type IpsecBook, IpsecFile, type IpsecMove } from "./ipsec-book.ts";
import type { Placed } from "./path-keeper.ts";
import type { ReflexState } from "./state.ts";

export interface IpsecSurroundings {
  readonly state: ReflexState;
  readonly book: IpsecBook;
  readonly stateDir: string;
  readonly agentOf: (endpoint: string) => IpsecAgent | undefined;
  readonly leaving: (member: MemberAgent) => LeavingIpsecAgent;
  /** Brings the packet path to what the state and the book say. */
  readonly push: () => Promise<unknown>;
  /** Ways back by inner address. */
  readonly routeTo: (sessions: readonly Placed[]) => Promise<void>;
  /** Of the balancer's map: which blocks of which SPI's numbers it let through. */
  readonly passed: () => Promise<ReadonlyMap<string, string>>;
  readonly events: EventJournal;
  readonly log: Logger;
}

/** What is known of the endpoint before when its sessions are given on. */
interface Known {
  /** What the balancer let through; undefined when it does not say. */
  readonly elements: ReadonlyMap<string, string> | undefined;
  readonly handedOver: HandedOver | undefined;
  readonly beganAtMs: number;
}

export class IpsecFailover {
  readonly #around: IpsecSurroundings;
  readonly #file: KeptFile;
  /** Endpoints that are being told what they do not hold any more. */
  readonly #retiring = new Set<string>();
  /** By endpoint: sessions that came to it, until their ways back lead there. */
  readonly #unrouted = new Map<string, readonly SteeredSession[]>();
  /** Since when the packet path is known to count an SPI's numbers. */
  readonly #countedSince = new Map<number, number>();

  constructor(around: IpsecSurroundings) {
    this.#around = around;
    this.#file = new KeptFile(join(around.stateDir, "ipsec.json"), () => around.book.snapshot());
  }

  async load(): Promise<void> {
    const kept = await readJson(join(this.#around.stateDir, "ipsec.json"), IpsecFile);
    if (kept !== undefined) this.#around.book.load(kept);
  }

  async save(): Promise<void> {
    const { book } = this.#around;
    if (!book.dirty) return;
    book.dirty = false;
    await this.#file.save();
  }

  /** An endpoint's word; resolves once its SPIs lead to it. */
  async heard(endpoint: string, word: SteeringWord): Promise<void> {
    const { book, state } = this.#around;
    const { steers, arrived } = book.put(endpoint, word);
    if (arrived.length > 0) this.#unrouted.set(endpoint, [...(this.#unrouted.get(endpoint) ?? []), ...arrived]);
    if (steers) {
      await this.#around.push();
      this.#note(Date.now());
    }
    if (state.record(endpoint).ejectedAtMs !== undefined) return void this.#unrouted.delete(endpoint);
    await this.#routeArrived(endpoint);
    const gone = new Set(book.wentFrom(endpoint));
    if (word.held.some((spi) => gone.has(spi)) && !this.#retiring.has(endpoint)) void this.retire(endpoint);
  }

  /** What could not be set is set with the endpoint's next word, which comes soon: this one counts as not taken. */
  async #routeArrived(endpoint: string): Promise<void> {
    const arrived = this.#unrouted.get(endpoint) ?? [];
    if (arrived.length === 0) return;
    await this.#around.routeTo(arrived.map(({ innerAddresses }) => ({ innerAddresses, endpoint })));
    const rest = (this.#unrouted.get(endpoint) ?? []).filter((session) => !arrived.includes(session));
    if (rest.length > 0) this.#unrouted.set(endpoint, rest);
    else this.#unrouted.delete(endpoint);
  }

  /** The table may have been another than was thought: for a while nothing is said of what did not pass. */
  doubt(): void {
    this.#countedSince.clear();
    this.#note(Date.now());
  }

  /** Who goes where, before the packet path is told. */
  assign(endpoint: string, nowMs: number): readonly IpsecMove[] {
    return this.#around.book.moveAll(endpoint, this.#takers(), nowMs);
  }

  /** With nobody fit, whoever is not out: a client without a gateway loses nothing by a bad one. */
  #takers(): ReadonlySet<string> {
    const { state } = this.#around;
    const fit = state.fit();
    if (fit.size > 0) return fit;
    const members = state.desired?.members.map(({ endpoint }) => endpoint) ?? [];
    return new Set(members.filter((one) => state.record(one).ejectedAtMs === undefined && !state.isRevoked(one)));
  }

  /**
   * Endpoints that are members no more. Those that are still there take their SAs out and say how far they have come; those that do not are as
   * if they had crashed, but for the time to find that out.
   */
  async leave(members: readonly MemberAgent[], nowMs: number): Promise<void> {
    await Promise.all(
      members.map(async (member) => {
        const moves = this.assign(member.endpoint, nowMs);
        if (moves.length === 0) return;
        const agent = this.#around.leaving(member);
        try {
          await this.carryOut(moves, () => this.#handOver(member.endpoint, agent, moves));
        } finally {
          await agent.close();
        }
      }),
    );
  }

  async #handOver(endpoint: string, agent: LeavingIpsecAgent, moves: readonly IpsecMove[]): Promise<HandedOver | undefined> {
    const operation = `reflex/ipsec-leave/${endpoint}/${randomBytes(8).toString("hex")}`;
    const spis = moves.flatMap(({ session }) => session.inbound.map(({ spi }) => spi));
    try {
      return await agent.handOverIpsec({ operation, spis });
    } catch (thrown) {
      this.#around.log.warn({ event: "ipsec-not-handed-over", endpoint, detail: messageOf(thrown) });
      return undefined;
    }
  }

  /**
   * First SPIs and fences, without which nobody may go on: two that count on from one number break the SA. Then the ways back: a machine that
   * is not quite dead must get nothing to send any more. Then, of one that is left on purpose, its SAs.
   */
  async carryOut(
    moves: readonly IpsecMove[],
    handOver: () => Promise<HandedOver | undefined> = () => Promise.resolve(undefined),
  ): Promise<void> {
    if (moves.length === 0) return;
    const beganAtMs = performance.now();
    await this.#around.push();
    await this.#around.routeTo(moves.map(({ session, to }) => ({ innerAddresses: session.innerAddresses, endpoint: to })));
    const passed = this.#around.passed().catch((thrown: unknown) => {
      this.#around.log.warn({ event: "ipsec-passed-unknown", detail: messageOf(thrown) });
      return undefined;
    });
    const [elements, handedOver] = await Promise.all([passed, handOver()]);
    const known = { elements, handedOver, beganAtMs };
    await Promise.all([...Map.groupBy(moves, ({ to }) => to)].map(([to, group]) => this.#order(to, group, known)));
    await this.save();
  }

  /** An endpoint that is back takes ESP no more by what others go on with, before it gets anything. */
  async retire(endpoint: string): Promise<void> {
    const spis = this.#around.book.wentFrom(endpoint);
    if (spis.length === 0) return;
    const operation = `reflex/ipsec-return/${endpoint}/${randomBytes(8).toString("hex")}`;
    this.#retiring.add(endpoint);
    try {
      await this.#around.agentOf(endpoint)?.retireIpsec({ operation, spis: [...spis] });
    } catch (thrown) {
      this.#around.log.warn({ event: "ipsec-retire-failed", endpoint, detail: messageOf(thrown) });
    } finally {
      this.#retiring.delete(endpoint);
    }
  }

  async #order(to: string, moves: readonly IpsecMove[], known: Known): Promise<void> {
    const { elements, handedOver } = known;
    const [first] = moves;
    const agent = this.#around.agentOf(to);
    if (first === undefined) return;
    const operation = `reflex/ipsec/${first.from}/${to}/${randomBytes(8).toString("hex")}`;
    const sessions = moves.map(({ session: { session, connection, child, inbound } }) => ({
      session,
      connection,
      child,
      passed: elements === undefined ? [] : this.#passed(inbound, elements, first.atMs),
    }));
    try {
      if (agent === undefined) throw new Error("it is no member");
      const said = handedOver === undefined ? {} : { handedOver };
      const outcomes = await agent.takeOverIpsec({ operation, from: first.from, ...said, sessions });
      this.#report({ from: first.from, to, asked: moves.length }, outcomes, known);
    } catch (thrown) {
      this.#around.log.warn({ event: "ipsec-order-failed", endpoint: to, sessions: moves.length, detail: messageOf(thrown) });
      await this.#redirect(to, moves, known);
    }
  }

  /** Another endpoint holds no copy, but can begin the handshakes. */
  async #redirect(deaf: string, moves: readonly IpsecMove[], known: Known): Promise<void> {
    const { book } = this.#around;
    const fit = new Set([...this.#takers()].filter((endpoint) => endpoint !== deaf));
    const redirected = book.redirect(moves, fit, Date.now());
    if (redirected.length === 0) return;
    await this.#around.push();
    await this.#around.routeTo(redirected.map(({ session, to }) => ({ innerAddresses: session.innerAddresses, endpoint: to })));
    for (const [to, group] of Map.groupBy(redirected, (move) => move.to)) await this.#order(to, group, known);
  }

  #passed(inbound: SteeredSession["inbound"], elements: ReadonlyMap<string, string>, atMs: number): Passed[] {
    if (elements.size >= IPSEC_LIMITS.passedMax * IPSEC_LIMITS.passedFillMax) return [];
    return inbound.flatMap(({ spi, sequence }): Passed[] => {
      const atMost = passedAtMost(elements, spi, sequence);
      if (atMost !== undefined) return [{ spi, atMost }];
      const since = this.#countedSince.get(spi);
      return since !== undefined && atMs - since > IPSEC_LIMITS.passedTimeoutMs ? [{ spi, nothing: true }] : [];
    });
  }

  #report(
    { from, to, asked }: { readonly from: string; readonly to: string; readonly asked: number },
    outcomes: readonly TakeOverOutcome[],
    { handedOver, beganAtMs }: Known,
  ): void {
    const tookMs = performance.now() - beganAtMs;
    const goneOn = outcomes.filter((outcome) => outcome.goneOn > 0).length;
    const refusals = [...new Set(outcomes.flatMap((outcome) => outcome.refusals))].slice(0, 4);
    const rest =
      asked - goneOn === 0 ? "" : `; ${counted(asked - goneOn, "client")} get a new handshake: ${refusals.join("; ")}`;
    const text = `${to} goes on with ${counted(goneOn, "IPsec session")} of ${from} after ${Math.round(tookMs)} ms${rest}`;
    const most = (field: "outboundJump" | "inboundJump") => Math.max(0, ...outcomes.map((outcome) => outcome[field]));
    const details = {
      to,
      goneOn,
      newHandshakes: asked - goneOn,
      handedOver: handedOver !== undefined,
      tookMs: Math.round(tookMs),
      outboundJump: most("outboundJump"),
      inboundJump: most("inboundJump"),
      ageMs: Math.round(Math.max(0, ...outcomes.map(({ ageMs }) => ageMs ?? 0))),
      refusals,
    };
    this.#around.events.add({ kind: "sessions-moved", endpoint: from, text, details }, Date.now());
  }

  #note(nowMs: number): void {
    const spis = this.#around.book.spis();
    for (const spi of this.#countedSince.keys()) if (!spis.has(spi)) this.#countedSince.delete(spi);
    for (const spi of spis.keys()) if (!this.#countedSince.has(spi)) this.#countedSince.set(spi, nowMs);
  }
}
