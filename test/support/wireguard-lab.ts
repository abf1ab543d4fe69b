/**
 * A small network for agent tests, inside the test's own namespaces: a router between endpoints and one stock WireGuard client.
 */
import { spawn } from "node:child_process";
import { atDataPathPriority } from "../../drivers/priority.ts";
import { type WireGuardDevice } from "../../drivers/tunnel/wireguard-device.ts";
import { uapiDevice } from "../../drivers/tunnel/wireguard-uapi.ts";
import { eventually } from "./eventually.ts";
import { run } from "./namespace.ts";

export const SERVER_ADDRESS = "10.99.0.1";

export const genkey = () => run("wg", "genkey").trim();

export function pubkey(privateKey: string): string {
  return run("sh", "-c", 'printf %s "$0" | wg pubkey', privateKey).trim();
}

/** A network namespace with address 198.18.<n>.2, routed by the test's own namespace. */
export function addHost(name: string, n: number): void {
  run("ip", "netns", "add", name);
  run("ip", "link", "add", `to-${name}`, "type", "veth", "peer", "name", "eth0", "netns", name);
  run("ip", "addr", "add", `198.18.${n}.1/24`, "dev", `to-${name}`);
  run("ip", "link", "set", `to-${name}`, "up");
  run("ip", "-n", name, "addr", "add", `198.18.${n}.2/24`, "dev", "eth0");
  for (const link of ["lo", "eth0"]) run("ip", "-n", name, "link", "set", link, "up");
  run("ip", "-n", name, "route", "add", "default", "via", `198.18.${n}.1`);
}

export interface ClientOptions {
  readonly name: string;
  /** `wg-NAME` unless stated. */
  readonly interfaceName?: string;
  readonly privateKey: string;
  readonly innerAddress: string;
  readonly listenPort: number;
  readonly swarmPublicKey: string;
  readonly presharedKey?: string;
  /** Endpoint it starts with. */
  readonly endpoint: string;
}

/** A stock client in the network namespace of its name. */
export async function startClient(options: ClientOptions): Promise<WireGuardDevice> {
  const { name, innerAddress } = options;
  const wg = options.interfaceName ?? `wg-${name}`;
  const env = { ...process.env, WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD: "1", LOG_LEVEL: "error" };
  spawn("ip", ["netns", "exec", name, ...atDataPathPriority(["wireguard-go", "-f", wg])], { env, stdio: "ignore" }).unref();
  const device = uapiDevice(wg);
  await eventually(`WireGuard of ${name}`, () => device.state().catch(() => undefined));
  await device.setIdentity({ privateKey: options.privateKey, listenPort: options.listenPort });
  const peer = {
    publicKey: options.swarmPublicKey,
    innerAddresses: [SERVER_ADDRESS],
    presharedKey: options.presharedKey,
    endpoint: options.endpoint,
  };
  await device.apply([{ kind: "configure", ...peer }]);
  run("ip", "-n", name, "addr", "add", `${innerAddress}/32`, "dev", wg);
  run("ip", "-n", name, "link", "set", wg, "up");
  run("ip", "-n", name, "route", "replace", `${SERVER_ADDRESS}/32`, "dev", wg, "src", innerAddress);
  return device;
}

/** Sends `count` pings through the tunnel, `intervalS` apart, and answers how many were answered. */
export function pings(client: string, count: number, intervalS: number): Promise<number> {
  const args = ["netns", "exec", client, "ping", "-q", "-c", String(count), "-i", String(intervalS), "-W", "1", SERVER_ADDRESS];
  const child = spawn("ip", args, { stdio: ["ignore", "pipe", "ignore"] });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  return new Promise((resolve) => child.once("close", () => resolve(Number(/(\d+) received/.exec(output)?.[1] ?? 0))));
}

const SINK_PORT = 7_000;
const SINK = `
const seen = new Map();
const socket = require("node:dgram").createSocket("udp4");
socket.on("message", (message) => { const n = message.readUInt32BE(0); seen.set(n, (seen.get(n) ?? 0) + 1); });
process.stdin.on("data", () => console.log(JSON.stringify([...seen])));
socket.bind(${SINK_PORT}, "${SERVER_ADDRESS}", () => console.log("[]"));`;

const SOURCE = `
const [count, intervalMs] = process.argv.slice(1).map(Number);
const socket = require("node:dgram").createSocket("udp4");
let n = 0;
const timer = setInterval(() => {
  const message = Buffer.alloc(64);
  message.writeUInt32BE(n, 0);
  socket.send(message, ${SINK_PORT}, "${SERVER_ADDRESS}");
  if (++n === count) { clearInterval(timer); setTimeout(() => socket.close(), 100); }
}, intervalMs);`;

export interface Sink {
  /** Numbers of the packets that arrived here, each with how often. */
  seen(): Promise<ReadonlyMap<number, number>>;
  end(): void;
}

/** Receives numbered packets behind an endpoint's tunnel and answers none of them. */
export async function startSink(endpoint: string): Promise<Sink> {
  const child = spawn("ip", ["netns", "exec", endpoint, process.execPath, "-e", SINK], { stdio: ["pipe", "pipe", "inherit"] });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  const line = (n: number) =>
    eventually(`the sink of ${endpoint}`, () => (output.split("\n").length > n + 1 ? output.split("\n")[n] : undefined));
  await line(0);
  let asked = 0;
  return {
    seen: async () => {
      child.stdin.write("?");
      asked += 1;
      return new Map(JSON.parse(await line(asked)) as [number, number][]);
    },
    end: () => child.kill("SIGKILL"),
  };
}

/** Sends numbered packets from the client into its tunnel; over when all are sent. */
export function sendNumbered(client: string, count: number, intervalMs: number): Promise<void> {
  const child = spawn("ip", ["netns", "exec", client, process.execPath, "-e", SOURCE, String(count), String(intervalMs)], {
    stdio: "ignore",
  });
  return new Promise((resolve) => child.once("close", () => resolve()));
}
