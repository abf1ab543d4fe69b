/**
 * One child process that is kept running: started again with a growing pause when it dies, and never outliving its parent.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { LIMITS } from "../models/limits.ts";

export interface ProcessSpec {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Standard output and error are appended here. */
  readonly logFile: string;
  /** Resolves once the process does its work; rejects when it will not. Called after each start. */
  readonly ready: (signal: AbortSignal) => Promise<void>;
  /** SIGTERM is followed by SIGKILL when it takes too long; what cannot hear SIGTERM gets SIGKILL at once. */
  readonly stopSignal: "SIGTERM" | "SIGKILL";
}

export interface ProcessStatus {
  readonly name: string;
  readonly pid: number | undefined;
  readonly starts: number;
  readonly ready: boolean;
}

/** Invariant: at most one child is alive at a time; after `stop()` none is. */
export class Supervised {
  readonly #spec: ProcessSpec;
  readonly #onChange: (status: ProcessStatus) => void;
  #child: ChildProcess | undefined;
  #starts = 0;
  #ready = false;
  #stopping = new AbortController();

  constructor(spec: ProcessSpec, onChange: (status: ProcessStatus) => void = () => undefined) {
    this.#spec = spec;
    this.#onChange = onChange;
  }

  get status(): ProcessStatus {
    return { name: this.#spec.name, pid: this.#child?.pid, starts: this.#starts, ready: this.#ready };
  }

  /** Starts it and waits until it is ready. A first start that fails is an error; later ones are repeated. */
  async start(): Promise<void> {
    const exited = this.#spawn();
    const early = exited.then((how) => {
      throw new Error(`${this.#spec.name} ended before it was ready (${how}); see ${this.#spec.logFile}`);
    });
    await Promise.race([this.#awaitReady(), early]);
    early.catch(() => undefined);
    void this.#keepRunning(exited);
  }

  /** Ends it, and returns once it is gone. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill(this.#spec.stopSignal);
    const grace = new AbortController();
    await Promise.race([
      gone,
      delay(LIMITS.lab.stopGraceMs, undefined, { signal: grace.signal }).then(
        () => child.kill("SIGKILL"),
        () => undefined,
      ),
    ]);
    grace.abort();
    await gone;
  }

  #spawn(): Promise<string> {
    const log = openSync(this.#spec.logFile, "a", 0o600);
    const bound = ["--pdeathsig", "KILL", "--", "prlimit", "--core=0:0", "--", this.#spec.command, ...this.#spec.args];
    const child = spawn("setpriv", bound, {
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    this.#child = child;
    this.#starts += 1;
    this.#ready = false;
    this.#onChange(this.status);
    return new Promise((resolve) => {
      child.once("error", (error) => resolve(error.message));
      child.once("exit", (code, signal) => resolve(signal ?? `exit code ${code}`));
    });
  }

  async #awaitReady(): Promise<void> {
    const limit = AbortSignal.any([AbortSignal.timeout(LIMITS.lab.processReadyTimeoutMs), this.#stopping.signal]);
    await this.#spec.ready(limit);
    this.#ready = true;
    this.#onChange(this.status);
  }

  async #keepRunning(firstExit: Promise<string>): Promise<void> {
    let exited = firstExit;
    let pauseMs: number = LIMITS.lab.restartPauseMsMin;
    while (!this.#stopping.signal.aborted) {
      await exited;
      this.#ready = false;
      this.#onChange(this.status);
      if (this.#stopping.signal.aborted) return;
      await delay(pauseMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      if (this.#stopping.signal.aborted) return;
      exited = this.#spawn();
      try {
        await Promise.race([this.#awaitReady(), exited.then(() => Promise.reject(new Error("ended early")))]);
        pauseMs = LIMITS.lab.restartPauseMsMin;
      } catch {
        pauseMs = Math.min(pauseMs * 2, LIMITS.lab.restartPauseMsMax);
        this.#child?.kill("SIGKILL");
      }
    }
  }
}
