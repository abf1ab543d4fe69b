/**
 * The kernel's own word of SAs that count on, come or go: messages of NETLINK_XFRM as a stream of bytes. Node has no netlink sockets, so socat
 * has one: `SOCKET-RECV:16:3:6:x00000000000016000000`, the groups EXPIRE, SA and AEVENTS. How often the kernel speaks is set by net.core.xfrm_aevent_rseqth (packets) and
 * xfrm_aevent_etime (tenths of a second). Layouts: linux/xfrm.h (of netlink itself: netlink.ts); little-endian, as all machines that Foreshift runs on.
 */
import { ForeshiftError } from "../../models/errors.ts";
import { addressText, attributes, NetlinkReader } from "./netlink.ts";

export interface XfrmCounters {
  readonly kind: "counters";
  /** With the SPI it names the SA: SPIs of what is sent are chosen by the peers, each for itself. */
  readonly destination: string;
  readonly spi: number;
  readonly reqid: number;
  /** Whole numbers, the upper halves included. */
  readonly inboundSequence: number;
  readonly outboundSequence: number;
  /** Hexadecimal, the lowest word last; undefined where the message has none. */
  readonly seen: string | undefined;
  readonly bytes: number;
  readonly packets: number;
}

/** Something else happened to SAs: they are read again. */
export interface XfrmChange {
  readonly kind: "changed" | "expired";
}

export type XfrmEvent = XfrmCounters | XfrmChange;

const AEVENT_BYTES = 48;
const [NEW_SA, DELETE_SA, EXPIRE, UPDATE_SA, FLUSH_SA, NEW_AEVENT] = [0x10, 0x11, 0x18, 0x1a, 0x1c, 0x1e];
const [LIFETIME, REPLAY, REPLAY_ESN] = [9, 10, 23];
const WORD = 2 ** 32;
const FAMILY = { v4: 2, v6: 10 } as const;

/** Takes bytes as they come and gives each whole message's event. INVALID_FIELD when they cannot be messages: the stream is of no use then. */
export class XfrmEventReader {
  readonly #messages = new NetlinkReader(refused);

  read(bytes: Buffer): readonly XfrmEvent[] {
    return this.#messages.read(bytes).flatMap(({ type, body }) => eventOf(type, body) ?? []);
  }
}

function eventOf(type: number, body: Buffer): XfrmEvent | undefined {
  if (type === NEW_AEVENT) return countersOf(body);
  if (type === EXPIRE) return { kind: "expired" };
  if (type === NEW_SA || type === DELETE_SA || type === UPDATE_SA || type === FLUSH_SA) return { kind: "changed" };
  return undefined;
}

function countersOf(body: Buffer): XfrmCounters {
  if (body.length < AEVENT_BYTES) throw refused("length of an event", body.length);
  const counters = {
    kind: "counters" as const,
    destination: addressOf(body.readUInt16LE(20), body.subarray(0, 16)),
    spi: body.readUInt32BE(16),
    reqid: body.readUInt32LE(44),
    inboundSequence: -1,
    outboundSequence: -1,
    seen: undefined as string | undefined,
    bytes: 0,
    packets: 0,
  };
  for (const [type, value] of attributes(body.subarray(AEVENT_BYTES), refused)) {
    if (type === REPLAY) {
      expectBytes(value, 12);
      counters.outboundSequence = value.readUInt32LE(0);
      counters.inboundSequence = value.readUInt32LE(4);
      counters.seen = value.readUInt32LE(8).toString(16);
    } else if (type === REPLAY_ESN) {
      expectBytes(value, 24);
      const words = value.readUInt32LE(0);
      expectBytes(value, 24 + words * 4);
      counters.outboundSequence = value.readUInt32LE(12) * WORD + value.readUInt32LE(4);
      counters.inboundSequence = value.readUInt32LE(16) * WORD + value.readUInt32LE(8);
      counters.seen = bitmapText(value.subarray(24, 24 + words * 4));
    } else if (type === LIFETIME) {
      expectBytes(value, 16);
      counters.bytes = Number(value.readBigUInt64LE(0));
      counters.packets = Number(value.readBigUInt64LE(8));
    }
  }
  if (counters.inboundSequence < 0) throw refused("event", "no counters in it");
  return counters;
}

/** As iproute2 prints it. */
function addressOf(family: number, bytes: Buffer): string {
  if (family !== FAMILY.v4 && family !== FAMILY.v6) throw refused("address family", family);
  return addressText(family === FAMILY.v4 ? bytes.subarray(0, 4) : bytes, refused);
}

function bitmapText(bitmap: Buffer): string {
  const words: string[] = [];
  for (let at = bitmap.length - 4; at >= 0; at -= 4) words.push(bitmap.readUInt32LE(at).toString(16).padStart(8, "0"));
  return words.join("").replace(/^0+(?=.)/, "") || "0";
}

function expectBytes(value: Buffer, least: number): void {
  if (value.length < least) throw refused("length of an attribute", value.length);
}

function refused(field: string, value: number | string): ForeshiftError {
  const detail = "a message of NETLINK_XFRM was expected";
  return new ForeshiftError("INVALID_FIELD", { field: `xfrm event: ${field}`, value: String(value), detail });
}
