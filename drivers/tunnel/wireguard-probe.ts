/**
 * Probes one endpoint through its own tunnel: a WireGuard initiator on one UDP socket that sends small numbered packets to an echo
 * service behind the endpoint. No interface and no rights are needed for it.
 */
import { randomBytes, randomInt } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";
import { LIMITS } from "../../models/limits.ts";
import {
  beginHandshake,
  COOKIE_REPLY_BYTES,
  type KeyPair,
  mac1Of,
  open,
  openCookie,
  type PendingHandshake,
  RESPONSE_BYTES,
  type SessionKeys,
  seal,
  tai64n,
} from "./wireguard-probe-crypto.ts";

export interface ProbeTarget {
  /** Where the endpoint's WireGuard listens: its own address, not the VIP. */
  readonly address: string;
  readonly port: number;
  /** The swarm's public key, 32 bytes. */
  readonly publicKey: Buffer;
  /** IPv4 address of the probe inside the tunnel. */
  readonly innerAddress: string;
  /** The echo service behind the endpoint (UDP over IPv4). */
  readonly echo: { readonly address: string; readonly port: number };
}

export interface ProbeSink {
  /** The answer to probe `seq` came back; `rttMs` from its sending. */
  answered(seq: number, rttMs: number): void;
  /** The endpoint's kernel said that nobody listens, or the network that there is no way. */
  refused(reason: string): void;
}

interface Session {
  readonly keys: SessionKeys;
  readonly sinceMs: number;
  counter: bigint;
}

const DATA_HEAD_BYTES = 16;
const IPV4_HEAD_BYTES = 20;
const UDP_HEAD_BYTES = 8;
const PROBE_BYTES = 16;

let lastStampMs = 0;
let stampsInMs = 0;

/** Strictly above all stamps before, also when the clock is set back. */
function nextTimestamp(): Buffer {
  const now = Date.now();
  if (now > lastStampMs) {
    lastStampMs = now;
    stampsInMs = 0;
  } else {
    stampsInMs += 1;
  }
  return tai64n(lastStampMs, stampsInMs);
}

export class TunnelProbe {
  readonly #target: ProbeTarget;
  readonly #own: KeyPair;
  readonly #sink: ProbeSink;
  /** Tells this probe's packets from those of another process with the same key. */
  readonly #nonce = randomBytes(8);
  readonly #sentAt = new Map<number, number>();
  #socket: Socket | undefined;
  #connected = false;
  #closed = false;
  #socketRetryAtMs = 0;
  /** Newest first; older ones still open what is under way. */
  #sessions: Session[] = [];
  #pending: PendingHandshake | undefined;
  #pendingSinceMs = Number.NEGATIVE_INFINITY;
  #attempts = 0;
  #cookie: { readonly value: Buffer; readonly sinceMs: number } | undefined;
  /** Probe that waits for a session. */
  #waiting: number | undefined;
  handshakes = 0;

  constructor(target: ProbeTarget, own: KeyPair, sink: ProbeSink) {
    this.#target = target;
    this.#own = own;
    this.#sink = sink;
  }

  /** Sends probe `seq`, or begins a handshake and sends it once that is done. Never throws, never waits. */
  send(seq: number): void {
    const now = performance.now();
    this.#sentAt.set(seq, now);
    if (this.#sentAt.size > LIMITS.reflex.probesOutstandingMax) this.#forgetOldest();
    const session = this.#current(now);
    if (session === undefined) {
      this.#waiting = seq;
      this.#handshake(now);
      return;
    }
    if (now - session.sinceMs > LIMITS.reflex.probeRekeyAfterMs) this.#handshake(now);
    this.#transmit(session, seq);
  }

  /** A probe was missed: the endpoint may have restarted and forgotten the session, so another is begun beside it. */
  missed(): void {
    this.#handshake(performance.now());
  }

  close(): void {
    this.#closed = true;
    this.#dropSocket();
  }

  #forgetOldest(): void {
    for (const seq of this.#sentAt.keys()) {
      this.#sentAt.delete(seq);
      return;
    }
  }

