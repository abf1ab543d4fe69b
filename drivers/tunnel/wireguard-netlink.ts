/**
 * What the kernel's WireGuard holds, in its own messages: a question over generic netlink and its answers as a stream of bytes. Layouts:
 * linux/genetlink.h and linux/wireguard.h (of netlink itself: netlink.ts); little-endian, as all machines that Foreshift runs on.
 */
import { isIPv4 } from "node:net";
import { ForeshiftError } from "../../models/errors.ts";
import { addressText, align, attributes as attributesOf, HEADER_BYTES, type NetlinkMessage, NetlinkReader } from "./netlink.ts";
import { type DevicePeer, type DeviceState, hostRoute, NO_PRESHARED_KEY, type PeerChange } from "./wireguard-device.ts";

/** Of a generic message: its header and its command. */
const BODY_AT = 20;
const [ERROR, DONE, CONTROL] = [2, 3, 16];
const [REQUEST, ACK, DUMP] = [0x1, 0x4, 0x300];
const [GET_FAMILY, FAMILY_ID, FAMILY_NAME] = [3, 1, 2];
const [GET_DEVICE, SET_DEVICE, DEVICE_NAME, LISTEN_PORT, PEERS] = [0, 1, 2, 6, 8];
const [PUBLIC_KEY, PRESHARED_KEY, FLAGS, ENDPOINT, KEEPALIVE_S] = [1, 2, 3, 4, 5];
const [LAST_HANDSHAKE, RX_BYTES, TX_BYTES, ALLOWED_IPS] = [6, 7, 8, 9];
const [REMOVE, REPLACE_ALLOWED_IPS, UPDATE_ONLY] = [1, 2, 4];
const [FAMILY, IP, MASK] = [1, 2, 3];
const NESTED = 0x8000;
const NS_PER_MS = 1_000_000n;
const [V4_BYTES, V6_BYTES, AF_INET, AF_INET6, KEY_BYTES] = [4, 16, 2, 10, 32];

/** Which number the kernel gives to WireGuard's messages; ends with an acknowledgement. */
export function familyQuestion(sequence: number): Buffer {
  const body = attribute(FAMILY_NAME, Buffer.from("wireguard\0"));
  return message({ type: CONTROL, flags: REQUEST | ACK, sequence, command: GET_FAMILY, body });
}

export function stateQuestion(family: number, device: string, sequence: number): Buffer {
  const body = attribute(DEVICE_NAME, Buffer.from(`${device}\0`));
  return message({ type: family, flags: REQUEST | ACK | DUMP, sequence, command: GET_DEVICE, body });
}

/** The changes in their order; the kernel stops at the first that it does not take. Few at a time: a message goes in one piece. */
export function changeMessage(family: number, device: string, changes: readonly PeerChange[], sequence: number): Buffer {
  const peers = attribute(PEERS | NESTED, Buffer.concat(changes.map((change) => attribute(NESTED, peerBytes(change)))));
  const named = attribute(DEVICE_NAME, Buffer.from(`${device}\0`));
  return message({ type: family, flags: REQUEST | ACK, sequence, command: SET_DEVICE, body: Buffer.concat([named, peers]) });
}

/** Of answers. INVALID_FIELD when bytes cannot be messages: the stream is of no use then. */
export function answerReader(): NetlinkReader {
  return new NetlinkReader(refused);
}

/** Whether no more comes in answer to the question; `failed` with the kernel's number of the error. */
export function endOf({ type, body }: NetlinkMessage): { readonly failed: number } | undefined {
  if (type !== ERROR && type !== DONE) return undefined;
  return { failed: body.length < 4 ? 0 : Math.abs(body.readInt32LE(0)) };
}

/** Undefined where the kernel knows no WireGuard. */
export function familyOf(messages: readonly NetlinkMessage[]): number | undefined {
  const ids = messages.flatMap(({ body }) => [...attributes(body.subarray(BODY_AT - HEADER_BYTES))]);
  return ids.find(([type]) => type === FAMILY_ID)?.[1].readUInt16LE(0);
}

/** A device with many peers comes in several messages, and a peer with many addresses in several of them. Its keys are passed over. */
export function stateOf(messages: readonly NetlinkMessage[]): DeviceState {
  const peers: DevicePeer[] = [];
  let listenPort = 0;
  for (const { body } of messages) {
    for (const [type, value] of attributes(body.subarray(BODY_AT - HEADER_BYTES))) {
      if (type === LISTEN_PORT) listenPort = value.readUInt16LE(0);
      if (type !== PEERS) continue;
      for (const [, one] of attributes(value)) addPeer(peers, peerOf(one));
    }
  }
  return { listenPort, peers };
}

function addPeer(peers: DevicePeer[], peer: DevicePeer): void {
  const last = peers.at(-1);
  if (last?.publicKey !== peer.publicKey) peers.push(peer);
  else peers[peers.length - 1] = { ...last, allowedIps: [...last.allowedIps, ...peer.allowedIps] };
}

function peerOf(bytes: Buffer): DevicePeer {
  const found = new Map(attributes(bytes));
  const number = (type: number) => Number(found.get(type)?.readBigUInt64LE(0) ?? 0);
  const handshake = found.get(LAST_HANDSHAKE);
  const endpoint = found.get(ENDPOINT);
  return {
    publicKey: found.get(PUBLIC_KEY)?.toString("base64") ?? "",
    endpoint: endpoint === undefined ? undefined : endpointOf(endpoint),
    allowedIps: [...attributes(found.get(ALLOWED_IPS) ?? Buffer.alloc(0))].map(([, one]) => prefixOf(one)),
    lastHandshakeMs:
      handshake === undefined
        ? 0
        : Number(handshake.readBigInt64LE(0)) * 1_000 + Number(handshake.readBigInt64LE(8) / NS_PER_MS),
    rxBytes: number(RX_BYTES),
    txBytes: number(TX_BYTES),
    keepaliveS: found.get(KEEPALIVE_S)?.readUInt16LE(0) ?? 0,
  };
}

