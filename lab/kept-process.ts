/**
 * A process in one of the lab's hosts that is started again when it dies, as systemd would, unless it is to stay down.
 */
import type { ChildProcess } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { LIMITS } from "../models/limits.ts";
import { spawnIn } from "./namespace.ts";

export class KeptProcess {
  readonly #host: string;
  readonly #program: readonly string[];
  readonly #logFile: string;
  #child: ChildProcess | undefined;
  #wanted = true;
  #starts = 0;
  #pauseMs: number = LIMITS.lab.restartPauseMsMin;
  #startedAtMs = 0;
  #restart: NodeJS.Timeout | undefined;

  constructor(options: { host: string; program: readonly string[]; logFile: string }) {
    this.#host = options.host;
    this.#program = options.program;
    this.#logFile = options.logFile;
    this.#start();
  }

  get starts(): number {
    return this.#starts;
  }

  /** Kills it, and keeps it from coming back. */
  kill(): void {
    this.#wanted = false;
    clearTimeout(this.#restart);
    this.#child?.kill("SIGKILL");
  }

  /** Lets it run again after `kill`. */
  revive(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    if (this.#child === undefined) this.#start();
  }

  #start(): void {
    const log = openSync(this.#logFile, "a", 0o600);
    const child = spawnIn(this.#host, this.#program, { stdio: ["ignore", log, log] });
    closeSync(log);
    this.#child = child;
    this.#starts += 1;
    this.#startedAtMs = performance.now();
    const ended = () => {
      if (this.#child !== child) return;
      this.#child = undefined;
      if (this.#wanted) this.#startAgain();
    };
    child.once("exit", ended);
    child.once("error", ended);
  }

  /** The pause doubles for a process that dies at once, and is short again for one that lived. */
  #startAgain(): void {
    const lived = performance.now() - this.#startedAtMs > LIMITS.lab.restartPauseMsMax;
    this.#pauseMs = lived ? LIMITS.lab.restartPauseMsMin : Math.min(this.#pauseMs * 2, LIMITS.lab.restartPauseMsMax);
    this.#restart = setTimeout(() => {
      if (this.#wanted && this.#child === undefined) this.#start();
    }, this.#pauseMs);
  }
}