  #current(now: number): Session | undefined {
    this.#sessions = this.#sessions.filter((session) => now - session.sinceMs < LIMITS.reflex.probeSessionLifeMs).slice(0, 2);
    return this.#sessions[0];
  }

  #handshake(now: number): void {
    const wait = Math.min(
      LIMITS.reflex.probeHandshakeRetryFirstMs * 2 ** this.#attempts,
      LIMITS.reflex.probeHandshakeRetryLongestMs,
    );
    if (this.#pending !== undefined && now - this.#pendingSinceMs < wait) return;
    this.#attempts = this.#pending === undefined ? 0 : Math.min(this.#attempts + 1, 16);
    const fresh = this.#cookie !== undefined && now - this.#cookie.sinceMs < LIMITS.reflex.probeCookieLifeMs;
    const cookie = fresh ? this.#cookie?.value : undefined;
    this.#pending = beginHandshake(this.#own, this.#target.publicKey, randomInt(1, 2 ** 32 - 1), nextTimestamp(), cookie);
    this.#pendingSinceMs = now;
    this.#write(this.#pending.message);
  }

  #transmit(session: Session, seq: number): void {
    const packet = this.#innerPacket(seq);
    const message = Buffer.alloc(DATA_HEAD_BYTES);
    message.writeUInt32LE(4, 0);
    message.writeUInt32LE(session.keys.remoteIndex, 4);
    message.writeBigUInt64LE(session.counter, 8);
    const sealed = seal(session.keys.sendKey, session.counter, packet, Buffer.alloc(0));
    session.counter += 1n;
    this.#write(Buffer.concat([message, sealed]));
  }

  #write(message: Buffer): void {
    const socket = this.#openSocket();
    if (socket === undefined || !this.#connected) return;
    socket.send(message, (error) => {
      if (error !== null && !this.#closed) this.#sink.refused(error.message);
    });
  }

  #openSocket(): Socket | undefined {
    if (this.#socket !== undefined || this.#closed) return this.#socket;
    const now = performance.now();
    if (now < this.#socketRetryAtMs) return undefined;
    this.#socketRetryAtMs = now + LIMITS.reflex.probeHandshakeRetryLongestMs;
    const socket = createSocket(isIPv6(this.#target.address) ? "udp6" : "udp4");
    this.#socket = socket;
    socket.on("message", (message) => this.#received(message));
    socket.on("error", (error) => {
      if (this.#closed) return;
      if (!this.#connected) this.#dropSocket();
      this.#sink.refused(error.message);
    });
    socket.connect(this.#target.port, this.#target.address, () => {
      if (this.#closed) return;
      this.#connected = true;
      if (this.#pending !== undefined) this.#write(this.#pending.message);
    });
    return socket;
  }

  #dropSocket(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#connected = false;
    socket?.close();
  }

  #received(message: Buffer): void {
    const now = performance.now();
    if (message.length < DATA_HEAD_BYTES) return;
    const type = message.readUInt32LE(0);
    if (type === 4) this.#receivedData(message, now);
    else if (type === 2 && message.length === RESPONSE_BYTES) this.#receivedResponse(message, now);
    else if (type === 3 && message.length === COOKIE_REPLY_BYTES) this.#receivedCookie(message, now);
  }

  #receivedResponse(message: Buffer, now: number): void {
    const keys = this.#pending?.finish(message);
    if (keys === undefined) return;
    this.#pending = undefined;
    this.#attempts = 0;
    this.handshakes += 1;
    const session: Session = { keys, sinceMs: now, counter: 0n };
    this.#sessions = [session, ...this.#sessions].slice(0, 2);
    // The responder uses the session only once it has seen data in it, so the waiting probe also confirms the handshake.
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting !== undefined) this.#transmit(session, waiting);
  }

  #receivedCookie(message: Buffer, now: number): void {
    const pending = this.#pending;
    if (pending === undefined || message.readUInt32LE(4) !== pending.localIndex) return;
    const value = openCookie(message, this.#target.publicKey, mac1Of(pending.message));
    if (value !== undefined) this.#cookie = { value, sinceMs: now };
  }

  #receivedData(message: Buffer, now: number): void {
    const index = message.readUInt32LE(4);
    const session = this.#sessions.find((candidate) => candidate.keys.localIndex === index);
    if (session === undefined) return;
    const plain = open(session.keys.receiveKey, message.readBigUInt64LE(8), message.subarray(DATA_HEAD_BYTES), Buffer.alloc(0));
    const seq = plain === undefined ? undefined : this.#seqOf(plain);
    if (seq === undefined) return;
    const sentAt = this.#sentAt.get(seq);
    if (sentAt === undefined) return;
    this.#sentAt.delete(seq);
    this.#sink.answered(seq, now - sentAt);
  }

  /** IPv4, UDP, eight bytes of nonce, eight of number; padded to sixteen as WireGuard wants it. */
  #innerPacket(seq: number): Buffer {
    const length = IPV4_HEAD_BYTES + UDP_HEAD_BYTES + PROBE_BYTES;
    const packet = Buffer.alloc(Math.ceil(length / 16) * 16);
    packet.writeUInt8(0x45, 0);
    packet.writeUInt16BE(length, 2);
    packet.writeUInt16BE(seq & 0xffff, 4);
    packet.writeUInt8(64, 8);
    packet.writeUInt8(17, 9);
    ipv4Bytes(this.#target.innerAddress).copy(packet, 12);
    ipv4Bytes(this.#target.echo.address).copy(packet, 16);
    packet.writeUInt16BE(checksum(packet.subarray(0, IPV4_HEAD_BYTES)), 10);
    packet.writeUInt16BE(this.#target.echo.port, 20);
    packet.writeUInt16BE(this.#target.echo.port, 22);
    // A zero checksum means none (RFC 768): the tunnel authenticates the packet.
    packet.writeUInt16BE(UDP_HEAD_BYTES + PROBE_BYTES, 24);
    this.#nonce.copy(packet, IPV4_HEAD_BYTES + UDP_HEAD_BYTES);
    packet.writeBigUInt64BE(BigInt(seq), IPV4_HEAD_BYTES + UDP_HEAD_BYTES + 8);
    return packet;
  }

  #seqOf(packet: Buffer): number | undefined {
    if (packet.length < IPV4_HEAD_BYTES + UDP_HEAD_BYTES + PROBE_BYTES || packet[0] !== 0x45 || packet[9] !== 17)
      return undefined;
    const payload = packet.subarray(IPV4_HEAD_BYTES + UDP_HEAD_BYTES);
    if (!payload.subarray(0, 8).equals(this.#nonce)) return undefined;
    return Number(payload.readBigUInt64BE(8));
  }
}

function ipv4Bytes(address: string): Buffer {
  return Buffer.from(address.split(".").map(Number));
}

/** The Internet checksum (RFC 1071). */
function checksum(data: Buffer): number {
  let sum = 0;
  for (let at = 0; at < data.length; at += 2) sum += data.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
