/** A client of strongSwan's VICI: commands, and commands that answer in a stream of events. One command at a time on a connection. */
import { connect, type Socket } from "node:net";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { decodeVici, encodeVici, type ViciSection } from "./vici-message.ts";

const COMMAND_REQUEST = 0;
const COMMAND_RESPONSE = 1;
const COMMAND_UNKNOWN = 2;
const EVENT_REGISTER = 3;
const EVENT_CONFIRM = 5;
const EVENT_UNKNOWN = 6;
const EVENT = 7;
const LENGTH_BYTES = 4;

interface Packet {
  readonly type: number;
  readonly body: Buffer;
}

export class ViciClient {
  readonly #socket: Socket;
  readonly #path: string;
  /** For each answer. */
  readonly #timeoutMs: number;
  #rest: Buffer = Buffer.alloc(0);
  #waiting: { resolve: (packet: Packet) => void; reject: (error: Error) => void } | undefined;
  readonly #packets: Packet[] = [];
  #broken: Error | undefined;

  private constructor(socket: Socket, path: string, timeoutMs: number) {
    this.#socket = socket;
    this.#path = path;
    this.#timeoutMs = timeoutMs;
    socket.on("data", (bytes: Buffer) => this.#read(bytes));
    socket.once("error", (error) => this.#break(messageOf(error)));
    socket.once("close", () => this.#break("it closed the connection"));
  }

  /** UNREACHABLE when nobody answers at the socket. */
  static open(path: string, timeoutMs: number = IPSEC_LIMITS.viciTimeoutMs): Promise<ViciClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      socket.once("error", (error) => reject(unreachable(path, messageOf(error))));
      socket.once("connect", () => resolve(new ViciClient(socket, path, timeoutMs)));
    });
  }

  /** The answer to a command. COMMAND_FAILED when strongSwan refuses it or does not know it. */
  async command(name: string, message: ViciSection = new Map()): Promise<ViciSection> {
    return (await this.#exchange(name, message)).answer;
  }

  /** What a command says in events of this name until it answers, e.g. `list-sas` and `list-sa`. */
  async stream(name: string, event: string, message: ViciSection = new Map()): Promise<readonly ViciSection[]> {
    this.#send(EVENT_REGISTER, event);
    const { type } = await this.#next();
    if (type !== EVENT_CONFIRM) throw failed(name, type === EVENT_UNKNOWN ? `no event is named ${event}` : `answer ${type}`);
    return (await this.#exchange(name, message)).events;
  }

  close(): void {
    this.#socket.destroy();
  }

  async #exchange(name: string, message: ViciSection): Promise<{ answer: ViciSection; events: ViciSection[] }> {
    this.#send(COMMAND_REQUEST, name, encodeVici(message));
    const events: ViciSection[] = [];
    for (;;) {
      const { type, body } = await this.#next();
      if (type === EVENT) {
        events.push(decodeVici(body.subarray(1 + (body[0] ?? 0))));
        continue;
      }
      if (type !== COMMAND_RESPONSE) throw failed(name, type === COMMAND_UNKNOWN ? "no such command" : `answer ${type}`);
      const answer = decodeVici(body);
      const why = answer.get("errmsg");
      if (answer.get("success") === "no") throw failed(name, typeof why === "string" ? why : "it was refused");
      return { answer, events };
    }
  }

  #send(type: number, name: string, body: Buffer = Buffer.alloc(0)): void {
    const head = Buffer.from(name);
    const packet = Buffer.concat([Buffer.alloc(LENGTH_BYTES), Buffer.of(type, head.length), head, body]);
    packet.writeUInt32BE(packet.length - LENGTH_BYTES);
    this.#socket.write(packet);
  }

  #next(): Promise<Packet> {
    const packet = this.#packets.shift();
    if (packet !== undefined) return Promise.resolve(packet);
    return new Promise((resolve, reject) => {
      if (this.#broken !== undefined) return reject(this.#broken);
      const limit = setTimeout(() => {
        const detail = `no answer within ${this.#timeoutMs} ms`;
        this.#break(detail);
        this.#socket.destroy();
      }, this.#timeoutMs);
      const settle = <T>(done: (value: T) => void) => {
        return (value: T) => {
          clearTimeout(limit);
          done(value);
        };
      };
      this.#waiting = { resolve: settle(resolve), reject: settle(reject) };
    });
  }

  #read(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    while (this.#rest.length >= LENGTH_BYTES) {
      const length = this.#rest.readUInt32BE();
      if (length < 1 || length > IPSEC_LIMITS.viciPacketBytesMax) {
        this.#break(`a packet of ${length} bytes`);
        this.#socket.destroy();
        return;
      }
      if (this.#rest.length < LENGTH_BYTES + length) return;
      const packet = this.#rest.subarray(LENGTH_BYTES, LENGTH_BYTES + length);
      this.#rest = this.#rest.subarray(LENGTH_BYTES + length);
      this.#give({ type: packet[0] ?? -1, body: packet.subarray(1) });
    }
  }

  #give(packet: Packet): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) this.#packets.push(packet);
    else waiting.resolve(packet);
  }

  #break(detail: string): void {
    this.#broken ??= unreachable(this.#path, detail);
    this.#waiting?.reject(this.#broken);
    this.#waiting = undefined;
  }
}

function unreachable(path: string, detail: string): ForeshiftError {
  return new ForeshiftError("UNREACHABLE", { field: "strongSwan's VICI", value: path, detail });
}

function failed(command: string, detail: string): ForeshiftError {
  return new ForeshiftError("COMMAND_FAILED", { field: `VICI ${command}`, detail });
}
