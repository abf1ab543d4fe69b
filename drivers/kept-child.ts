/**
 * A process that is kept and asked again and again, one question after the other: written to its standard input, answered on its standard
 * output. It keeps nobody from ending, and ends with who started it; where it has ended, the next question has a new one.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { Socket } from "node:net";
import { ForeshiftError } from "../models/errors.ts";

interface Child {
  readonly process: ChildProcess;
  readonly stdin: Socket;
  readonly stdout: Socket;
}

export interface Question<T> {
  readonly text: string | Buffer;
  /** Given the bytes of the answer as they come; answers once it is whole. What it throws ends the process. */
  readonly read: (bytes: Buffer) => { readonly answer: T } | undefined;
  /** Of the error when nothing answers in time. */
  readonly field: string;
  readonly timeoutMs: number;
}

export class KeptChild {
  readonly #file: string;
  readonly #args: readonly string[];
  #child: Child | undefined;
  #absent = false;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(file: string, args: readonly string[]) {
    this.#file = file;
    this.#args = args;
  }

  /** Whether there is no such program on this machine. */
  get absent(): boolean {
    return this.#absent;
  }

  /** Undefined when it cannot be started or ends before the answer is whole; COMMAND_FAILED when that is late. */
  ask<T>(question: () => Question<T>): Promise<T | undefined> {
    const turn = this.#queue.then(() => this.#ask(question));
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  async #ask<T>(question: () => Question<T>): Promise<T | undefined> {
    const child = this.#present();
    if (child === undefined) return undefined;
    const { text, read, field, timeoutMs } = question();
    const { promise, resolve, reject } = Promise.withResolvers<T | undefined>();
    const giveUp = (thrown: unknown) => {
      reject(thrown);
      this.#end(child);
    };
    const take = (bytes: Buffer) => {
      try {
        const whole = read(bytes);
        if (whole !== undefined) resolve(whole.answer);
      } catch (thrown) {
        giveUp(thrown);
      }
    };
    const ended = () => resolve(undefined);
    const detail = `not done within ${timeoutMs} ms`;
    const late = setTimeout(() => giveUp(new ForeshiftError("COMMAND_FAILED", { field, detail })), timeoutMs);
    child.stdout.on("data", take).ref();
    child.process.once("close", ended);
    child.stdin.write(text);
    try {
      return await promise;
    } finally {
      clearTimeout(late);
      child.stdout.off("data", take).unref();
      child.process.off("close", ended);
    }
  }

  #present(): Child | undefined {
    if (this.#absent) return undefined;
    if (this.#child !== undefined) return this.#child;
    const started = spawn(this.#file, this.#args, { stdio: ["pipe", "pipe", "ignore"], detached: true });
    started.on("error", ({ code }: NodeJS.ErrnoException) => {
      this.#absent = code === "ENOENT";
    });
    const { stdin, stdout } = started;
    if (!(stdin instanceof Socket && stdout instanceof Socket)) return undefined;
    started.unref();
    stdin.on("error", () => undefined).unref();
    stdout.on("error", () => undefined);
    stdout.resume();
    stdout.unref();
    const child = { process: started, stdin, stdout };
    started.once("close", () => this.#forget(child));
    this.#child = child;
    return child;
  }

  /** With what it has started. */
  #end(child: Child): void {
    this.#forget(child);
    try {
      if (child.process.pid !== undefined) process.kill(-child.process.pid, "SIGKILL");
    } catch {
      // It has ended since.
    }
  }

  #forget(child: Child): void {
    if (this.#child === child) this.#child = undefined;
  }
}
