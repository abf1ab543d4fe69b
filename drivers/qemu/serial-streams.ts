/**
 * Many streams over the one serial line between a guest and its host, so that what speaks over unix sockets outside speaks over them
 * inside, with no network between the two. A frame is a stream's number, a kind, a length and that many bytes.
 */
import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { MACHINE_LIMITS } from "../../models/limits-machines.ts";

export interface SerialStreamsOptions {
  readonly line: Duplex;
  /** Both ends open streams; the side keeps their numbers apart. */
  readonly side: "host" | "guest";
  /** What a stream that the other end opens leads to; undefined: it is refused. */
  readonly accept: (name: string) => Duplex | undefined;
  /** Of a host: the line was another's before, who may have left half a frame on it in either direction. */
  readonly rejoins?: boolean;
}

const KIND = { open: 0, data: 1, end: 2, close: 3, begin: 4 } as const;
const HEADER_BYTES = 9;
/** A piece of this size is written at once: a program that is killed leaves no half of it. */
const PAYLOAD_BYTES_MAX = 16 * 1024;
const TOKEN_BYTES = 32;
/** Begins a host's call to a guest to begin anew; found wherever the guest's reading stands. A token follows that the guest repeats. */
const CALL = Buffer.from("foreshift: call.", "latin1");

export class SerialStreams {
  readonly #options: SerialStreamsOptions;
  readonly #streams = new Map<number, Duplex>();
  #received: Buffer = Buffer.alloc(0);
  #nextId: number;
  readonly #begun = Promise.withResolvers<void>();
  /** What is waited for, because whoever was at an end before may have left a frame half read. */
  #token: Buffer | undefined;
  #calling: NodeJS.Timeout | undefined;
  /** Of the last call that a guest has answered. */
  #answered: Buffer = Buffer.alloc(0);

  constructor(options: SerialStreamsOptions) {
    this.#options = options;
    this.#nextId = options.side === "host" ? 1 : 2;
    options.line.on("data", (bytes: Buffer) => this.#take(bytes));
    // A line that breaks off closes; there is nobody left to tell why.
    options.line.on("error", () => undefined);
    options.line.once("close", () => {
      clearInterval(this.#calling);
      this.#closeAll();
    });
    if (options.side === "guest") this.#beginAnew();
    else if (options.rejoins === true) this.#callGuest();
  }

  /** Once both ends are there. A host's streams before that lead nowhere. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  /** Connects `socket` to what the other end calls `name`. */
  connect(name: string, socket: Duplex): void {
    // Nobody would understand it yet.
    if (this.#calling !== undefined) return void socket.destroy();
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
    if (this.#options.side === "guest" && !this.#answerCalls()) return;
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

  #beginAnew(): void {
    this.#token = randomBytes(TOKEN_BYTES);
    this.#send(0, KIND.begin, this.#token);
  }

  /** Again and again until it is answered: a piece of a call may end a frame that the guest has read half of. */
  #callGuest(): void {
    const { line } = this.#options;
    const token = randomBytes(TOKEN_BYTES);
    this.#token = token;
    // A guest that is suspended reads nothing; its calls need not pile up.
    const call = () => void (line.writableLength === 0 && line.write(Buffer.concat([CALL, token])));
    this.#calling = setInterval(call, MACHINE_LIMITS.rejoinCallMs);
    call();
  }

  /** False while the rest of a call is under way. */
  #answerCalls(): boolean {
    for (let at = this.#received.indexOf(CALL); at !== -1; at = this.#received.indexOf(CALL)) {
      const end = at + CALL.length + TOKEN_BYTES;
      if (this.#received.length < end) return false;
      const token = Buffer.from(this.#received.subarray(at + CALL.length, end));
      const isRepeated = token.equals(this.#answered);
      // What came before a repeated call is of this host already.
      this.#received = Buffer.concat([this.#received.subarray(0, isRepeated ? at : 0), this.#received.subarray(end)]);
      if (isRepeated) continue;
      this.#answered = token;
      this.#closeAll();
      this.#options.line.write(token);
      this.#beginAnew();
    }
    return true;
  }

  /** Passes over all that was for whoever was there before. */
  #findToken(token: Buffer): boolean {
    const at = this.#received.indexOf(token);
    if (at === -1) return false;
    this.#received = this.#received.subarray(at + token.length);
    this.#token = undefined;
    if (this.#calling === undefined) this.#begun.resolve();
    clearInterval(this.#calling);
    this.#calling = undefined;
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
