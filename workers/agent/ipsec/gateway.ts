/**
 * The agent's part in IPsec: reads its kernel's SAs and follows them, tells them, and holds those it is the shadow of, ready to go on with
 * them (handovers.ts). Each loop goes on when its counterpart is away.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import { NO_RETRY, type UnixHttpClient } from "../../../drivers/http-unix.ts";
import type { EspHold } from "../../../drivers/tunnel/esp-hold.ts";
import type { IkeDaemon } from "../../../drivers/tunnel/strongswan.ts";
import type { XfrmEvent } from "../../../drivers/tunnel/xfrm-events.ts";
import type { IpsecKernel } from "../../../drivers/tunnel/xfrm-kernel.ts";
import type { TextSealer } from "../../../drivers/vault/sealed-text.ts";
import { messageOf } from "../../../models/errors.ts";
import { type IpsecLine, IpsecTaken } from "../../../models/ipsec/wire.ts";
import { LIMITS } from "../../../models/limits.ts";
import { IPSEC_LIMITS } from "../../../models/limits-ipsec.ts";
import { Publisher } from "../publisher.ts";
import { Handovers } from "./handovers.ts";
import { Moves } from "./moves.ts";
import { OwnSessions } from "./own-sessions.ts";
import { Preparation } from "./preparation.ts";
import { type Moment, ShadowedSessions } from "./shadowed.ts";

const PUSH = { timeoutMs: LIMITS.agent.pushTimeoutMs, retry: NO_RETRY };

export interface IpsecParts {
  readonly swarm: string;
  readonly endpoint: string;
  readonly kernel: IpsecKernel;
  readonly ike: IkeDaemon;
  readonly hold: EspHold;
  readonly sealer: TextSealer;
  readonly reflex: Pick<UnixHttpClient, "put">;
  readonly collector: Pick<UnixHttpClient, "post">;
  /** This machine's clock less the collector's; undefined before they were compared. */
  readonly clockOffsetMs: () => number | undefined;
  readonly pace: { readonly packets: number; readonly tenths: number };
  readonly log: Logger;
}

/** What of it may be shown. */
export interface IpsecStatus {
  readonly own: number;
  readonly leftOut: number;
  readonly shadowed: number;
  readonly opened: boolean;
  readonly eventLagMs: number;
  readonly lagsMs: { readonly p50: number | null; readonly p99: number | null; readonly count: number };
}

export class IpsecGateway {
  readonly handovers: Handovers;
  readonly moves: Moves;
  readonly #parts: IpsecParts;
  readonly #log: Logger;
  readonly #own: OwnSessions;
  readonly #shadowed = new ShadowedSessions();
  readonly #preparation: Preparation;
  readonly #toCollector: Publisher;
  readonly #toReflex: Publisher;
  readonly #stop = new AbortController();
  #loops: readonly Promise<void>[] = [];
  #inbound: ReadonlySet<number> = new Set();
  #tellAt: NodeJS.Timeout | undefined;
  #readSoon: NodeJS.Timeout | undefined;
  #reading: Promise<void> = Promise.resolve();
  #pacing = false;
  #toldReflex = 0;
  /** Sessions that the reflex has taken a word of. */
  #steered: ReadonlySet<string> = new Set();

