/**
 * QEMU's agent inside a guest (its reference: QEMU Guest Agent Protocol): one question at a time over a serial line, with commands
 * run in the guest and its clock set.
 */
import { randomInt } from "node:crypto";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { ForeshiftError } from "../../models/errors.ts";
import { MACHINE_LIMITS } from "../../models/limits-machines.ts";
import { JsonLine } from "./json-line.ts";

const Answer = z.object({ return: z.unknown().optional(), error: z.object({ desc: z.string() }).optional() });
const Started = z.object({ pid: z.number() });
const Status = z.object({
  exited: z.boolean(),
  exitcode: z.number().optional(),
  signal: z.number().optional(),
  "out-data": z.string().optional(),
  "err-data": z.string().optional(),
});

export interface GuestOutcome {
  /** Exit status; 128 and the signal's number for a command that was ended by one. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const SIGNALLED = 128;
const NS_PER_MS = 1_000_000;

export class GuestAgent {
  readonly #line: JsonLine;
  #queue: Promise<unknown> = Promise.resolve();
  #waiting: ((answer: z.infer<typeof Answer> | ForeshiftError) => void) | undefined;
  /** Of nobody who asked here before. */
  #syncId = randomInt(2 ** 31);
  /** An answer that came too late may still come: the next question begins with a mark to wait for. */
  #inStep = false;
  #ended: ForeshiftError | undefined;

  constructor(stream: Duplex, name: string) {
    this.#line = new JsonLine(stream, name);
    this.#line.onDocument = (document) => this.#waiting?.(Answer.parse(document));
    this.#line.onEnd = (why) => {
      this.#ended = why;
      this.#waiting?.(why);
    };
  }

  /** Waits until the agent answers, which is when the guest has booted. NOT_READY when it does not. */
  async ready(timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      try {
        return void (await this.execute("guest-ping", {}, MACHINE_LIMITS.guestPingTimeoutMs));
      } catch (thrown) {
        if (this.#ended !== undefined) throw this.#ended;
        if (performance.now() > deadline) {
          const detail = `its agent does not answer after ${timeoutMs} ms; its console log says how far it came`;
          throw new ForeshiftError("NOT_READY", { value: "the machine", detail }, { cause: thrown });
        }
        await delay(MACHINE_LIMITS.guestPollMs);
      }
    }
  }

  /** Sets the guest's clock, Unix milliseconds. */
  async setTime(atMs: number): Promise<void> {
    await this.execute("guest-set-time", { time: atMs * NS_PER_MS });
  }

  /** Runs a command in the guest to its end. COMMAND_FAILED when it is late; it goes on in the guest then. */
  async run(command: readonly string[], options: { input?: string; timeoutMs?: number } = {}): Promise<GuestOutcome> {
    const [path = "", ...arg] = command;
    const timeoutMs = options.timeoutMs ?? MACHINE_LIMITS.guestCommandTimeoutMs;
    const input = options.input === undefined ? {} : { "input-data": Buffer.from(options.input).toString("base64") };
    const { pid } = Started.parse(await this.execute("guest-exec", { path, arg, "capture-output": true, ...input }));
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const status = Status.parse(await this.execute("guest-exec-status", { pid }));
      if (status.exited) return outcome(status);
      if (performance.now() > deadline) {
        throw new ForeshiftError("COMMAND_FAILED", { field: `${path} in the guest`, detail: `not done after ${timeoutMs} ms` });
      }
      await delay(MACHINE_LIMITS.guestPollMs);
    }
  }

  /** One question after the other. */
  async execute(command: string, args: object = {}, timeoutMs: number = MACHINE_LIMITS.qmpTimeoutMs): Promise<unknown> {
    const turn = this.#queue.then(async () => {
      if (!this.#inStep) await this.#synchronise(timeoutMs);
      return await this.#ask({ execute: command, arguments: args }, timeoutMs, () => true);
    });
    this.#queue = turn.catch(() => undefined);
    return await turn;
  }

  close(): void {
    this.#line.close();
  }

  async #synchronise(timeoutMs: number): Promise<void> {
    const id = this.#syncId++;
    await this.#ask({ execute: "guest-sync", arguments: { id } }, timeoutMs, (answer) => answer.return === id);
    this.#inStep = true;
  }

  async #ask(question: object, timeoutMs: number, isAnswer: (answer: z.infer<typeof Answer>) => boolean): Promise<unknown> {
    if (this.#ended !== undefined) throw this.#ended;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const late = setTimeout(() => {
      this.#inStep = false;
      reject(new ForeshiftError("COMMAND_FAILED", { field: "the guest's agent", detail: `no answer within ${timeoutMs} ms` }));
    }, timeoutMs);
    this.#waiting = (answer) => {
      if (answer instanceof ForeshiftError) return reject(answer);
      if (!isAnswer(answer)) return;
      if (answer.error === undefined) resolve(answer.return);
      else reject(new ForeshiftError("COMMAND_FAILED", { field: "the guest's agent", detail: answer.error.desc }));
    };
    this.#line.send(question);
    return await promise.finally(() => {
      clearTimeout(late);
      this.#waiting = undefined;
    });
  }
}

function outcome(status: z.infer<typeof Status>): GuestOutcome {
  const text = (data: string | undefined) => Buffer.from(data ?? "", "base64").toString("utf8");
  const ended = status.exitcode ?? SIGNALLED + (status.signal ?? 0);
  return { status: ended, stdout: text(status["out-data"]), stderr: text(status["err-data"]) };
}
