/**
 * One WireGuard device of the endpoint in the agent's hands: which peers it has, and the three moves of a session (prepare, adopt,
 * retire). What the device does on its own it goes on doing when this process is gone.
 */
import type { Logger } from "pino";
import { startInterface, stopInterface } from "../../drivers/tunnel/wireguard.ts";
import type { DevicePeer, DeviceState, PeerChange, WireGuardDevice } from "../../drivers/tunnel/wireguard-device.ts";
import type { Kv } from "../../drivers/vault/kv.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { type RevokedPeer, refName } from "../../models/keys.ts";
import { LIMITS } from "../../models/limits.ts";
import type { Peer, SessionState } from "../../models/session.ts";
import { type Adoption, adoptionStep } from "./adoption.ts";
import type { AgentConfig } from "./config.ts";
import type { DeviceBook, PeerBook } from "./peer-book.ts";
import { PresharedKeys } from "./preshared-keys.ts";

/** Keeps a client warm until its data comes; also what makes WireGuard begin the handshake at once. */
const ADOPTED_KEEPALIVE_S = 1;

export type TunnelConfig = Pick<
  AgentConfig,
  "endpoint" | "device" | "listenPort" | "mtu" | "addresses" | "routes" | "implementation" | "keySecret" | "stateDir"
>;

