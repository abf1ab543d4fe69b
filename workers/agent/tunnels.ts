/**
 * The endpoint's WireGuard: one device for each static key that the swarm answers to, which is one, and two while that key is rotated. To
 * everybody else they are one tunnel: peers are the same on both, and a client's session is where its newest handshake was.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "pino";
import type { IdentitySessions } from "../../drivers/ports.ts";
import { followClients, routeInto, sendBackBy, stopFollowing } from "../../drivers/tunnel/way-back.ts";
import type { DevicePeer, DeviceState } from "../../drivers/tunnel/wireguard-device.ts";
import type { Kv } from "../../drivers/vault/kv.ts";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { type RevokedPeer, refName } from "../../models/keys.ts";
import type { Peer, SessionState } from "../../models/session.ts";
import { portOfSlot, StaticIdentities, type StaticIdentity } from "../../models/static-identities.ts";
import type { AgentConfig } from "./config.ts";
import type { PeerBook } from "./peer-book.ts";
import { isHere, Tunnel } from "./tunnel.ts";

type Wanted = Pick<StaticIdentity, "secret" | "slot" | "state">;

interface Held {
  readonly slot: Wanted["slot"];
  /** Name of its key's version. */
  readonly name: string;
  readonly device: string;
  readonly tunnel: Tunnel;
}

/** Linux allows 15 characters; two are for what tells slot 1 from slot 0. */
const DEVICE_CHARS_MAX = 13;

export class Tunnels {
  readonly #config: AgentConfig;
  readonly #secrets: Pick<Kv, "read">;
  readonly #book: PeerBook;
  readonly #log: Logger;
  readonly #held = new Map<Wanted["slot"], Held>();
  readonly #path: string;
  /** The newest handshake of each client that the packet path was told of, Unix ms. */
  readonly #shaken = new Map<string, number>();
  #wanted: readonly Wanted[];
  /** Another key than the configured one was ever heard of: ways are the agent's business from then on. */
  #followed: boolean;
  /** The packet path knows of two devices. */
  #following = false;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: { config: AgentConfig; secrets: Pick<Kv, "read">; book: PeerBook; log: Logger }) {
    this.#config = parts.config;
    this.#secrets = parts.secrets;
    this.#book = parts.book;
    this.#log = parts.log;
    mkdirSync(parts.config.stateDir, { recursive: true, mode: 0o700 });
    this.#path = join(parts.config.stateDir, "identities.json");
    const kept = this.#read();
    this.#followed = kept !== undefined;
    this.#wanted = kept ?? [{ secret: parts.config.keySecret, slot: 0, state: "serving" }];
    for (const wanted of this.#wanted) this.#hold(wanted);
  }

  /** Whether a device for each key was started or taken over by this process. */
  get started(): boolean {
    return this.#wanted.every(({ slot, secret }) => this.#upAs(slot, refName(secret)));
  }

  /** Names of the keys' versions that it answers to. */
  get identities(): readonly string[] {
    return this.#running().map(({ name }) => name);
  }

  get adopting(): number {
    return this.#running().reduce((sum, { tunnel }) => sum + tunnel.adopting, 0);
  }

  get keysMissing(): boolean {
    return this.#running().some(({ tunnel }) => tunnel.keysMissing);
  }

  /** Brings up what is wanted and not there, and takes down what is not wanted any more. Fails while one of them cannot be had. */
  start(): Promise<void> {
    return this.#inTurn(() => this.#settle());
  }

