/**
 * The lab's clients: hosts with stock WireGuard whose only peer is the swarm's VIP. Several sessions may share a host.
 */
import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { atDataPathPriority } from "../drivers/priority.ts";
import { NO_PRESHARED_KEY } from "../drivers/tunnel/wireguard-device.ts";
import { ForeshiftError } from "../models/errors.ts";
import type { Peer } from "../models/session.ts";
import { clientInner, clientOuter, INNER } from "./addresses.ts";
import { type KeyPair, makeKeyPair } from "./keys.ts";
import { addNamespaces, runScript } from "./namespace.ts";
import { ipBatch, setSysctls, type Vip } from "./topology.ts";

/** Hosts have /24 networks 198.18.101.0 and up, below the VIP's 198.19.0.0/16. */
export const CLIENT_HOSTS_MAX = 150;
export const SESSIONS_PER_HOST_MAX = 100;
/**
 * Each wireguard-go takes one of the inotify instances that Linux grants a user (128 by default). Up to this many sessions there are
 * enough for everybody; beyond it each host's WireGuard runs as a user of its own, from this number up.
 */
const ONE_USER_SESSIONS_MAX = 64;
const FIRST_USER_ID = 2_000_000_000;
/** Left for the endpoints and whatever else the person runs. */
const INOTIFY_INSTANCES_SPARED = 48;
/** A client's first address, and the addresses that it roams over. */
const FIRST_ADDRESS = 2;
const LAST_ADDRESS = 250;
/** Routing table of a host's session `k`, by source address. */
const SESSION_TABLE_BASE = 1_000;
/** Tenths of a second that a session by another way has for its handshake. */
const HANDSHAKE_TURNS = 50;

export interface ClientSession {
  readonly peer: Peer;
  readonly innerAddress: string;
  readonly device: string;
  /** Counted over all clients of the lab. */
  readonly index: number;
}

export interface Client {
  readonly name: string;
  readonly number: number;
  readonly family: 4 | 6;
  readonly sessions: readonly ClientSession[];
}

interface Entry {
  client: Client;
  keys: readonly KeyPair[];
  /** Of each session, the way that it sends by first; a second one while its swarm's static key is rotated. */
  readonly ways: Way[][];
  /** Last part of its present outer address. */
  address: number;
}

/** How a session reaches its swarm: an interface whose one peer is the swarm by one of its static keys. */
interface Way extends SwarmEnd {
  readonly device: string;
}

