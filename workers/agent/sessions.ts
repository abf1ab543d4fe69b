/**
 * Which sessions live on this endpoint: what its device says, weighed against what the source of truth says of the others.
 */
import type { DevicePeer, DeviceState } from "../../drivers/tunnel/wireguard-device.ts";
import { LIMITS } from "../../models/limits.ts";
import type { SessionState } from "../../models/session.ts";
import type { PeerBook } from "./peer-book.ts";

/** What has to be told to the collector to bring it up to date. */
export interface SessionDelta {
  readonly upserts: readonly SessionState[];
  /** Public keys. */
  readonly removed: readonly string[];
}

export class Sessions {
  readonly #endpoint: string;
  readonly #book: PeerBook;
  /** As last observed here. */
  #live = new Map<string, SessionState>();
  /** As the source of truth has them, of all endpoints. */
  readonly #truth = new Map<string, SessionState>();
  /** As the collector last took them from here. */
  readonly #told = new Map<string, { session: SessionState; atMs: number }>();
  #observed = false;
  #version = 0;

  constructor(parts: { endpoint: string; book: PeerBook }) {
    this.#endpoint = parts.endpoint;
    this.#book = parts.book;
  }

  /** Highest version taken from the source of truth. */
  get version(): number {
    return this.#version;
  }

  /** Whether the device was ever looked at: before that, "none" is not known, only unknown. */
  get observed(): boolean {
    return this.#observed;
  }

  live(): readonly SessionState[] {
    return [...this.#live.values()];
  }

  /**
   * Takes what the device says; true when a session came, went, or made a handshake. Not to be called while the device does not
   * answer: what was known last is what another endpoint has to take over.
   */
  observe(state: DeviceState, pending: readonly SessionState[], nowMs: number): boolean {
    const before = this.#live;
    const live = new Map<string, SessionState>();
    for (const peer of state.peers) {
      const session = this.#sessionOf(peer, nowMs);
      if (session !== undefined) live.set(session.publicKey, session);
    }
    // Being brought back after a restart of the device: still this endpoint's.
    for (const session of pending)
      if (session.endpoint === this.#endpoint && !live.has(session.publicKey)) live.set(session.publicKey, session);
    this.#live = live;
    this.#observed = true;
    if (before.size !== live.size) return true;
    return [...live.values()].some((session) => differs(before.get(session.publicKey), session));
  }

  /** The live sessions whose keys WireGuard still takes for good. */
  alive(nowMs: number): readonly SessionState[] {
    return this.live().filter(({ lastHandshakeMs }) => nowMs - lastHandshakeMs < LIMITS.agent.sessionLifeMs);
  }

  learn(session: SessionState): void {
    this.#truth.set(session.publicKey, session);
    this.#version = Math.max(this.#version, session.version);
    this.learnElsewhere(session);
  }

  /** Another endpoint made a newer handshake: the session is not this endpoint's any more, also while its device is away. */
  learnElsewhere(session: SessionState): void {
    const mine = this.#live.get(session.publicKey);
    if (mine === undefined || session.endpoint === this.#endpoint || session.lastHandshakeMs <= mine.lastHandshakeMs) return;
    this.#live.delete(session.publicKey);
  }

  learnRemoval(publicKey: string, version: number): void {
    this.#truth.delete(publicKey);
    this.#version = Math.max(this.#version, version);
  }

  learnVersion(version: number): void {
    this.#version = Math.max(this.#version, version);
  }

  /** The source of truth begins anew, with lower versions. */
  unlearn(): void {
    this.#truth.clear();
    this.#told.clear();
    this.#version = 0;
  }

  /** Undefined when the collector knows all. Counters alone are told at their own, slower pace. */
  delta(nowMs: number): SessionDelta | undefined {
    if (!this.#observed) return undefined;
    const upserts = this.live().filter((session) => this.#isNews(session, nowMs));
    const removed = [...this.#truth.values()].filter(
      ({ endpoint, publicKey }) => endpoint === this.#endpoint && !this.#live.has(publicKey),
    );
    for (const publicKey of this.#told.keys())
      if (!this.#live.has(publicKey) && !this.#truth.has(publicKey)) this.#told.delete(publicKey);
    if (upserts.length === 0 && removed.length === 0) return undefined;
    const most = LIMITS.collector.sessionDeltasPerRequestMax / 2;
    return { upserts: upserts.slice(0, most), removed: removed.slice(0, most).map(({ publicKey }) => publicKey) };
  }

  /** The collector took it. */
  told(delta: SessionDelta, nowMs: number): void {
    for (const session of delta.upserts) this.#told.set(session.publicKey, { session, atMs: nowMs });
    for (const publicKey of delta.removed) {
      this.#told.delete(publicKey);
      this.#truth.delete(publicKey);
    }
  }

  #isNews(session: SessionState, nowMs: number): boolean {
    const told = this.#told.get(session.publicKey);
    if (differs(told?.session, session)) return true;
    const moved = told?.session.rxBytes !== session.rxBytes || told.session.txBytes !== session.txBytes;
    return moved && nowMs - (told?.atMs ?? 0) >= LIMITS.agent.countersIntervalMs;
  }

  #sessionOf(peer: DevicePeer, nowMs: number): SessionState | undefined {
    const { publicKey, lastHandshakeMs, endpoint: outerAddress } = peer;
    if (lastHandshakeMs === 0 || nowMs - lastHandshakeMs >= LIMITS.agent.sessionLifeMs || outerAddress === undefined)
      return undefined;
    if (this.#book.isProbe(publicKey)) return undefined;
    const truth = this.#truth.get(publicKey);
    if (truth !== undefined && truth.endpoint !== this.#endpoint && truth.lastHandshakeMs > lastHandshakeMs) return undefined;
    const mine = truth?.endpoint === this.#endpoint ? truth : undefined;
    const known = this.#book.get(publicKey);
    return {
      publicKey,
      ...(known?.presharedKey === undefined ? {} : { presharedKey: known.presharedKey }),
      innerAddresses: known?.innerAddresses ?? peer.allowedIps.map((address) => address.split("/")[0] ?? address),
      endpoint: this.#endpoint,
      outerAddress,
      lastHandshakeMs,
      rxBytes: peer.rxBytes,
      txBytes: peer.txBytes,
      ...(mine?.shadow === undefined ? {} : { shadow: mine.shadow }),
      version: mine?.version ?? 0,
      updatedAtMs: nowMs,
    };
  }
}

/** Differences that matter to a take-over; counters do not. */
function differs(before: SessionState | undefined, now: SessionState): boolean {
  return before === undefined || before.lastHandshakeMs !== now.lastHandshakeMs || before.outerAddress !== now.outerAddress;
}