  constructor(parts: IpsecParts) {
    this.#parts = parts;
    this.#log = parts.log;
    this.#own = new OwnSessions(parts.endpoint, Date.now());
    this.handovers = new Handovers({
      kernel: parts.kernel,
      ike: parts.ike,
      own: this.#own,
      shadowed: this.#shadowed,
      log: parts.log,
      moment: () => this.#moment(),
      readAgainSoon: () => this.#readAgainSoon(),
      signal: this.#stop.signal,
    });
    this.moves = new Moves({
      ike: parts.ike,
      hold: parts.hold,
      own: this.#own,
      log: parts.log,
      read: () => this.#read(),
      isSteered: (session) => this.#steered.has(session),
      signal: this.#stop.signal,
    });
    this.#preparation = new Preparation({ ...parts, shadowed: this.#shadowed });
    const retryMs = LIMITS.agent.pushRetryMs;
    this.#toCollector = new Publisher({
      name: "collector's IPsec",
      retryMs,
      log: parts.log,
      send: () => this.#tellCollector(),
    });
    this.#toReflex = new Publisher({ name: "reflex's IPsec", retryMs, log: parts.log, send: () => this.#tellReflex() });
  }

  start(): void {
    const { signal } = this.#stop;
    const onBreak = (why: string) => this.#log.warn({ event: "ipsec-events-broken", detail: why });
    this.#loops = [
      this.#setPace(),
      this.moves.open(),
      this.#parts.kernel.follow((events) => this.#heard(events), onBreak, signal),
      this.#readNowAndThen(),
      this.#preparation.keep(signal),
    ];
  }

  /** SAs stay as they are. */
  async stop(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#tellAt);
    clearTimeout(this.#readSoon);
    this.#toCollector.close();
    this.#toReflex.close();
    await Promise.all([...this.#loops, this.#reading]);
  }

  status(): IpsecStatus {
    const sorted = [...this.#shadowed.lagsMs].sort((one, other) => one - other);
    const at = (share: number) => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? null;
    return {
      own: this.#own.count,
      leftOut: this.#own.leftOut,
      shadowed: this.#shadowed.sessions().length,
      opened: this.#shadowed.unopened().length === 0,
      eventLagMs: this.#own.eventLagMs,
      lagsMs: { p50: at(0.5), p99: at(0.99), count: sorted.length },
    };
  }

  /** Lines of the session stream that are this endpoint's as a shadow. */
  takeLines(lines: readonly IpsecLine[]): void {
    const at = this.#moment();
    for (const line of lines) {
      try {
        if ("ipsecAnew" in line) this.#shadowed.forgetAll();
        else if ("ipsec" in line) this.#shadowed.copied(line.ipsec, line.sentAtMs, at);
        else if ("ipsecDelta" in line) this.#shadowed.moved(line.ipsecDelta, line.sentAtMs, at);
        else this.#shadowed.forget(line.ipsecGone);
      } catch (thrown) {
        // Of a session whose counters went back nothing is known for certain any more.
        if ("ipsecDelta" in line) this.#shadowed.forget(line.ipsecDelta.session);
        this.#log.warn({ event: "ipsec-word-refused", detail: messageOf(thrown) });
      }
    }
  }

  async #setPace(): Promise<void> {
    const { packets, tenths } = this.#parts.pace;
    try {
      await this.#parts.kernel.setEventPace(packets, tenths);
    } catch (thrown) {
      this.#log.warn({ event: "ipsec-pace-not-set", detail: messageOf(thrown) });
    }
  }

  #heard(events: readonly XfrmEvent[]): void {
    const atMs = this.#moment().nowMs;
    let moved = false;
    for (const event of events) {
      if (event.kind === "counters") moved = this.#own.heard(event, atMs) || moved;
      else this.#readAgainSoon();
    }
    if (!moved) return;
    this.#tellSoon();
    void this.#pace();
  }

  async #pace(): Promise<void> {
    if (this.#pacing) return;
    this.#pacing = true;
    try {
      // SAs that speak first at about the same time are told together.
      await delay(IPSEC_LIMITS.settleMs, undefined, { signal: this.#stop.signal });
      const sas = this.#own.toBePaced();
      if (sas.length > 0) await this.#parts.kernel.setPaceOf(sas, IPSEC_LIMITS.eventPace);
    } catch (thrown) {
      if (!this.#stop.signal.aborted) this.#log.warn({ event: "ipsec-pace-not-set", detail: messageOf(thrown) });
    } finally {
      this.#pacing = false;
    }
  }

  #tellSoon(): void {
    this.#tellAt ??= setTimeout(() => {
      this.#tellAt = undefined;
      this.#toCollector.changed();
    }, IPSEC_LIMITS.updateIntervalMs);
  }

  #readAgainSoon(): void {
    this.#readSoon ??= setTimeout(() => {
      this.#readSoon = undefined;
      void this.#read();
    }, IPSEC_LIMITS.settleMs);
  }

  async #readNowAndThen(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await this.#read();
      await delay(IPSEC_LIMITS.readIntervalMs, undefined, { signal: this.#stop.signal }).catch(() => undefined);
    }
  }

  #read(): Promise<void> {
    this.#reading = this.#reading.then(() => this.#readOnce());
    return this.#reading;
  }

  async #readOnce(): Promise<void> {
    if (this.#stop.signal.aborted) return;
    try {
      const views = await this.#parts.ike.sas();
      const atMs = this.#moment().nowMs;
      const states = await this.#parts.kernel.states();
      const { ended } = this.#own;
      this.#own.observe(states, views, { atMs, untilMs: this.#moment().nowMs });
      if (this.#own.ended > ended) this.#preparation.policiesWent();
      const hosts = new Set([...this.#own.localHosts(), ...this.handovers.localHosts()]);
      this.#inbound = new Set(states.flatMap(({ destination, spi }) => (hosts.has(destination) ? [spi] : [])));
      await this.#seal();
    } catch (thrown) {
      this.#log.warn({ event: "ipsec-not-read", detail: messageOf(thrown) });
      return;
    }
    this.#toCollector.changed();
    this.#toReflex.changed();
  }

  async #seal(): Promise<void> {
    const unsealed = this.#own.unsealed();
    const texts = await this.#parts.sealer.seal(unsealed);
    for (const [at, { key }] of unsealed.entries()) {
      const text = texts[at];
      if (text !== undefined) this.#own.sealed(key, text);
    }
  }

  async #tellCollector(): Promise<void> {
    // Before the clocks were compared nobody could say how old a word is.
    if (this.#parts.clockOffsetMs() === undefined) return;
    const untold = this.#own.untold(this.#moment().nowMs);
    if (untold === undefined) return;
    const { swarm, endpoint } = this.#parts;
    const { copies, deltas, gone } = untold;
    const body = { swarm, endpoint, sentAtMs: this.#moment().nowMs, copies, deltas, gone };
    // The shadows of all sessions are in the answer only when they are others than those that are known here.
    const known = this.#own.shadowsVersion;
    const path = known === undefined ? "/v1/ipsec" : `/v1/ipsec?shadows=${known}`;
    const answer = await this.#parts.collector.post(path, { ...PUSH, body, schema: IpsecTaken });
    this.#own.told(untold, answer);
    if (answer.unknown.length > 0) this.#tellSoon();
    if (this.#own.shadowsChanged !== this.#toldReflex) this.#toReflex.changed();
  }

  async #tellReflex(): Promise<void> {
    const shadows = this.#own.shadowsChanged;
    const sessions = this.#own.steered();
    const body = { sessions, held: [...this.#inbound] };
    await this.#parts.reflex.put(`/v1/endpoints/${this.#parts.endpoint}/ipsec`, { ...PUSH, body });
    this.#toldReflex = shadows;
    this.#steered = new Set(sessions.map(({ session }) => session));
  }

  #moment(): Moment {
    return { monotonicMs: performance.now(), nowMs: Date.now() - (this.#parts.clockOffsetMs() ?? 0) };
  }
}
