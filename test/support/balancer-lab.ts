/**
 * The lab's network with real WireGuard at both ends and no agents, for tests of the packet path. Inside the test's own namespaces.
 */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { atDataPathPriority } from "../../drivers/priority.ts";
import { uapiDevice } from "../../drivers/tunnel/wireguard-uapi.ts";
import { ECHO_PORT, ENDPOINT_INNER, endpointLinks, INNER, probeInnerAddress, SERVER_INNER } from "../../lab/addresses.ts";
import type { Client } from "../../lab/client-host.ts";
import { Clients } from "../../lab/clients.ts";
import { makeKeyPair } from "../../lab/keys.ts";
import { pathOn, removeNamespace, runScript, signalHost, spawnIn } from "../../lab/namespace.ts";
import { addMachine, buildBackbone } from "../../lab/topology.ts";
import type { MemberLink, SteeringState } from "../../models/steering.ts";
import { SteeringState as SteeringStateSchema } from "../../models/steering.ts";
import type { StreamResult } from "./udp.ts";

export const VIP = { v4: "198.19.0.1", v6: "fd00:19::1", port: 51_820 } as const;
const UDP = join(import.meta.dirname, "udp.ts");

export interface BalancerLab {
  readonly clients: Clients;
  readonly swarmPublicKey: string;
  readonly endpoints: readonly string[];
  link(endpoint: string): MemberLink;
  /** Every endpoint knows this peer. */
  addPeer(publicKey: string, allowedIps: readonly string[]): Promise<void>;
  startWireGuard(endpoint: string): Promise<void>;
  /** Ends every process of the lab; one that lives would keep the test's runner waiting. */
  close(): Promise<void>;
}

export interface BalancerLabOptions {
  readonly endpoints: number;
  readonly sessions: number;
  readonly sessionsPerHost?: number;
  readonly ipv6Share?: number;
  /** Folder of the agents' sockets. */
  readonly agentDir?: string;
}

export async function buildBalancerLab(options: BalancerLabOptions): Promise<BalancerLab> {
  mkdirSync("/run/lab/mnt", { recursive: true });
  const swarm = makeKeyPair();
  await buildBackbone(VIP);
  const clients = new Clients({
    vip: VIP,
    swarmPublicKey: swarm.publicKey,
    sessions: options.sessions,
    sessionsPerHost: options.sessionsPerHost ?? 1,
    ipv6Share: options.ipv6Share ?? 0,
  });
  await clients.build();
  const numbers = Array.from({ length: options.endpoints }, (_, at) => at + 1);
  const peers = clients.list.flatMap((client) =>
    client.sessions.map(({ peer }) => peerLines(peer.publicKey, peer.innerAddresses)),
  );
  const config = `[Interface]\nPrivateKey = ${swarm.privateKey}\nListenPort = ${VIP.port}\n`;
  const startWireGuard = async (host: string) => {
    await runScript(
      `export WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1 LOG_LEVEL=silent
      ${atDataPathPriority(["wireguard-go", "wg0"]).join(" ")}
      wg setconf wg0 /dev/stdin <<'END'\n${config}${peers.join("")}\nEND
      ip addr add ${ENDPOINT_INNER} dev wg0; ip link set wg0 mtu 1420 up
      ip route add ${INNER.clients} dev wg0; ip route add ${INNER.probes} dev wg0`,
      host,
    );
  };
  for (const n of numbers) {
    await addMachine(`ep-${n}`, n, VIP);
    await startWireGuard(`ep-${n}`);
  }
  await startEcho();
  return {
    clients,
    swarmPublicKey: swarm.publicKey,
    endpoints: numbers.map((n) => `ep-${n}`),
    link: (endpoint) => linkOf(endpoint, options.agentDir ?? "/run"),
    addPeer: async (publicKey, allowedIps) => {
      peers.push(peerLines(publicKey, allowedIps));
      for (const n of numbers) await runScript(`wg set wg0 peer ${publicKey} allowed-ips ${allowedIps.join(",")}`, `ep-${n}`);
    },
    startWireGuard,
    close: async () => {
      const hosts = [
        "edge",
        "lb",
        "router",
        "server",
        ...clients.list.map(({ name }) => name),
        ...numbers.map((n) => `ep-${n}`),
      ];
      for (const host of hosts) signalHost(host, "SIGKILL");
      await Promise.all(hosts.map(removeNamespace));
    },
  };
}

