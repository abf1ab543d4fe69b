/**
 * Messages of netlink as a stream of bytes, whatever family they are of. Layouts: linux/netlink.h; little-endian, as all machines that
 * Foreshift runs on.
 */
import type { ForeshiftError } from "../../models/errors.ts";

/** Bytes before a message's body: its length, type, flags, sequence number and port. */
export const HEADER_BYTES = 16;
const MESSAGE_BYTES_MAX = 65_536;
const TYPE_MASK = 0x3fff;
const [V4_BYTES, V6_BYTES] = [4, 16];

/** What is thrown of bytes that cannot be what was expected. */
export type Refused = (what: string, value: number) => ForeshiftError;

export interface NetlinkMessage {
  readonly type: number;
  readonly sequence: number;
  /** After the header. */
  readonly body: Buffer;
}

/** Takes bytes as they come and gives whole messages. Throws what `refused` makes when they cannot be messages: the stream is of no use then. */
export class NetlinkReader {
  readonly #refused: Refused;
  #rest: Buffer = Buffer.alloc(0);

  constructor(refused: Refused) {
    this.#refused = refused;
  }

  read(bytes: Buffer): readonly NetlinkMessage[] {
    let rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const messages: NetlinkMessage[] = [];
    while (rest.length >= HEADER_BYTES) {
      const length = rest.readUInt32LE(0);
      if (length < HEADER_BYTES || length > MESSAGE_BYTES_MAX) throw this.#refused("length", length);
      if (rest.length < align(length)) break;
      const body = rest.subarray(HEADER_BYTES, length);
      messages.push({ type: rest.readUInt16LE(4), sequence: rest.readUInt32LE(8), body });
      rest = rest.subarray(align(length));
    }
    this.#rest = Buffer.from(rest);
    return messages;
  }
}

/** Type and value of each attribute. */
export function* attributes(bytes: Buffer, refused: Refused): Generator<readonly [number, Buffer]> {
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) throw refused("length of an attribute", length);
    yield [bytes.readUInt16LE(at + 2) & TYPE_MASK, bytes.subarray(at + 4, at + length)];
    at += align(length);
  }
}

/** IPv4 or IPv6 by the number of bytes, as everybody else writes it: of IPv6 the longest run of zeros is left out. */
export function addressText(bytes: Buffer, refused: Refused): string {
  if (bytes.length === V4_BYTES) return bytes.join(".");
  if (bytes.length !== V6_BYTES) throw refused("length of an address", bytes.length);
  const words = Array.from({ length: 8 }, (_, at) => bytes.readUInt16BE(at * 2).toString(16));
  return new URL(`http://[${words.join(":")}]`).hostname.slice(1, -1);
}

/** Messages and attributes begin at multiples of four bytes. */
export function align(bytes: number): number {
  return (bytes + 3) & ~3;
}
