/**
 * Many streams over the one serial line between a guest and its host, so that what speaks over unix sockets outside speaks over them
 * inside, with no network between the two. A frame is a stream's number, a kind, a length and that many bytes.
 */
import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";

export interface SerialStreamsOptions {
  readonly line: Duplex;
  /** Both ends open streams; the side keeps their numbers apart. */
  readonly side: "host" | "guest";
  /** What a stream that the other end opens leads to; undefined: it is refused. */
  readonly accept: (name: string) => Duplex | undefined;
}

const KIND = { open: 0, data: 1, end: 2, close: 3, begin: 4 } as const;
const HEADER_BYTES = 9;
/** A piece of this size is written at once: a program that is killed leaves no half of it. */
const PAYLOAD_BYTES_MAX = 16 * 1024;
const TOKEN_BYTES = 32;

export class SerialStreams {
  readonly #options: SerialStreamsOptions;
  readonly #streams = new Map<number, Duplex>();
  #received: Buffer = Buffer.alloc(0);
  #nextId: number;
  readonly #begun = Promise.withResolvers<void>();
  /** Of the guest: what it waits for, because the program before it may have left a frame half read. */
  #token: Buffer | undefined;

  constructor(options: SerialStreamsOptions) {
    this.#options = options;
    this.#nextId = options.side === "host" ? 1 : 2;
    options.line.on("data", (bytes: Buffer) => this.#take(bytes));
    // A line that breaks off closes; there is nobody left to tell why.
    options.line.on("error", () => undefined);
    options.line.once("close", () => this.#closeAll());
    if (options.side === "guest") {
      this.#token = randomBytes(TOKEN_BYTES);
      this.#send(0, KIND.begin, this.#token);
    }
  }

  /** Once both ends are there. A host's streams before that lead nowhere. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  /** Connects `socket` to what the other end calls `name`. */
  connect(name: string, socket: Duplex): void {
    const id = this.#nextId;
    this.#nextId += 2;
    // First noted, because the answer may come before the question's call returns.
    this.#attach(id, socket);
    this.#send(id, KIND.open, Buffer.from(name));
  }

  #attach(id: number, socket: Duplex): void {
    this.#streams.set(id, socket);
    socket.on("data", (bytes: Buffer) => {
      for (let at = 0; at < bytes.length; at += PAYLOAD_BYTES_MAX) {
        this.#send(id, KIND.data, bytes.subarray(at, at + PAYLOAD_BYTES_MAX));
      }
      if (!this.#options.line.writableNeedDrain) return;
      socket.pause();
      this.#options.line.once("drain", () => socket.resume());
    });
    socket.on("error", () => socket.destroy());
    socket.once("end", () => this.#send(id, KIND.end));
    socket.once("close", () => {
      if (this.#streams.delete(id)) this.#send(id, KIND.close);
    });
  }

  #send(id: number, kind: number, payload: Uint8Array = new Uint8Array(0)): void {
    if (this.#options.line.destroyed) return;
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32LE(id, 0);
    header.writeUInt8(kind, 4);
    header.writeUInt32LE(payload.length, 5);
    this.#options.line.write(Buffer.concat([header, payload]));
  }

  #take(bytes: Buffer): void {
    this.#received = Buffer.concat([this.#received, bytes]);
    if (this.#token !== undefined && !this.#findToken(this.#token)) return;
    for (;;) {
      if (this.#received.length < HEADER_BYTES) return;
      const length = this.#received.readUInt32LE(5);
      if (this.#received.length < HEADER_BYTES + length) return;
      const payload = this.#received.subarray(HEADER_BYTES, HEADER_BYTES + length);
      const [id, kind] = [this.#received.readUInt32LE(0), this.#received.readUInt8(4)];
      this.#received = this.#received.subarray(HEADER_BYTES + length);
      this.#act(id, kind, payload);
    }
  }

  /** Passes over all that was for the program before. */
  #findToken(token: Buffer): boolean {
    const at = this.#received.indexOf(token);
    if (at === -1) return false;
    this.#received = this.#received.subarray(at + token.length);
    this.#token = undefined;
    this.#begun.resolve();
    return true;
  }

  #act(id: number, kind: number, payload: Buffer): void {
    if (kind === KIND.begin) {
      this.#closeAll();
      this.#begun.resolve();
      return this.#send(0, KIND.begin, payload);
    }
    if (kind === KIND.open) {
      const socket = this.#options.accept(payload.toString());
      return socket === undefined ? this.#send(id, KIND.close) : this.#attach(id, socket);
    }
    const socket = this.#streams.get(id);
    if (socket === undefined) return;
    if (kind === KIND.data) socket.write(payload);
    else if (kind === KIND.end) socket.end();
    else {
      this.#streams.delete(id);
      socket.destroy();
    }
  }

  #closeAll(): void {
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    for (const socket of streams) socket.destroy();
  }
}
