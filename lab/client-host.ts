/** One host of the lab's clients: its sessions, their keys, and by which ways each of them reaches the swarm. */
import type { Peer } from "../models/session.ts";
import { clientInner, clientOuter, INNER } from "./addresses.ts";
import { type KeyPair, makeKeyPair } from "./keys.ts";
import { runScript } from "./namespace.ts";

/** A host's first address, and the last of those that it roams over. */
const FIRST_ADDRESS = 2;
const LAST_ADDRESS = 250;
/** Routing table of a host's session `k`, by source address. */
const SESSION_TABLE_BASE = 1_000;

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

export interface ClientHost {
  client: Client;
  keys: readonly KeyPair[];
  /** Of each session, the way that it sends by first; a second one while its swarm's static key is rotated. */
  readonly ways: Way[][];
  /** Last part of its present outer address. */
  address: number;
}

/** How a session reaches its swarm: an interface whose one peer is the swarm by one of its static keys. */
export interface Way extends SwarmEnd {
  readonly device: string;
}

/** A static key of the swarm, and its port at the VIP. */
export interface SwarmEnd {
  readonly publicKey: string;
  readonly port: number;
}

export function makeHost(number: number, firstIndex: number, count: number, family: 4 | 6, swarm: SwarmEnd): ClientHost {
  const keys = Array.from({ length: count }, makeKeyPair);
  const sessions = keys.map(({ publicKey }, k) => {
    const innerAddress = clientInner(number, k);
    return { peer: { publicKey, innerAddresses: [innerAddress] }, innerAddress, device: `wg${k}`, index: firstIndex + k };
  });
  const ways = sessions.map(({ device }) => [{ ...swarm, device }]);
  return { client: { name: `client-${number}`, number, family, sessions }, keys, ways, address: FIRST_ADDRESS };
}

/** Keys, ways and address of a host, as `wg` and `ip` there say. */
export async function readBack(host: ClientHost): Promise<void> {
  const { name, sessions } = host.client;
  const dump = (await runScript("wg show all dump", name)).split("\n").map((line) => line.split("\t"));
  const tables = sessions.map((_, k) => `ip route show table ${SESSION_TABLE_BASE + k} 2> /dev/null || true; echo ,`);
  const routes = (await runScript(tables.join("\n"), name)).split(",");
  const address = /inet [\d.]+\.(\d+)\//.exec(await runScript("ip -o -4 addr show dev eth0", name))?.[1];
  host.address = Number(address ?? FIRST_ADDRESS);
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
    host.ways[k] = ways;
  }
  host.keys = keys;
  host.client = { ...host.client, sessions: found };
}

/** The outer address after the present one, and around. */
export function nextAddress({ address }: ClientHost): number {
  return address === LAST_ADDRESS ? FIRST_ADDRESS : address + 1;
}

/** What session `k` sends goes by a table of its own. */
export function ruleOf({ client }: ClientHost, k: number): string {
  return `rule add from ${client.sessions[k]?.innerAddress} lookup ${SESSION_TABLE_BASE + k}`;
}

/** The tunnels, and the routes that go when they go down. */
export function upAndRoutes(host: ClientHost): string[] {
  return host.ways.flatMap(([way], k) => [`link set ${way?.device} mtu 1420 up`, ...routesOf(host, k)]);
}

/** Programs that bind to no address take the first session. */
export function routesOf({ client, ways }: ClientHost, k: number): string[] {
  const by = `${INNER.servers} dev ${ways[k]?.[0]?.device} src ${client.sessions[k]?.innerAddress}`;
  return [`route replace ${by} table ${SESSION_TABLE_BASE + k}`, ...(k === 0 ? [`route replace ${by}`] : [])];
}

export function addressesOf(outer: { v4: string; v6: string }): string[] {
  return [`addr add ${outer.v4}/24 dev eth0`, `addr add ${outer.v6}/64 dev eth0 nodad`];
}

export function defaultRoutes(number: number): string[] {
  const gateway = clientOuter(number, 1);
  return [`route replace default via ${gateway.v4} dev eth0`, `route replace default via ${gateway.v6} dev eth0`];
}