  /** The keys that the swarm answers to from here on; kept on disk, and brought up by `start`. */
  follow(identities: readonly StaticIdentity[]): Promise<void> {
    return this.#inTurn(async () => {
      // A slot that changes its key has its device ended before the file says so: what runs under a slot is always what the file says.
      for (const { slot, secret } of identities) {
        const held = this.#held.get(slot);
        if (held === undefined || held.name === refName(secret)) continue;
        await held.tunnel.stop();
        this.#held.delete(slot);
      }
      this.#wanted = identities;
      this.#followed = true;
      for (const wanted of identities) this.#hold(wanted);
      writeFileSync(`${this.#path}.tmp`, JSON.stringify(identities), { mode: 0o600 });
      renameSync(`${this.#path}.tmp`, this.#path);
    });
  }

  /** UNREACHABLE or NOT_READY when one of the devices is not there: some clients then have nobody. */
  async state(): Promise<DeviceState> {
    const running = this.#running();
    if (running.length === 0)
      throw new ForeshiftError("NOT_READY", { value: this.#config.device, detail: "it has not been started" });
    const states = await Promise.all(running.map(async ({ slot, tunnel }) => ({ slot, ...(await tunnel.state()) })));
    const [first, ...others] = states;
    if (first === undefined || others.length === 0) return first ?? { listenPort: this.#config.listenPort, peers: [] };
    if (this.#following) {
      // Devices that answer are up, whatever became of this; it is made again at the next look.
      await this.#noteWays(states).catch((thrown: unknown) => {
        this.#log.warn({ event: "ways-not-noted", detail: messageOf(thrown) });
      });
    }
    const peers = new Map<string, DevicePeer>();
    for (const peer of states.flatMap((state) => state.peers)) {
      const known = peers.get(peer.publicKey);
      peers.set(peer.publicKey, known === undefined ? peer : together(known, peer));
    }
    return { listenPort: first.listenPort, peers: [...peers.values()] };
  }

  /**
   * A session that has just begun here has sent nothing yet, and the router may send its packets here as soon as it is told of: they go
   * by the device that shook hands last. What the client then sends decides.
   */
  async #noteWays(states: readonly (DeviceState & { readonly slot: Wanted["slot"] })[]): Promise<void> {
    const newest = new Map<string, { readonly slot: Wanted["slot"]; readonly atMs: number }>();
    for (const { peers, slot } of states)
      for (const { lastHandshakeMs: atMs, publicKey } of peers)
        if (atMs > (newest.get(publicKey)?.atMs ?? 0)) newest.set(publicKey, { slot, atMs });
    const fresh = [...newest].filter(([publicKey, { atMs }]) => this.#shaken.get(publicKey) !== atMs);
    for (const slot of [0, 1] as const) {
      const keys = fresh.flatMap(([publicKey, held]) => (held.slot === slot ? [publicKey] : []));
      await sendBackBy(
        slot,
        keys.flatMap((publicKey) => this.#book.get(publicKey)?.innerAddresses ?? []),
      );
    }
    for (const [publicKey, { atMs }] of fresh) this.#shaken.set(publicKey, atMs);
    for (const publicKey of this.#shaken.keys()) if (!newest.has(publicKey)) this.#shaken.delete(publicKey);
  }

  async identitySessions(): Promise<readonly IdentitySessions[]> {
    return await Promise.all(
      this.#running().map(async ({ name: identity, tunnel }) => {
        const { peers } = await tunnel.state();
        const sessions = peers.filter((peer) => peer.lastHandshakeMs > 0 && !this.#book.isProbe(peer.publicKey));
        return {
          identity,
          sessions: sessions.map(({ publicKey, lastHandshakeMs, rxBytes }) => ({ publicKey, lastHandshakeMs, rxBytes })),
        };
      }),
    );
  }

  configure(peers: readonly Peer[]): Promise<number> {
    return this.#most((tunnel) => tunnel.configure(peers));
  }

  loadKeys(peers: readonly Peer[]): Promise<number> {
    return this.#most((tunnel) => tunnel.loadKeys(peers));
  }

  setKeys(peers: readonly Peer[]): Promise<number> {
    return this.#most((tunnel) => tunnel.setKeys(peers));
  }

  revoke(peers: readonly RevokedPeer[]): Promise<number> {
    return this.#most((tunnel) => tunnel.revoke(peers));
  }

  retire(publicKeys: readonly string[]): Promise<number> {
    return this.#most((tunnel) => tunnel.retire(publicKeys));
  }

  async forget(publicKeys: readonly string[]): Promise<void> {
    await Promise.all(this.#running().map(({ tunnel }) => tunnel.forget(publicKeys)));
  }

  /**
   * By every key: only the client knows which of them it has moved to, and it answers to that one alone. What the others began is
   * given up as soon as it has answered.
   */
  async adopt(sessions: readonly SessionState[]): Promise<number> {
    if (this.#running().length < 2) return await this.#most((tunnel) => tunnel.adopt(sessions));
    const held = new Map((await this.state()).peers.map((peer) => [peer.publicKey, peer]));
    const wanted = sessions.filter((session) => !isHere(held.get(session.publicKey), session));
    return await this.#most((tunnel) => tunnel.adopt(wanted));
  }

  async followUp(): Promise<void> {
    const running = this.#running();
    await Promise.all(running.map(({ tunnel }) => tunnel.followUp()));
    if (running.length < 2 || this.adopting === 0) return;
    const looks = await Promise.all(running.map(async ({ tunnel }) => ({ tunnel, peers: (await tunnel.state()).peers })));
    const held = looks.map(({ peers, tunnel }) => ({ tunnel, byKey: new Map(peers.map((peer) => [peer.publicKey, peer])) }));
    for (const { tunnel } of running) {
      // Not by its own: its handshake may have come since it was followed up on, and is what was asked for.
      const others = held.filter((one) => one.tunnel !== tunnel);
      const answered = tunnel
        .pendingSessions()
        .filter((session) => others.some(({ byKey }) => isHere(byKey.get(session.publicKey), session)));
      if (answered.length > 0) await tunnel.retire(answered.map(({ publicKey }) => publicKey));
    }
  }

  pendingSessions(): readonly SessionState[] {
    const pending = this.#running().flatMap(({ tunnel }) => tunnel.pendingSessions());
    return [...new Map(pending.map((session) => [session.publicKey, session])).values()];
  }

  /** Ends the devices, starts them anew and begins handshakes with the clients they had. */
  async recover(sessions: readonly SessionState[]): Promise<number> {
    await this.#inTurn(async () => {
      for (const { tunnel } of this.#heldOnes()) await tunnel.recover([]);
      await this.#settle();
    });
    await this.adopt(sessions);
    return 1;
  }

  async #settle(): Promise<void> {
    const failed: string[] = [];
    // The one that serves first.
    for (const wanted of this.#wanted.toSorted((one) => (one.state === "serving" ? -1 : 1))) {
      try {
        await this.#bringUp(wanted);
      } catch (thrown) {
        failed.push(messageOf(thrown));
      }
    }
    if (failed.length > 0) throw new ForeshiftError("NOT_READY", { value: this.#config.device, detail: failed.join("; ") });
    if (!this.#followed) return;
    await this.#setWays();
    for (const [slot, { device, name, tunnel }] of this.#held) {
      if (this.#wanted.some((one) => one.slot === slot)) continue;
      await tunnel.stop();
      this.#held.delete(slot);
      this.#log.info({ event: "identity-ended", device, identity: name });
    }
  }

  async #bringUp(wanted: Wanted): Promise<void> {
    const { device, name, tunnel } = this.#hold(wanted);
    if (this.#upAs(wanted.slot, name)) return;
    await tunnel.start();
    this.#log.info({ event: "identity-up", device, identity: name });
  }

  /** Not started yet it is already told of peers, and notes them. */
  #hold({ secret, slot }: Wanted): Held {
    const held = this.#held.get(slot);
    if (held !== undefined) return held;
    const { device: first, listenPort, stateDir } = this.#config;
    const device = slot === 0 ? first : `${first.slice(0, DEVICE_CHARS_MAX)}-2`;
    const config = {
      ...this.#config,
      device,
      keySecret: secret,
      listenPort: portOfSlot(listenPort, slot),
      stateDir: slot === 0 ? stateDir : join(stateDir, "slot-1"),
      // Where a packet for a client goes is said once both are up.
      routes: this.#followed ? [] : this.#config.routes,
    };
    const parts = { config, slot, secrets: this.#secrets, book: this.#book, log: this.#log };
    const made = { slot, name: refName(secret), device, tunnel: new Tunnel(parts) };
    this.#held.set(slot, made);
    return made;
  }

  async #setWays(): Promise<void> {
    const { routes } = this.#config;
    const ways = this.#wanted.flatMap(({ slot, state }) => {
      const device = this.#held.get(slot)?.device;
      return device === undefined ? [] : [{ slot, state, device }];
    });
    const serving = ways.find(({ state }) => state === "serving");
    if (serving !== undefined) await routeInto(serving.device, routes);
    this.#following = ways.length > 1;
    this.#shaken.clear();
    if (this.#following) await followClients(ways, routes);
    else await stopFollowing();
  }

  #upAs(slot: Wanted["slot"], name: string): boolean {
    const held = this.#held.get(slot);
    return held !== undefined && held.name === name && held.tunnel.started;
  }

  #heldOnes(): readonly Held[] {
    return [...this.#held.values()];
  }

  #running(): readonly Held[] {
    return this.#heldOnes().filter(({ tunnel }) => tunnel.started);
  }

  /** Asks each, those that have not started too; peers are the same on all, so the largest count is the endpoint's. */
  async #most(ask: (tunnel: Tunnel) => Promise<number>): Promise<number> {
    const counts = await Promise.all(this.#heldOnes().map(({ tunnel }) => ask(tunnel)));
    return Math.max(0, ...counts);
  }

  /** What was kept on disk; unreadable is as good as not there, for the source of truth tells it again. */
  #read(): readonly StaticIdentity[] | undefined {
    let text: string;
    try {
      text = readFileSync(this.#path, "utf8");
    } catch {
      return undefined;
    }
    try {
      return StaticIdentities.parse(JSON.parse(text));
    } catch (thrown) {
      this.#log.warn({ event: "identities-unreadable", detail: messageOf(thrown) });
      return undefined;
    }
  }

  #inTurn<R>(work: () => Promise<R>): Promise<R> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

/** One client on two devices: where it shook hands last, with what both have counted. */
function together(one: DevicePeer, other: DevicePeer): DevicePeer {
  const newest = other.lastHandshakeMs > one.lastHandshakeMs ? other : one;
  return { ...newest, rxBytes: one.rxBytes + other.rxBytes, txBytes: one.txBytes + other.txBytes };
}
