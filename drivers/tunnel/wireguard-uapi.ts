/**
 * wireguard-go by its control socket: no process is spawned, so that a take-over costs a millisecond. The protocol is the
 * cross-platform userspace interface of wireguard.com/xplatform.
 */
import { connect } from "node:net";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import {
  type DevicePeer,
  type DeviceState,
  hostRoute,
  NO_PRESHARED_KEY,
  type PeerChange,
  type WireGuardDevice,
} from "./wireguard-device.ts";

const { controlTimeoutMs, answerCharsMax } = LIMITS.wireguard;

/** Where wireguard-go puts it; fixed in its source. The path is the mount namespace's, not the network namespace's. */
export function uapiSocketPath(device: string): string {
  return `/var/run/wireguard/${device}.sock`;
}

export function uapiDevice(device: string, path = uapiSocketPath(device)): WireGuardDevice {
  const ask = (text: string) => exchange(device, path, text);
  return {
    device,
    state: async () => parseState(await ask("get=1\n\n")),
    apply: async (changes) => {
      if (changes.length > 0) checkErrno(device, await ask(`set=1\n${changes.map(changeText).join("")}\n`));
    },
    setIdentity: async ({ privateKey, listenPort }) => {
      const held = await ask("get=1\n\n");
      const keyLine = `private_key=${toHex(privateKey)}\n`;
      const portLine = `listen_port=${listenPort}\n`;
      const wanted = [keyLine, portLine].filter((line) => !held.includes(line)).join("");
      if (wanted !== "") checkErrno(device, await ask(`set=1\n${wanted}\n`));
    },
  };
}

/** Whether a process holds the control socket; a frozen one does too. */
export function uapiListens(device: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(uapiSocketPath(device));
    const end = (listens: boolean) => {
      socket.destroy();
      resolve(listens);
    };
    socket.once("connect", () => end(true));
    socket.once("error", (error: NodeJS.ErrnoException) => end(error.code === "EAGAIN"));
  });
}

function changeText(change: PeerChange): string {
  const key = `public_key=${toHex(change.publicKey)}\n`;
  if (change.kind === "remove") return `${key}remove=true\n`;
  if (change.kind === "preshared")
    return `${key}update_only=true\npreshared_key=${toHex(change.presharedKey ?? NO_PRESHARED_KEY)}\n`;
  if (change.kind === "keepalive") return `${key}update_only=true\npersistent_keepalive_interval=${change.keepaliveS}\n`;
  return [
    key,
    change.presharedKey === undefined ? "" : `preshared_key=${toHex(change.presharedKey)}\n`,
    "replace_allowed_ips=true\n",
    ...change.innerAddresses.map((address) => `allowed_ip=${hostRoute(address)}\n`),
    change.endpoint === undefined ? "" : `endpoint=${change.endpoint}\n`,
    change.keepaliveS === undefined ? "" : `persistent_keepalive_interval=${change.keepaliveS}\n`,
  ].join("");
}

/** Lines of `get=1`; the private key among them is passed over. */
export function parseState(text: string): DeviceState {
  let listenPort = 0;
  const peers: DevicePeer[] = [];
  let peer: { -readonly [K in keyof DevicePeer]: DevicePeer[K] } & { allowedIps: string[] } = emptyPeer("");
  for (const line of text.split("\n")) {
    const at = line.indexOf("=");
    const value = line.slice(at + 1);
    switch (line.slice(0, at)) {
      case "listen_port":
        listenPort = Number(value);
        break;
      case "public_key":
        peer = emptyPeer(Buffer.from(value, "hex").toString("base64"));
        peers.push(peer);
        break;
      case "endpoint":
        peer.endpoint = value;
        break;
      case "allowed_ip":
        peer.allowedIps.push(value);
        break;
      case "last_handshake_time_sec":
        peer.lastHandshakeMs += Number(value) * 1_000;
        break;
      case "last_handshake_time_nsec":
        peer.lastHandshakeMs += Math.floor(Number(value) / 1e6);
        break;
      case "rx_bytes":
        peer.rxBytes = Number(value);
        break;
      case "tx_bytes":
        peer.txBytes = Number(value);
        break;
      case "persistent_keepalive_interval":
        peer.keepaliveS = Number(value);
        break;
    }
  }
  return { listenPort, peers };
}

function emptyPeer(publicKey: string) {
  return {
    publicKey,
    endpoint: undefined as string | undefined,
    allowedIps: [] as string[],
    lastHandshakeMs: 0,
    rxBytes: 0,
    txBytes: 0,
    keepaliveS: 0,
  };
}

function checkErrno(device: string, answer: string): void {
  const errno = /errno=(-?\d+)/.exec(answer)?.[1];
  if (errno === "0") return;
  throw new ForeshiftError("COMMAND_FAILED", {
    field: `setting ${device}`,
    detail: `wireguard-go answered errno ${errno ?? "nothing"}`,
  });
}

/** One question, one answer, one connection. An answer ends with an empty line. */
function exchange(device: string, path: string, question: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (detail: string) => {
      socket.destroy();
      reject(new ForeshiftError("UNREACHABLE", { field: `WireGuard ${device}`, value: path, detail }));
    };
    const socket = connect(path, () => socket.write(question));
    const deadline = setTimeout(() => fail(`no answer within ${controlTimeoutMs} ms`), controlTimeoutMs);
    const chunks: string[] = [];
    let chars = 0;
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => {
      chunks.push(chunk);
      chars += chunk.length;
      if (chars > answerCharsMax) return fail("its answer is too long");
      if (!endsWithEmptyLine(chunks)) return;
      clearTimeout(deadline);
      socket.destroy();
      resolve(chunks.join(""));
    });
    socket.on("error", (error) => fail(messageOf(error)));
    socket.on("close", () => {
      clearTimeout(deadline);
      fail("it closed the connection");
    });
  });
}

function endsWithEmptyLine(chunks: readonly string[]): boolean {
  const last = chunks.at(-1) ?? "";
  return last.length > 1 ? last.endsWith("\n\n") : chunks.slice(-2).join("").endsWith("\n\n");
}

/** Keys are hexadecimal here and base64 everywhere else. */
function toHex(key: string): string {
  const bytes = Buffer.from(key, "base64");
  if (bytes.length !== 32) {
    throw new ForeshiftError("INVALID_FIELD", {
      field: "key",
      value: "a value that is not shown",
      detail: "expected 32 bytes in base64",
    });
  }
  return bytes.toString("hex");
}