export class Tunnel {
  readonly #config: TunnelConfig;
  readonly #secrets: Pick<Kv, "read">;
  readonly #book: PeerBook;
  readonly #given: DeviceBook;
  readonly #log: Logger;
  readonly #presharedKeys: PresharedKeys;
  readonly #adoptions = new Map<string, Adoption>();
  #keysMissing = false;
  #privateKey: string | undefined;
  #device: WireGuardDevice | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: { config: TunnelConfig; slot: 0 | 1; secrets: Pick<Kv, "read">; book: PeerBook; log: Logger }) {
    this.#given = parts.book.onDevice(parts.slot);
    this.#config = parts.config;
    this.#secrets = parts.secrets;
    this.#book = parts.book;
    this.#log = parts.log;
    this.#presharedKeys = new PresharedKeys(parts);
  }

  /** Handshakes that this agent began and that are not through. */
  get adopting(): number {
    return this.#adoptions.size;
  }

  /** Whether the interface was started or taken over by this process. */
  get started(): boolean {
    return this.#device !== undefined;
  }

  /** Whether Vault did not give the key of a peer that is to have one. */
  get keysMissing(): boolean {
    return this.#keysMissing;
  }

  /** Starts the interface, or takes over one that runs; then gives it the peers that are known and missing there. */
  start(): Promise<void> {
    return this.#inTurn(() => this.#start());
  }

  /** UNREACHABLE or NOT_READY when the device is not there. */
  async state(): Promise<DeviceState> {
    if (this.#device === undefined)
      throw new ForeshiftError("NOT_READY", { value: this.#config.device, detail: "it has not been started" });
    return await this.#device.state();
  }

  /** Puts the peers into the book and into the device, sessions untouched; answers how many the device did not have so. */
  configure(peers: readonly Peer[]): Promise<number> {
    return this.#inTurn(async () => await this.#configureMissing(this.#book.add(peers)));
  }

  /** Reads these peers' keys ahead of time; what neither they nor the peers of the book refer to is forgotten. */
  async loadKeys(peers: readonly Peer[]): Promise<number> {
    const read = await this.#presharedKeys.load(peers);
    this.#presharedKeys.forgetBut([...peers, ...this.#book.all()]);
    return read;
  }

  /** Like configure, but NOT_READY unless each of these has its key in the end. */
  setKeys(peers: readonly Peer[]): Promise<number> {
    return this.#inTurn(async () => {
      const known = this.#book.add(peers);
      const changed = await this.#configureMissing(known);
      const without = known.filter((peer) => this.#given.appliedKey(peer.publicKey) !== keyNameOf(peer));
      if (without.length === 0) return changed;
      const detail = `${without.length} of ${peers.length} preshared keys could not be set`;
      throw new ForeshiftError("NOT_READY", { value: this.#config.endpoint, detail });
    });
  }

  /** Out of the device with their sessions; whatever is said of them later finds the door shut. Answers how many there were. */
  revoke(peers: readonly RevokedPeer[]): Promise<number> {
    return this.#inTurn(async () => {
      const out = this.#book.revoke(peers);
      for (const publicKey of out) this.#adoptions.delete(publicKey);
      return await this.#removeRevoked();
    });
  }

  /**
   * Begins a handshake with each session's client, all at once. A session that is here already, by a newer handshake, or that a
   * handshake is under way for, is left alone: asking again never breaks what the first time achieved. Answers how many were begun.
   */
  adopt(sessions: readonly SessionState[]): Promise<number> {
    this.#assertClock(sessions);
    return this.#inTurn(async () => {
      const held = byKey((await this.state()).peers);
      const wanted = sessions.filter((session) => !isHere(held.get(session.publicKey), session) && !this.#isUnderWay(session));
      const known = new Map(this.#book.add(wanted).map((peer) => [peer.publicKey, peer]));
      // With the key that the book has: what a session says of its key was true where it lived, when it began.
      const current = wanted.flatMap((session) => {
        const peer = known.get(session.publicKey);
        return peer === undefined ? [] : [withKeyOf(session, peer)];
      });
      const { ready, failed } = await this.#presharedKeys.ready(current);
      await this.#apply(ready.flatMap((session) => this.#adoptChanges(session, held.has(session.publicKey))));
      for (const session of ready) this.#given.noteApplied(session.publicKey, keyNameOf(session));
      for (const session of ready)
        this.#adoptions.set(session.publicKey, { session, begunAtMs: Date.now(), attempts: 1, handshakeAtMs: undefined });
      if (failed > 0)
        throw new ForeshiftError("NOT_READY", { value: "vault", detail: `${failed} preshared keys could not be read` });
      return ready.length;
    });
  }

  /** Forgets session and address of these peers; the peers stay. Answers how many had something to forget. */
  retire(publicKeys: readonly string[]): Promise<number> {
    return this.#inTurn(async () => {
      const held = byKey((await this.state()).peers);
      const changes: PeerChange[] = [];
      for (const publicKey of publicKeys) {
        this.#adoptions.delete(publicKey);
        const peer = held.get(publicKey);
        if (peer === undefined || (peer.lastHandshakeMs === 0 && peer.endpoint === undefined)) continue;
        const known = this.#book.get(publicKey) ?? { publicKey, innerAddresses: [...peer.allowedIps] };
        changes.push({ kind: "remove", publicKey });
        if (!this.#book.isRevoked(publicKey)) changes.push(await this.#configureAnew(known));
      }
      await this.#apply(changes);
      return changes.filter(({ kind }) => kind === "remove").length;
    });
  }

  /** Ends the interface for good. */
  stop(): Promise<void> {
    return this.#inTurn(async () => {
      this.#device = undefined;
      this.#adoptions.clear();
      this.#given.forgetApplied();
      await stopInterface(this.#config);
    });
  }

  /** Takes peers out of the device altogether. */
  forget(publicKeys: readonly string[]): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#device !== undefined) await this.#apply(publicKeys.map((publicKey) => ({ kind: "remove", publicKey })));
    });
  }

  /** Ends the interface, starts it anew and begins handshakes with the clients it had. */
  async recover(sessions: readonly SessionState[]): Promise<number> {
    await this.#inTurn(async () => {
      // Without the key the old interface is better than none.
      await this.#swarmKey();
      this.#device = undefined;
      this.#adoptions.clear();
      await stopInterface(this.#config);
      await this.#start();
    });
    await this.adopt(sessions);
    return 1;
  }

  /** Follows up on the handshakes under way. */
  followUp(): Promise<void> {
    if (this.#adoptions.size === 0) return Promise.resolve();
    // In turn and with a fresh look, so that no session is begun again that has just come, or was just retired.
    return this.#inTurn(async () => {
      const held = byKey((await this.state()).peers);
      const now = Date.now();
      const changes: PeerChange[] = [];
      for (const [publicKey, adoption] of this.#adoptions) {
        const step = adoptionStep(adoption, held.get(publicKey), now);
        this.#adoptions.set(publicKey, step.next);
        if (step.kind === "repeat") changes.push(...this.#adoptChanges(adoption.session, true));
        if (step.kind !== "settled" && step.kind !== "given-up") continue;
        if (step.kind === "given-up") this.#log.warn({ event: "adoption-unanswered", publicKey });
        this.#adoptions.delete(publicKey);
        changes.push({ kind: "keepalive", publicKey, keepaliveS: 0 });
      }
      if (changes.length > 0) await this.#apply(changes);
    });
  }

  /** Sessions that a handshake was begun for and that are not here yet. */
  pendingSessions(): readonly SessionState[] {
    return [...this.#adoptions.values()]
      .filter(({ handshakeAtMs }) => handshakeAtMs === undefined)
      .map(({ session }) => session);
  }

  /** To the same address; at another one the client would not be found by what is repeated. */
  #isUnderWay({ publicKey, outerAddress }: SessionState): boolean {
    const adoption = this.#adoptions.get(publicKey);
    return adoption !== undefined && adoption.handshakeAtMs === undefined && adoption.session.outerAddress === outerAddress;
  }

  async #start(): Promise<void> {
    const { device, adopted } = await startInterface({ ...this.#config, privateKey: () => this.#swarmKey() });
    this.#device = device;
    if (!adopted) this.#given.forgetApplied();
    await this.#removeRevoked();
    const added = await this.#configureMissing(this.#book.all());
    this.#log.info({ event: "tunnel-started", device: this.#config.device, adopted, peersAdded: added });
  }

  /** From Vault; once read it is kept in memory, so that a restart of the device needs Vault no more. */
  async #swarmKey(): Promise<string> {
    if (this.#privateKey !== undefined) return this.#privateKey;
    const { keySecret } = this.#config;
    const { privateKey } = await this.#secrets.read(keySecret);
    if (privateKey === undefined) {
      throw new ForeshiftError("INVALID_FIELD", {
        field: "keySecret",
        value: keySecret.path,
        detail: "it has no field privateKey",
      });
    }
    this.#privateKey = privateKey;
    return privateKey;
  }

  async #configureMissing(peers: readonly Peer[]): Promise<number> {
    const device = this.#device;
    if (device === undefined || peers.length === 0) return 0;
    const held = byKey((await device.state()).peers);
    const isRight = (peer: Peer) =>
      sameAddresses(held.get(peer.publicKey), peer) && this.#given.appliedKey(peer.publicKey) === keyNameOf(peer);
    const { ready, failed } = await this.#presharedKeys.ready(peers.filter((peer) => !isRight(peer)));
    await this.#apply(
      ready.map((peer) =>
        sameAddresses(held.get(peer.publicKey), peer)
          ? { kind: "preshared", publicKey: peer.publicKey, presharedKey: this.#presharedKeys.of(peer) }
          : this.#configureChange(peer),
      ),
    );
    for (const peer of ready) this.#given.noteApplied(peer.publicKey, keyNameOf(peer));
    const some = peers.length < this.#book.all().length;
    this.#keysMissing = failed > 0 || (some && this.#keysMissing);
    if (failed > 0) this.#log.warn({ event: "preshared-keys-missing", count: failed });
    return ready.length;
  }

  async #removeRevoked(): Promise<number> {
    if (this.#device === undefined) return 0;
    const held = (await this.#device.state()).peers.filter(({ publicKey }) => this.#book.isRevoked(publicKey));
    await this.#apply(held.map(({ publicKey }) => ({ kind: "remove", publicKey })));
    return held.length;
  }

  async #apply(changes: readonly PeerChange[]): Promise<void> {
    const device = this.#device;
    if (device === undefined)
      throw new ForeshiftError("NOT_READY", { value: this.#config.device, detail: "it has not been started" });
    const size = LIMITS.agent.peersPerSetMax * 2;
    for (let from = 0; from < changes.length; from += size) await device.apply(changes.slice(from, from + size));
  }

  #adoptChanges(session: SessionState, removeFirst: boolean): PeerChange[] {
    const { publicKey, outerAddress } = session;
    const configure = this.#configureChange(session, outerAddress);
    return removeFirst ? [{ kind: "remove", publicKey }, configure] : [configure];
  }

  #configureChange(peer: Peer, endpoint?: string): PeerChange {
    const presharedKey = this.#presharedKeys.of(peer);
    const { publicKey, innerAddresses } = peer;
    return {
      kind: "configure",
      publicKey,
      innerAddresses,
      presharedKey,
      endpoint,
      keepaliveS: endpoint === undefined ? undefined : ADOPTED_KEEPALIVE_S,
    };
  }

  /** A peer that was removed and comes back with its key; one whose key cannot be had comes back when it can. */
  async #configureAnew(peer: Peer): Promise<PeerChange> {
    const { ready } = await this.#presharedKeys.ready([peer]);
    this.#given.noteApplied(peer.publicKey, ready.length > 0 ? keyNameOf(peer) : undefined);
    return this.#configureChange(peer);
  }

  /** WireGuard takes a handshake initiation only when its TAI64N stamp is later than the last one's. */
  #assertClock(sessions: readonly SessionState[]): void {
    const newest = sessions.reduce((latest, { lastHandshakeMs }) => Math.max(latest, lastHandshakeMs), 0);
    const behindMs = newest - Date.now();
    if (behindMs <= 0) return;
    const detail = `a session given to it had its handshake ${behindMs} ms in this machine's future`;
    throw new ForeshiftError("CLOCK_BEHIND", { field: "endpoint", value: this.#config.endpoint, detail });
  }

  /** Changes read the device and then write it, so they go one after another. */
  #inTurn<R>(work: () => Promise<R>): Promise<R> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

export function isHere(held: DevicePeer | undefined, session: SessionState): boolean {
  return (
    held !== undefined &&
    held.lastHandshakeMs > session.lastHandshakeMs &&
    Date.now() - held.lastHandshakeMs < LIMITS.agent.sessionLifeMs
  );
}

function withKeyOf(session: SessionState, { presharedKey }: Peer): SessionState {
  const { presharedKey: former, ...rest } = session;
  if (presharedKey === undefined) return former === undefined ? session : rest;
  return { ...rest, presharedKey };
}

function sameAddresses(held: DevicePeer | undefined, peer: Peer): boolean {
  if (held === undefined || held.allowedIps.length !== peer.innerAddresses.length) return false;
  const bare = new Set(held.allowedIps.map((address) => address.split("/")[0]));
  return peer.innerAddresses.every((address) => bare.has(address.split("/")[0]));
}

function byKey(peers: readonly DevicePeer[]): Map<string, DevicePeer> {
  return new Map(peers.map((peer) => [peer.publicKey, peer]));
}

function keyNameOf({ presharedKey }: Peer): string | undefined {
  return presharedKey === undefined ? undefined : refName(presharedKey);
}