/** A static key of the swarm, and its port at the VIP. */
export interface SwarmEnd {
  readonly publicKey: string;
  readonly port: number;
}

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
  readonly #entries: readonly Entry[];
  readonly #spare: Entry | undefined;
  #spareUp = false;

  constructor(options: ClientsOptions) {
    this.#options = options;
    const hosts = Math.ceil(options.sessions / options.sessionsPerHost);
    const onIpv6 = options.vip.v6 === undefined ? 0 : Math.round(hosts * options.ipv6Share);
    const swarm = { publicKey: options.swarmPublicKey, port: options.vip.port };
    this.#entries = Array.from({ length: hosts }, (_, at) => {
      const first = at * options.sessionsPerHost;
      const count = Math.min(options.sessionsPerHost, options.sessions - first);
      return makeEntry(at + 1, first, count, at >= hosts - onIpv6 ? 6 : 4, swarm);
    });
    const { spareSessions = 0, sessions } = options;
    this.#spare = spareSessions > 0 ? makeEntry(hosts + 1, sessions, spareSessions, 4, swarm) : undefined;
  }

  get list(): readonly Client[] {
    return this.#entries.map((entry) => entry.client);
  }

  /** The host of the sessions that may join later. */
  get spare(): Client | undefined {
    return this.#spare?.client;
  }

  /** Of all its hosts. */
  get hosts(): readonly string[] {
    return this.#all.map(({ client }) => client.name);
  }

  get #all(): readonly Entry[] {
    return [...this.#entries, ...(this.#spare === undefined ? [] : [this.#spare])];
  }

  /** Takes on the hosts that a process before this one has built: who they are, and how they reach the swarm, is read from them. */
  async adopt(): Promise<void> {
    for (const entry of this.#all) await readBack(entry);
    await this.lowerSpare();
  }

  /** The spare host's tunnels come up. Until then, and after `lowerSpare`, they know of no session and send nothing, whoever asks. */
  async raiseSpare(): Promise<void> {
    if (this.#spare === undefined) return;
    const { client } = this.#spare;
    // A peer that is set anew has no keys to go on with: its first packet shakes hands.
    await runScript(this.#setConfigs(this.#spare).join("\n"), client.name);
    await ipBatch(upAndRoutes(this.#spare), client.name);
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
    const [entries, { hosts }] = [this.#all, this];
    await addNamespaces(hosts);
    await ipBatch(hosts.map((host) => `link add ${host} netns edge type veth peer name eth0 netns ${host}`));
    await ipBatch(
      entries.flatMap(({ client }) => {
        const gateway = clientOuter(client.number, 1);
        return [
          `addr add ${gateway.v4}/24 dev ${client.name}`,
          `addr add ${gateway.v6}/64 dev ${client.name} nodad`,
          `link set ${client.name} up`,
        ];
      }),
      "edge",
    );
    for (const entry of entries) await this.#bringUp(entry);
    await this.lowerSpare();
  }

  /** Gives a client another outer address and other source ports, as when it changes networks. */
  async roam(name: string): Promise<{ outerAddress: string; ports: readonly number[] }> {
    const entry = this.#entries.find((one) => one.client.name === name);
    if (entry === undefined) {
      const detail = `the clients are client-1 to client-${this.#entries.length}`;
      throw new ForeshiftError("INVALID_FIELD", { field: "client", value: name, detail });
    }
    const { client } = entry;
    const before = clientOuter(client.number, entry.address);
    entry.address = entry.address === LAST_ADDRESS ? FIRST_ADDRESS : entry.address + 1;
    const after = clientOuter(client.number, entry.address);
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
    const listen = entry.ways.flatMap((ways, k) =>
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
    const { entry, k } = this.#sessionOf(publicKey);
    if (entry === this.#spare) throw invalid(publicKey, "its host is a spare one, which has none");
    const own = entry.keys[k]?.privateKey ?? "";
    for (const { device, publicKey: swarm } of entry.ways[k] ?? []) {
      const peer = `peer ${swarm} preshared-key /dev/fd/4`;
      const set = `wg set ${device} private-key /dev/fd/3 ${peer} 3<<'OWN' 4<<'SHARED'\n${own}\nOWN\n${presharedKey}\nSHARED`;
      const away = `wg set ${device} private-key /dev/fd/3 3<<'OTHER'\n${makeKeyPair().privateKey}\nOTHER\n`;
      await runScript(`${handshake ? away : ""}${set}`, entry.client.name);
    }
  }

  /** A second interface with the session's own key and address, and a handshake by it; the session sends as before. */
  async bringWay(publicKey: string, end: SwarmEnd): Promise<void> {
    const { entry, k } = this.#sessionOf(publicKey);
    const ways = entry.ways[k] ?? [];
    if (ways.some((way) => way.publicKey === end.publicKey)) return;
    const [first] = ways;
    const device = first?.device.endsWith("b") === true ? `wg${k}` : `wg${k}b`;
    const way = { ...end, device };
    if (this.#isAsleep(entry)) return void ways.push(way);
    const { client, keys } = entry;
    const lines = [
      this.#startWireguard(entry, device),
      this.#setConfig(way, keys[k], client.family),
      `wg show ${first?.device} preshared-keys | cut -f2 | sed 's/(none)/${NO_PRESHARED_KEY.replaceAll("/", "\\/")}/' | wg set ${device} peer ${end.publicKey} preshared-key /dev/stdin`,
      `ip addr add ${client.sessions[k]?.innerAddress}/32 dev ${device}`,
      `ip link set ${device} mtu 1420 up`,
      ...shakingHands(way),
    ];
    try {
      await runScript(lines.join("\n"), client.name);
      ways.push(way);
    } catch (thrown) {
      await runScript(`ip link del ${device}`, client.name).catch(() => undefined);
      throw thrown;
    }
  }

  /** After a further handshake by it, what the session sends goes by the way to this end; what comes by the other is taken on. */
  async useWay(publicKey: string, end: SwarmEnd): Promise<void> {
    const { entry, k } = this.#sessionOf(publicKey);
    const ways = entry.ways[k] ?? [];
    const at = ways.findIndex((way) => way.publicKey === end.publicKey);
    if (at < 0) throw invalid(publicKey, "it has no way to this static key");
    const [former, way] = [ways[0], ways[at]];
    if (at === 0 || former === undefined || way === undefined) return;
    // A host that sleeps has one interface for each session, which takes its key from here when it is raised.
    const devices = this.#isAsleep(entry) ? [former.device, way.device] : [way.device, former.device];
    const use = () =>
      ways.splice(0, ways.length, { ...way, device: devices[0] ?? "" }, { ...former, device: devices[1] ?? "" });
    if (this.#isAsleep(entry)) return void use();
    // One that does not shake hands in time stays on its former way, and says so again when it is asked again.
    await runScript(renewing(way, entry.keys[k]).join("\n"), entry.client.name);
    const before = use();
    try {
      await ipBatch(routesOf(entry, k), entry.client.name);
    } catch (thrown) {
      ways.splice(0, ways.length, ...before);
      throw thrown;
    }
  }

  /** Takes down the way to this end; one that is not there is a success. */
  async dropWay(publicKey: string, end: SwarmEnd): Promise<void> {
    const { entry, k } = this.#sessionOf(publicKey);
    const ways = entry.ways[k] ?? [];
    const at = ways.findIndex((way) => way.publicKey === end.publicKey);
    if (at === 0) throw invalid(publicKey, "it sends by the way to this static key");
    if (at < 0) return;
    const [gone] = ways.splice(at, 1);
    if (this.#isAsleep(entry)) return;
    await runScript(
      `if ip link show ${gone?.device} > /dev/null 2>&1; then ip link del ${gone?.device}; fi`,
      entry.client.name,
    );
  }

  #isAsleep(entry: Entry): boolean {
    return entry === this.#spare && !this.#spareUp;
  }

  #sessionOf(publicKey: string): { readonly entry: Entry; readonly k: number } {
    for (const entry of this.#all) {
      const k = entry.client.sessions.findIndex(({ peer }) => peer.publicKey === publicKey);
      if (k >= 0) return { entry, k };
    }
    throw invalid(publicKey, "no client of the lab has it");
  }

  async #bringUp(entry: Entry): Promise<void> {
    const { client } = entry;
    await setSysctls(client.name, ["net.ipv4.conf.all.promote_secondaries=1", "net.ipv4.conf.default.promote_secondaries=1"]);
    await ipBatch(
      [...addressesOf(clientOuter(client.number, entry.address)), "link set eth0 up", ...defaultRoutes(client.number)],
      client.name,
    );
    const start = this.#setConfigs(entry).map(
      (set, k) => `${this.#startWireguard(entry, client.sessions[k]?.device ?? "")}\n${set}`,
    );
    await runScript(start.join("\n"), client.name);
    await ipBatch(
      client.sessions.flatMap(({ device, innerAddress }, k) => [
        `addr add ${innerAddress}/32 dev ${device}`,
        `rule add from ${innerAddress} lookup ${SESSION_TABLE_BASE + k}`,
      ]),
      client.name,
    );
    await ipBatch(upAndRoutes(entry), client.name);
  }

  #startWireguard({ client }: Entry, device: string): string {
    const as = this.#options.sessions > ONE_USER_SESSIONS_MAX && isRealRoot() ? asUser(FIRST_USER_ID + client.number) : "";
    return `export WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1 LOG_LEVEL=silent
chmod 1777 /run/wireguard
${atDataPathPriority([as, "wireguard-go", device]).join(" ")} 2>/dev/null`;
  }

  /** Of each session's first way. Keys go in by standard input, so that they show in no list of processes. */
  #setConfigs({ client, keys, ways }: Entry): readonly string[] {
    return ways.flatMap(([way], k) => (way === undefined ? [] : [this.#setConfig(way, keys[k], client.family)]));
  }

  #setConfig({ device, port, publicKey }: Way, keys: KeyPair | undefined, family: 4 | 6): string {
    const { v4, v6 } = this.#options.vip;
    return `wg setconf ${device} /dev/stdin <<'END'
[Interface]
PrivateKey = ${keys?.privateKey ?? ""}
[Peer]
PublicKey = ${publicKey}
Endpoint = ${family === 6 && v6 !== undefined ? `[${v6}]:${port}` : `${v4}:${port}`}
AllowedIPs = ${INNER.servers}
END`;
  }
}

/** A user of its own with the one right that WireGuard needs. */
function asUser(id: number): string {
  return `setpriv --reuid ${id} --regid ${id} --clear-groups --inh-caps +net_admin --ambient-caps +net_admin --`;
}

/** Root of the machine, not of a user namespace, whose processes all count as one user's. */
function isRealRoot(): boolean {
  return /^\s*0\s+0\s+4294967295/.test(readFileSync("/proc/self/uid_map", "utf8"));
}

function checkInotify(sessions: number): void {
  const granted = Number(readFileSync("/proc/sys/fs/inotify/max_user_instances", "utf8"));
  const needed = sessions + INOTIFY_INSTANCES_SPARED;
  if (isRealRoot() || needed <= granted) return;
  const detail = `each needs an inotify instance and this user has ${granted}; as root: sysctl fs.inotify.max_user_instances=${needed}`;
  throw new ForeshiftError("INVALID_FIELD", { field: "sessions", value: sessions, detail });
}

function makeEntry(number: number, firstIndex: number, count: number, family: 4 | 6, swarm: SwarmEnd): Entry {
  const keys = Array.from({ length: count }, makeKeyPair);
  const sessions = keys.map(({ publicKey }, k) => {
    const innerAddress = clientInner(number, k);
    return { peer: { publicKey, innerAddresses: [innerAddress] }, innerAddress, device: `wg${k}`, index: firstIndex + k };
  });
  const ways = sessions.map(({ device }) => [{ ...swarm, device }]);
  return { client: { name: `client-${number}`, number, family, sessions }, keys, ways, address: FIRST_ADDRESS };
}

/** Keys, ways and address of a host, as `wg` and `ip` there say. */
async function readBack(entry: Entry): Promise<void> {
  const { name, sessions } = entry.client;
  const dump = (await runScript("wg show all dump", name)).split("\n").map((line) => line.split("\t"));
  const tables = sessions.map((_, k) => `ip route show table ${SESSION_TABLE_BASE + k} 2> /dev/null || true; echo ,`);
  const routes = (await runScript(tables.join("\n"), name)).split(",");
  const address = /inet [\d.]+\.(\d+)\//.exec(await runScript("ip -o -4 addr show dev eth0", name))?.[1];
  entry.address = Number(address ?? FIRST_ADDRESS);
  const [keys, found]: [KeyPair[], ClientSession[]] = [[], []];
  for (const [k, session] of sessions.entries()) {
    const inUse = / dev (\S+)/.exec(routes[k] ?? "")?.[1] ?? session.device;
    const [, privateKey = "", publicKey = ""] = dump.find((line) => line.length === 5 && line[0] === inUse) ?? [];
    keys.push({ privateKey, publicKey });
    found.push({ ...session, peer: { ...session.peer, publicKey } });
    const devices = [inUse, ...[`wg${k}`, `wg${k}b`].filter((device) => device !== inUse)];
    const ways = devices.flatMap((device): Way[] => {
      const [, swarm, , endpoint = ""] = dump.find((line) => line.length > 5 && line[0] === device) ?? [];
      return swarm === undefined ? [] : [{ device, publicKey: swarm, port: Number(endpoint.split(":").at(-1)) }];
    });
    entry.ways[k] = ways;
  }
  entry.keys = keys;
  entry.client = { ...entry.client, sessions: found };
}

/** The tunnels, and the routes that go when they go down. */
function upAndRoutes(entry: Entry): string[] {
  return entry.ways.flatMap(([way], k) => [`link set ${way?.device} mtu 1420 up`, ...routesOf(entry, k)]);
}

/** Programs that bind to no address take the first session. */
function routesOf({ client, ways }: Entry, k: number): string[] {
  const by = `${INNER.servers} dev ${ways[k]?.[0]?.device} src ${client.sessions[k]?.innerAddress}`;
  return [`route replace ${by} table ${SESSION_TABLE_BASE + k}`, ...(k === 0 ? [`route replace ${by}`] : [])];
}

/** Nothing is sent by this way yet: a keepalive is what shakes hands, and an answer is what comes of it. */
function shakingHands({ device, publicKey }: Way): readonly string[] {
  const received = `$(wg show ${device} transfer | cut -f2)`;
  return [
    `before=${received}`,
    `wg set ${device} peer ${publicKey} persistent-keepalive 1`,
    `for turn in $(seq ${HANDSHAKE_TURNS}); do [ "${received}" != "$before" ] && break; sleep 0.1; done`,
    `[ "${received}" != "$before" ]`,
    `wg set ${device} peer ${publicKey} persistent-keepalive 0`,
  ];
}

/** A newer handshake than by the other way, so that endpoints and balancer send by this one; what comes meanwhile is still opened. */
function renewing(way: Way, keys: KeyPair | undefined): readonly string[] {
  const set = (key: string) => `wg set ${way.device} private-key /dev/fd/3 3<<'KEY'\n${key}\nKEY`;
  return [set(makeKeyPair().privateKey), set(keys?.privateKey ?? ""), ...shakingHands(way)];
}

function listenOn(device: string, port: number | undefined): string {
  return `wg set ${device} listen-port ${port ?? randomInt(20_000, 60_000)}`;
}

function invalid(publicKey: string, detail: string): ForeshiftError {
  return new ForeshiftError("INVALID_FIELD", { field: "publicKey", value: publicKey, detail });
}

function addressesOf(outer: { v4: string; v6: string }): string[] {
  return [`addr add ${outer.v4}/24 dev eth0`, `addr add ${outer.v6}/64 dev eth0 nodad`];
}

function defaultRoutes(number: number): string[] {
  const gateway = clientOuter(number, 1);
  return [`route replace default via ${gateway.v4} dev eth0`, `route replace default via ${gateway.v6} dev eth0`];
}