function prefixOf(bytes: Buffer): string {
  const found = new Map(attributes(bytes));
  return `${addressOf(found.get(IP) ?? Buffer.alloc(0))}/${found.get(MASK)?.readUInt8(0) ?? 0}`;
}

/** A `sockaddr_in` or `sockaddr_in6`. */
function endpointOf(bytes: Buffer): string {
  const port = bytes.readUInt16BE(2);
  const family = bytes.readUInt16LE(0);
  if (family === AF_INET) return `${addressOf(bytes.subarray(4, 4 + V4_BYTES))}:${port}`;
  if (family === AF_INET6) return `[${addressOf(bytes.subarray(8, 8 + V6_BYTES))}]:${port}`;
  throw refused("address family", family);
}

function addressOf(bytes: Buffer): string {
  return addressText(bytes, refused);
}

function peerBytes(change: PeerChange): Buffer {
  const of = (flags: number, ...more: readonly Buffer[]) =>
    Buffer.concat([attribute(PUBLIC_KEY, keyBytes(change.publicKey)), attribute(FLAGS, u32(flags)), ...more]);
  if (change.kind === "remove") return of(REMOVE);
  if (change.kind === "preshared")
    return of(UPDATE_ONLY, attribute(PRESHARED_KEY, keyBytes(change.presharedKey ?? NO_PRESHARED_KEY)));
  if (change.kind === "keepalive") return of(UPDATE_ONLY, attribute(KEEPALIVE_S, u16(change.keepaliveS)));
  const { presharedKey, endpoint, keepaliveS, innerAddresses } = change;
  return of(
    REPLACE_ALLOWED_IPS,
    ...(presharedKey === undefined ? [] : [attribute(PRESHARED_KEY, keyBytes(presharedKey))]),
    ...(endpoint === undefined ? [] : [attribute(ENDPOINT, endpointBytes(endpoint))]),
    ...(keepaliveS === undefined ? [] : [attribute(KEEPALIVE_S, u16(keepaliveS))]),
    attribute(ALLOWED_IPS | NESTED, Buffer.concat(innerAddresses.map((one) => attribute(NESTED, prefixBytes(one))))),
  );
}

function prefixBytes(address: string): Buffer {
  const [ip = "", mask = ""] = hostRoute(address).split("/");
  const family = attribute(FAMILY, u16(isIPv4(ip) ? AF_INET : AF_INET6));
  return Buffer.concat([family, attribute(IP, addressBytes(ip)), attribute(MASK, Buffer.of(Number(mask)))]);
}

/** A `sockaddr_in` or `sockaddr_in6` of `address:port`. */
function endpointBytes(endpoint: string): Buffer {
  const at = endpoint.lastIndexOf(":");
  const ip = endpoint.slice(0, at).replace(/^\[|\]$/g, "");
  const port = Buffer.alloc(2);
  port.writeUInt16BE(Number(endpoint.slice(at + 1)));
  if (isIPv4(ip)) return Buffer.concat([u16(AF_INET), port, addressBytes(ip), Buffer.alloc(8)]);
  return Buffer.concat([u16(AF_INET6), port, Buffer.alloc(4), addressBytes(ip), Buffer.alloc(4)]);
}

function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split(".").map(Number));
  // In its canonical form it ends with no IPv4 address.
  const [left = "", right] = new URL(`http://[${address}]`).hostname.slice(1, -1).split("::");
  const words = (text: string) => (text === "" ? [] : text.split(":").map((word) => Number.parseInt(word, 16)));
  const [head, tail] = [words(left), words(right ?? "")];
  const all = [...head, ...Array<number>(V6_BYTES / 2 - head.length - tail.length).fill(0), ...tail];
  const bytes = Buffer.alloc(V6_BYTES);
  for (const [at, word] of all.entries()) bytes.writeUInt16BE(word, at * 2);
  return bytes;
}

function keyBytes(key: string): Buffer {
  const bytes = Buffer.from(key, "base64");
  if (bytes.length !== KEY_BYTES) throw refused("length of a key", bytes.length);
  return bytes;
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function attribute(type: number, value: Buffer): Buffer {
  const bytes = Buffer.alloc(align(4 + value.length));
  bytes.writeUInt16LE(4 + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  value.copy(bytes, 4);
  return bytes;
}

interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly command: number;
  readonly body: Buffer;
}

function message({ type, flags, sequence, command, body }: Message): Buffer {
  const head = Buffer.alloc(BODY_AT);
  head.writeUInt32LE(BODY_AT + body.length, 0);
  head.writeUInt16LE(type, 4);
  head.writeUInt16LE(flags, 6);
  head.writeUInt32LE(sequence, 8);
  head.writeUInt8(command, HEADER_BYTES);
  head.writeUInt8(1, HEADER_BYTES + 1);
  return Buffer.concat([head, body]);
}

function attributes(bytes: Buffer): Generator<readonly [number, Buffer]> {
  return attributesOf(bytes, refused);
}

function refused(what: string, value: number): ForeshiftError {
  return new ForeshiftError("INVALID_FIELD", { field: `the kernel's answer on WireGuard: ${what}`, value });
}
