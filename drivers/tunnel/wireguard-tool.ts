/**
 * A WireGuard device by the `wg` command: the way to the kernel's WireGuard. Keys go in by standard input.
 */
import { ForeshiftError } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { runCommand, runWithPipe } from "../run-command.ts";
import {
  type DevicePeer,
  type DeviceState,
  hostRoute,
  NO_PRESHARED_KEY,
  type PeerChange,
  type WireGuardDevice,
} from "./wireguard-device.ts";

const { commandTimeoutMs, peersPerCommandMax } = LIMITS.wireguard;

export function toolDevice(device: string): WireGuardDevice {
  return {
    device,
    state: async () => parseDump(await dump(device)),
    apply: async (changes) => {
      // Order matters between kinds only (a removal before the peer's return), so neighbours of one kind share a command.
      for (const batch of batches(changes)) await applyBatch(device, batch);
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

async function dump(device: string): Promise<string> {
  try {
    return await runCommand("wg", ["show", device, "dump"], { timeoutMs: commandTimeoutMs });
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
