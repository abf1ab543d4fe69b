/**
 * The lab's clients: hosts with stock WireGuard whose only peer is the swarm's VIP. Several sessions may share a host.
 */
import { randomInt } from "node:crypto";
import { ForeshiftError } from "../models/errors.ts";
import { clientOuter } from "./addresses.ts";
import {
  addressesOf,
  type Client,
  type ClientHost,
  defaultRoutes,
  makeHost,
  nextAddress,
  readBack,
  ruleOf,
  type SwarmEnd,
  upAndRoutes,
} from "./client-host.ts";
import { bringWay, dropWay, type HostSession, useWay } from "./client-ways.ts";
import { ClientWireguard, checkInotify, listenOn, settingPresharedKey } from "./client-wireguard.ts";
import { addNamespaces, runScript } from "./namespace.ts";
import { ipBatch, setSysctls, type Vip } from "./topology.ts";

/** Hosts have /24 networks 198.18.101.0 and up, below the VIP's 198.19.0.0/16. */
export const CLIENT_HOSTS_MAX = 150;
export const SESSIONS_PER_HOST_MAX = 100;

export interface ClientsOptions {
  readonly vip: Vip;
  readonly swarmPublicKey: string;
  /** Sessions in all, and how many share a host. */
  readonly sessions: number;
  /** Sessions beside these, all on one more host, that send nothing until somebody has them join. */
  readonly spareSessions?: number;
  readonly sessionsPerHost: number;
  /** Share of the hosts, 0..1, that reach the VIP by IPv6. */
  readonly ipv6Share: number;
}

export class Clients {
  readonly #options: ClientsOptions;
  readonly #wireguard: ClientWireguard;
  readonly #hosts: readonly ClientHost[];
  readonly #spare: ClientHost | undefined;
  #spareUp = false;

