/**
 * The kernel's WireGuard: in the kernel's own messages where socat is there, else by the `wg` command. Keys go in by standard input.
 */
import { ForeshiftError } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { RepeatedCommand } from "../repeated-command.ts";
import { runCommand, runWithPipe } from "../run-command.ts";
import { NetlinkLine } from "./netlink-line.ts";
import {
  type DevicePeer,
  type DeviceState,
  hostRoute,
  NO_PRESHARED_KEY,
  type PeerChange,
  type WireGuardDevice,
} from "./wireguard-device.ts";
import { changeMessage, familyOf, familyQuestion, stateOf, stateQuestion } from "./wireguard-netlink.ts";

const { commandTimeoutMs, peersPerCommandMax } = LIMITS.wireguard;

/** By device: an agent looks at its own five times a second. */
const dumps = new Map<string, RepeatedCommand>();
const line = new NetlinkLine();
let family: number | undefined;
/** A message reaches the kernel in one piece. */
const CHANGES_PER_MESSAGE = 16;

export function toolDevice(device: string): WireGuardDevice {
  return {
    device,
    state: async () => (await look(device)) ?? parseDump(await dump(device)),
    apply: async (changes) => {
      const left = await tell(device, changes);
      // Order matters between kinds only (a removal before the peer's return), so neighbours of one kind share a command.
      for (const batch of batches(left)) await applyBatch(device, batch);
    },
    setIdentity: async ({ privateKey, listenPort }) => {
      const held = (await dump(device)).split("\n")[0]?.split("\t") ?? [];
      if (held[0] === privateKey && held[2] === String(listenPort)) return;
      const args = [
        "set",
        device,
        "private-key",
        "/dev/stdin",
        ...(held[2] === String(listenPort) ? [] : ["listen-port", String(listenPort)]),
      ];
      await runWithPipe("wg", args, { timeoutMs: commandTimeoutMs, input: `${privateKey}\n` });
    },
  };
}

/** Undefined where the kernel cannot be asked so, or refuses: `wg` has the words for it. */
async function look(device: string): Promise<DeviceState | undefined> {
  try {
    const known = await familyNumber();
    if (known === undefined) return undefined;
    const messages = await line.ask((sequence) => stateQuestion(known, device, sequence), commandTimeoutMs);
    return messages === undefined ? undefined : stateOf(messages);
  } catch {
    family = undefined;
    return undefined;
  }
}

/** Answers those that are left for `wg`: all where the kernel cannot be asked so, and from the first message on that it refuses. */
async function tell(device: string, changes: readonly PeerChange[]): Promise<readonly PeerChange[]> {
  for (let at = 0; at < changes.length; at += CHANGES_PER_MESSAGE) {
    const some = changes.slice(at, at + CHANGES_PER_MESSAGE);
    try {
      const known = await familyNumber();
      if (known === undefined) return changes.slice(at);
      await line.ask((sequence) => changeMessage(known, device, some, sequence), commandTimeoutMs);
    } catch {
      family = undefined;
      return changes.slice(at);
    }
  }
  return [];
}

async function familyNumber(): Promise<number | undefined> {
  family ??= familyOf((await line.ask(familyQuestion, commandTimeoutMs)) ?? []);
  return family;
}

async function dump(device: string): Promise<string> {
  const command = dumps.get(device) ?? new RepeatedCommand("wg", ["show", device, "dump"]);
  dumps.set(device, command);
  try {
    return await command.run(commandTimeoutMs);
  } catch (thrown) {
    if (!(thrown instanceof ForeshiftError) || thrown.code !== "COMMAND_FAILED") throw thrown;
    throw new ForeshiftError("UNREACHABLE", { field: "WireGuard", value: device, detail: thrown.message });
  }
}

/** The first line holds the device's private key and is passed over, but for the port. */
export function parseDump(text: string): DeviceState {
  const [first, ...rest] = text.split("\n").filter((line) => line !== "");
  const peers: DevicePeer[] = [];
  for (const line of rest) {
    const [publicKey = "", , endpoint, allowedIps = "", handshakeS, rx, tx, keepalive] = line.split("\t");
    peers.push({
      publicKey,
      endpoint: endpoint === "(none)" ? undefined : endpoint,
      allowedIps: allowedIps === "(none)" ? [] : allowedIps.split(","),
      lastHandshakeMs: Number(handshakeS) * 1_000,
      rxBytes: Number(rx),
      txBytes: Number(tx),
      keepaliveS: keepalive === "off" ? 0 : Number(keepalive),
    });
  }
  return { listenPort: Number(first?.split("\t")[2] ?? 0), peers };
}

function batches(changes: readonly PeerChange[]): PeerChange[][] {
  const out: PeerChange[][] = [];
  for (const change of changes) {
    const last = out.at(-1);
    if (last !== undefined && last[0]?.kind === change.kind && last.length < peersPerCommandMax) last.push(change);
    else out.push([change]);
  }
  return out;
}

async function applyBatch(device: string, batch: readonly PeerChange[]): Promise<void> {
  const sections: string[] = [];
  const args: string[] = [];
  for (const change of batch) {
    if (change.kind === "preshared") await setPresharedKey(device, change);
    else if (change.kind === "configure") sections.push(section(change));
    else if (change.kind === "remove") args.push("peer", change.publicKey, "remove");
    else args.push("peer", change.publicKey, "persistent-keepalive", String(change.keepaliveS));
  }
  if (sections.length > 0)
    await runWithPipe("wg", ["addconf", device, "/dev/stdin"], { timeoutMs: commandTimeoutMs, input: sections.join("\n") });
  if (args.length > 0) await runCommand("wg", ["set", device, ...args], { timeoutMs: commandTimeoutMs });
}

/** One at a time: a configuration file would take the peer's addresses away for a moment, and arguments would show the key. */
async function setPresharedKey(device: string, change: Extract<PeerChange, { kind: "preshared" }>): Promise<void> {
  const args = ["set", device, "peer", change.publicKey, "preshared-key", "/dev/stdin"];
  const input = `${change.presharedKey ?? NO_PRESHARED_KEY}\n`;
  await runWithPipe("wg", args, { timeoutMs: commandTimeoutMs, input });
}

function section(change: Extract<PeerChange, { kind: "configure" }>): string {
  return [
    "[Peer]",
    `PublicKey = ${change.publicKey}`,
    ...(change.presharedKey === undefined ? [] : [`PresharedKey = ${change.presharedKey}`]),
    `AllowedIPs = ${change.innerAddresses.map(hostRoute).join(", ")}`,
    ...(change.endpoint === undefined ? [] : [`Endpoint = ${change.endpoint}`]),
    ...(change.keepaliveS === undefined ? [] : [`PersistentKeepalive = ${change.keepaliveS}`]),
    "",
  ].join("\n");
}
