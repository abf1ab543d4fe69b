/**
 * QEMU's monitor (QMP): its greeting, its capabilities, commands with a deadline, and its events.
 */
import type { Duplex } from "node:stream";
import { z } from "zod";
import { ForeshiftError } from "../../models/errors.ts";
import { MACHINE_LIMITS } from "../../models/limits-machines.ts";
import { JsonLine } from "./json-line.ts";

const Message = z.object({
  QMP: z.unknown().optional(),
  id: z.number().optional(),
  return: z.unknown().optional(),
  error: z.object({ class: z.string(), desc: z.string() }).optional(),
  event: z.string().optional(),
  data: z.unknown().optional(),
});

interface Asked {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: ForeshiftError) => void;
  readonly deadline: NodeJS.Timeout;
}

export class Qmp {
  readonly #line: JsonLine;
  readonly #asked = new Map<number, Asked>();
  readonly #greeted = Promise.withResolvers<void>();
  #nextId = 1;
  #ended: ForeshiftError | undefined;

  constructor(stream: Duplex, name: string) {
    this.#line = new JsonLine(stream, name);
    this.#line.onDocument = (document) => this.#take(Message.parse(document));
    this.#line.onEnd = (why) => this.#end(why);
    this.#greeted.promise.catch(() => undefined);
  }

  /** Waits for QEMU's greeting and makes commands possible. */
  async open(): Promise<void> {
    const late = setTimeout(() => {
      const detail = `QEMU said nothing within ${MACHINE_LIMITS.processStartTimeoutMs} ms`;
      this.#greeted.reject(new ForeshiftError("NOT_READY", { value: "the machine's monitor", detail }));
    }, MACHINE_LIMITS.processStartTimeoutMs);
    await this.#greeted.promise.finally(() => clearTimeout(late));
    await this.execute("qmp_capabilities");
  }

  /** The command's answer. COMMAND_FAILED when QEMU refuses it or is late, UNREACHABLE when QEMU has ended. */
  async execute(command: string, args: object = {}, timeoutMs: number = MACHINE_LIMITS.qmpTimeoutMs): Promise<unknown> {
    if (this.#ended !== undefined) throw this.#ended;
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const deadline = setTimeout(() => {
      this.#asked.delete(id);
      reject(new ForeshiftError("COMMAND_FAILED", { field: command, detail: `no answer within ${timeoutMs} ms` }));
    }, timeoutMs);
    this.#asked.set(id, { command, resolve, reject, deadline });
    this.#line.send({ execute: command, arguments: args, id });
    return await promise;
  }

  close(): void {
    this.#line.close();
  }

  #take(message: z.infer<typeof Message>): void {
    if (message.QMP !== undefined) return this.#greeted.resolve();
    if (message.id === undefined) return;
    const asked = this.#asked.get(message.id);
    if (asked === undefined) return;
    this.#asked.delete(message.id);
    clearTimeout(asked.deadline);
    if (message.error === undefined) asked.resolve(message.return);
    else asked.reject(new ForeshiftError("COMMAND_FAILED", { field: asked.command, detail: message.error.desc }));
  }

  #end(why: ForeshiftError): void {
    this.#ended = why;
    this.#greeted.reject(why);
    for (const { reject, deadline } of this.#asked.values()) {
      clearTimeout(deadline);
      reject(why);
    }
    this.#asked.clear();
  }
}