export function steering(lab: BalancerLab, change: Partial<SteeringState> & { epoch: number }): SteeringState {
  return SteeringStateSchema.parse({
    swarm: "lab",
    vip: VIP,
    algorithm: "consistent-hash",
    swarmPublicKey: lab.swarmPublicKey,
    members: lab.endpoints.map((endpoint) => member(lab, endpoint)),
    pins: [],
    returnRoutes: [],
    outlier: {},
    ...change,
  });
}

export function member(lab: BalancerLab, endpoint: string, change: { weight?: number; draining?: boolean } = {}) {
  return { endpoint, weight: 100, draining: false, link: lab.link(endpoint), ...change };
}

function linkOf(endpoint: string, agentDir: string): MemberLink {
  const n = Number(endpoint.slice(3));
  const links = endpointLinks(n);
  return {
    device: endpoint,
    mac: links.lb.mac,
    returnDevice: endpoint,
    returnMac: links.inner.mac,
    probeAddress: links.lb.near,
    probeInnerAddress: probeInnerAddress(n),
    agent: join(agentDir, `${endpoint}.sock`),
  };
}

function peerLines(publicKey: string, allowedIps: readonly string[]): string {
  return `[Peer]\nPublicKey = ${publicKey}\nAllowedIPs = ${allowedIps.join(", ")}\n`;
}

async function startEcho(): Promise<void> {
  const child = spawnIn("server", [process.execPath, UDP, "echo", SERVER_INNER, String(ECHO_PORT)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise((resolve) => child.stdout?.once("data", resolve));
  // It ends with the test's namespaces and must not keep the test waiting.
  child.stdout?.destroy();
  child.unref();
}

/** Numbered packets through the client's tunnel to the echo service and back. */
export function stream(client: Client, count: number, intervalMs: number, session = 0): Promise<StreamResult> {
  const source = client.sessions[session]?.innerAddress ?? "";
  return output(client.name, ["stream", source, SERVER_INNER, String(ECHO_PORT), String(count), String(intervalMs)]).then(
    (text) => JSON.parse(text) as StreamResult,
  );
}

export async function flood(host: string, count: number, address: string = VIP.v4): Promise<void> {
  assert.equal((await output(host, ["flood", address, String(VIP.port), String(count)])).trim(), "done");
}

/** First messages of handshakes with the VIP, each from a port of its own. */
export async function initiations(host: string, count: number): Promise<void> {
  assert.equal((await output(host, ["initiations", VIP.v4, String(VIP.port), String(count)])).trim(), "done");
}

function output(host: string, args: readonly string[]): Promise<string> {
  const child = spawnIn(host, [process.execPath, UDP, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout?.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => resolve(text));
  });
}

/** Which endpoint has the client's newest session, by WireGuard's own account to the millisecond: `wg` rounds it to a second. */
export async function holderOf(lab: BalancerLab, client: Client, session = 0): Promise<string | undefined> {
  const publicKey = client.sessions[session]?.peer.publicKey;
  let best: { endpoint: string; at: number } | undefined;
  for (const endpoint of lab.endpoints) {
    // One that is dead or frozen says nothing, and holds nothing that counts.
    const device = uapiDevice("wg0", pathOn(endpoint, "/run/wireguard/wg0.sock"));
    const { peers } = await device.state().catch(() => ({ peers: [] }));
    const at = peers.find((peer) => peer.publicKey === publicKey)?.lastHandshakeMs ?? 0;
    if (at > (best?.at ?? 0)) best = { endpoint, at };
  }
  return best?.endpoint;
}
