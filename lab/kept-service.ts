/**
 * A service of the set-up (Temporal, PostgreSQL, OpenBao) that is started again when it dies, on the address it had.
 */
import { setTimeout as delay } from "node:timers/promises";
import { LIMITS } from "../models/limits.ts";
import type { Service } from "../setup/services.ts";
import type { ProcessStatus } from "./supervised.ts";

/** Invariant: after `stop()` no instance runs and none is started. */
export class KeptService<S extends Service = Service> {
  readonly #start: () => Promise<S>;
  #service: S;
  #starts = 1;
  #ready = true;
  #stopping = new AbortController();
  #restarting: Promise<void> | undefined;

  private constructor(start: () => Promise<S>, first: S) {
    this.#start = start;
    this.#service = first;
    this.#watch(first);
  }

  static async start<S extends Service>(start: () => Promise<S>): Promise<KeptService<S>> {
    return new KeptService(start, await start());
  }

  get service(): S {
    return this.#service;
  }

  get status(): ProcessStatus {
    return { name: this.#service.name, pid: this.#service.pid, starts: this.#starts, ready: this.#ready };
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#restarting;
    await this.#service.stop();
  }

  #watch(service: S): void {
    service.onExit(() => {
      if (this.#stopping.signal.aborted) return;
      this.#ready = false;
      this.#restarting = this.#restart();
    });
  }

  async #restart(): Promise<void> {
    let pauseMs: number = LIMITS.lab.restartPauseMsMin;
    while (!this.#stopping.signal.aborted) {
      await delay(pauseMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      if (this.#stopping.signal.aborted) return;
      try {
        this.#service = await this.#start();
        this.#starts += 1;
        this.#ready = true;
        this.#watch(this.#service);
        return;
      } catch {
        pauseMs = Math.min(pauseMs * 2, LIMITS.lab.restartPauseMsMax);
      }
    }
  }
}
