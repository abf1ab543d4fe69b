/**
 * What one sender knows of its stream of numbered packets: when the next is due, and up to which number they were sent long enough
 * ago that those not there are lost.
 */
import { LIMITS } from "../models/limits.ts";

export const SAMPLE_MS = 100;
const SAMPLES = Math.ceil(LIMITS.lab.trafficSettleMs / SAMPLE_MS);

/** Packet: magic, session, sequence number, then padding to the size of a small voice packet. */
const MAGIC = 0x46534e31;
const PACKET_BYTES = 100;

export interface NumberedPacket {
  readonly session: number;
  readonly sequence: number;
}

export function encodePacket(packet: NumberedPacket): Buffer {
  const bytes = Buffer.alloc(PACKET_BYTES);
  bytes.writeUInt32BE(MAGIC, 0);
  bytes.writeUInt32BE(packet.session, 4);
  bytes.writeUInt32BE(packet.sequence, 8);
  return bytes;
}

/** Undefined for anything that is not a numbered packet. */
export function decodePacket(bytes: Buffer): NumberedPacket | undefined {
  if (bytes.length !== PACKET_BYTES || bytes.readUInt32BE(0) !== MAGIC) return undefined;
  return { session: bytes.readUInt32BE(4), sequence: bytes.readUInt32BE(8) };
}

export class SentStream {
  readonly #intervalMs: number;
  #next = 0;
  #dueMs: number;
  /** Next sequence number at each of the last sample times, oldest first. */
  readonly #samples: number[] = [];
  #sampledAtMs: number;

  /** The first packet is due at `firstMs`, and one every `intervalMs` from then on. */
  constructor(options: { intervalMs: number; firstMs: number }) {
    this.#intervalMs = options.intervalMs;
    this.#dueMs = options.firstMs;
    this.#sampledAtMs = options.firstMs;
  }

  get next(): number {
    return this.#next;
  }

  /** Packets below this number were sent at least the settling time ago. */
  get settled(): number {
    return this.#samples.length < SAMPLES ? 0 : (this.#samples[0] ?? 0);
  }

  /** Calls `send` for each packet that is due. What was due long ago, after a stall, is left out, not counted as sent. */
  sendDue(nowMs: number, send: (sequence: number) => void): void {
    while (nowMs - this.#sampledAtMs >= SAMPLE_MS) {
      this.#sampledAtMs += SAMPLE_MS;
      this.#samples.push(this.#next);
      // One sample more than the settling time holds, because the youngest may be of this moment.
      if (this.#samples.length > SAMPLES + 1) this.#samples.shift();
    }
    for (; this.#dueMs <= nowMs; this.#dueMs += this.#intervalMs) {
      if (nowMs - this.#dueMs > LIMITS.lab.trafficCatchUpMs) continue;
      send(this.#next);
      this.#next += 1;
    }
  }
}