  constructor(options: ClientsOptions) {
    this.#options = options;
    this.#wireguard = new ClientWireguard(options);
    const hosts = Math.ceil(options.sessions / options.sessionsPerHost);
    const onIpv6 = options.vip.v6 === undefined ? 0 : Math.round(hosts * options.ipv6Share);
    const swarm = { publicKey: options.swarmPublicKey, port: options.vip.port };
    this.#hosts = Array.from({ length: hosts }, (_, at) => {
      const first = at * options.sessionsPerHost;
      const count = Math.min(options.sessionsPerHost, options.sessions - first);
      return makeHost(at + 1, first, count, at >= hosts - onIpv6 ? 6 : 4, swarm);
    });
    const { spareSessions = 0, sessions } = options;
    this.#spare = spareSessions > 0 ? makeHost(hosts + 1, sessions, spareSessions, 4, swarm) : undefined;
  }

  get list(): readonly Client[] {
    return this.#hosts.map(({ client }) => client);
  }

  /** The host of the sessions that may join later. */
  get spare(): Client | undefined {
    return this.#spare?.client;
  }

  /** Names of all its hosts. */
  get hosts(): readonly string[] {
    return this.#all.map(({ client }) => client.name);
  }

  get #all(): readonly ClientHost[] {
    return [...this.#hosts, ...(this.#spare === undefined ? [] : [this.#spare])];
  }

  /** Takes on the hosts that a process before this one has built: who they are, and how they reach the swarm, is read from them. */
  async adopt(): Promise<void> {
    for (const host of this.#all) await readBack(host);
    await this.lowerSpare();
  }

  /**
   * The tunnels of the spare host's first sessions come up. Until then, and after `lowerSpare`, they know of no session and send nothing,
   * whoever asks: streams of sessions that were ended go on saying so to nobody for a while, and would begin them anew.
   */
  async raiseSpare(sessions: number): Promise<void> {
    if (this.#spare === undefined) return;
    const joining = { ...this.#spare, ways: this.#spare.ways.slice(0, sessions) };
    const { client } = joining;
    // A peer that is set anew has no keys to go on with: its first packet shakes hands.
    await runScript(this.#wireguard.configs(joining).join("\n"), client.name);
    await ipBatch(upAndRoutes(joining), client.name);
    this.#spareUp = true;
  }

  async lowerSpare(): Promise<void> {
    if (this.#spare === undefined) return;
    this.#spareUp = false;
    await ipBatch(
      this.#spare.ways.flatMap((ways) => ways.map(({ device }) => `link set ${device} down`)),
      this.#spare.client.name,
    );
  }

  /** Makes the hosts, and brings WireGuard up on them. */
  async build(): Promise<void> {
    const { sessions, spareSessions = 0 } = this.#options;
    checkInotify(sessions + spareSessions);
    const { hosts } = this;
    await addNamespaces(hosts);
    await ipBatch(hosts.map((host) => `link add ${host} netns edge type veth peer name eth0 netns ${host}`));
    await ipBatch(
      this.#all.flatMap(({ client }) => {
        const gateway = clientOuter(client.number, 1);
        return [
          `addr add ${gateway.v4}/24 dev ${client.name}`,
          `addr add ${gateway.v6}/64 dev ${client.name} nodad`,
          `link set ${client.name} up`,
        ];
      }),
      "edge",
    );
    for (const host of this.#all) await this.#bringUp(host);
    await this.lowerSpare();
  }

  /** Gives a client another outer address and other source ports, as when it changes networks. */
  async roam(name: string): Promise<{ outerAddress: string; ports: readonly number[] }> {
    const host = this.#hosts.find((one) => one.client.name === name);
    if (host === undefined) {
      const detail = `the clients are client-1 to client-${this.#hosts.length}`;
      throw new ForeshiftError("INVALID_FIELD", { field: "client", value: name, detail });
    }
    const { client } = host;
    const before = clientOuter(client.number, host.address);
    host.address = nextAddress(host);
    const after = clientOuter(client.number, host.address);
    const ports = client.sessions.map(() => randomInt(20_000, 60_000));
    await ipBatch(
      [
        ...addressesOf(after),
        `addr del ${before.v4}/24 dev eth0`,
        `addr del ${before.v6}/64 dev eth0`,
        ...defaultRoutes(client.number),
      ],
      name,
    );
    const listen = host.ways.flatMap((ways, k) =>
      ways.map(({ device }, at) => listenOn(device, at === 0 ? ports[k] : undefined)),
    );
    await runScript(listen.join("\n"), name);
    return { outerAddress: client.family === 4 ? after.v4 : after.v6, ports };
  }

  /**
   * Sets a session's preshared key (base64). With `handshake` the client also begins one: its own key is taken away and given back, by
   * which WireGuard expires its sessions for sending, and receives on. What it has to send waits for the answer.
   */
  async setPresharedKey(publicKey: string, presharedKey: string, handshake: boolean): Promise<void> {
    const { host, k } = this.#sessionOf(publicKey);
    if (host === this.#spare) throw invalid(publicKey, "its host is a spare one, which has none");
    const own = host.keys[k]?.privateKey ?? "";
    for (const way of host.ways[k] ?? [])
      await runScript(settingPresharedKey(way, own, presharedKey, handshake), host.client.name);
  }

  /** Another way to the swarm; the session sends as before. */
  async bringWay(publicKey: string, end: SwarmEnd): Promise<void> {
    await bringWay(this.#wireguard, this.#sessionOf(publicKey), end);
  }

  /** What the session sends goes by the way to this end from here on. */
  async useWay(publicKey: string, end: SwarmEnd): Promise<void> {
    await useWay(this.#sessionOf(publicKey), end);
  }

  async dropWay(publicKey: string, end: SwarmEnd): Promise<void> {
    await dropWay(this.#sessionOf(publicKey), end);
  }

  #sessionOf(publicKey: string): HostSession {
    for (const host of this.#all) {
      const k = host.client.sessions.findIndex(({ peer }) => peer.publicKey === publicKey);
      if (k >= 0) return { host, k, asleep: host === this.#spare && !this.#spareUp };
    }
    throw invalid(publicKey, "no client of the lab has it");
  }

  async #bringUp(host: ClientHost): Promise<void> {
    const { address, client } = host;
    await setSysctls(client.name, ["net.ipv4.conf.all.promote_secondaries=1", "net.ipv4.conf.default.promote_secondaries=1"]);
    await ipBatch(
      [...addressesOf(clientOuter(client.number, address)), "link set eth0 up", ...defaultRoutes(client.number)],
      client.name,
    );
    const configs = this.#wireguard.configs(host);
    const start = client.sessions.map(({ device }, k) => `${this.#wireguard.start(host, device)}\n${configs[k]}`);
    await runScript(start.join("\n"), client.name);
    await ipBatch(
      client.sessions.flatMap(({ device, innerAddress }, k) => [`addr add ${innerAddress}/32 dev ${device}`, ruleOf(host, k)]),
      client.name,
    );
    await ipBatch(upAndRoutes(host), client.name);
  }
}

function invalid(publicKey: string, detail: string): ForeshiftError {
  return new ForeshiftError("INVALID_FIELD", { field: "publicKey", value: publicKey, detail });
}
