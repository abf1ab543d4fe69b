/**
 * One JSON document a line over a stream: how both QEMU's monitor and the agent inside a guest talk.
 */
import type { Duplex } from "node:stream";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { MACHINE_LIMITS } from "../../models/limits-machines.ts";

/** Sent by a guest's agent ahead of an answer that begins anew, whatever was said before. */
const DELIMITER = "\u00ff";

export class JsonLine {
  readonly #stream: Duplex;
  readonly #name: string;
  #buffer = "";
  #ended: ForeshiftError | undefined;
  /** Told each document, and that the stream has ended. */
  onDocument: (document: unknown) => void = () => undefined;
  onEnd: (why: ForeshiftError) => void = () => undefined;

  constructor(stream: Duplex, name: string) {
    this.#stream = stream;
    this.#name = name;
    stream.setEncoding("latin1");
    stream.on("data", (text: string) => this.#take(text));
    stream.once("error", (error) => this.#end(error.message));
    stream.once("end", () => this.#end("it has ended"));
    stream.once("close", () => this.#end("it has ended"));
  }

  send(document: unknown): void {
    if (this.#ended !== undefined) throw this.#ended;
    this.#stream.write(`${JSON.stringify(document)}\n`);
  }

  close(): void {
    this.#stream.destroy();
  }

  #take(text: string): void {
    this.#buffer += text;
    const lines = this.#buffer.split("\n");
    this.#buffer = lines.pop() ?? "";
    if (this.#buffer.length > MACHINE_LIMITS.lineBytesMax) return this.#end("a line of it has no end");
    for (const line of lines) {
      const document = Buffer.from(line.slice(line.lastIndexOf(DELIMITER) + 1), "latin1").toString("utf8");
      if (document.trim() === "") continue;
      try {
        this.onDocument(JSON.parse(document));
      } catch (thrown) {
        return this.#end(messageOf(thrown));
      }
    }
  }

  #end(detail: string): void {
    if (this.#ended !== undefined) return;
    this.#ended = new ForeshiftError("UNREACHABLE", { field: "The machine's line", value: this.#name, detail });
    this.#stream.destroy();
    this.onEnd(this.#ended);
  }
}
