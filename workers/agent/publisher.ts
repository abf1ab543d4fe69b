/**
 * Brings the latest state to somebody who may be away: one push at a time, the newest state only, tried again until it is taken.
 */
import type { Logger } from "pino";
import { messageOf } from "../../models/errors.ts";

export interface PublisherOptions {
  readonly name: string;
  readonly retryMs: number;
  readonly log: Logger;
  /** Sends what is the latest when it is called; nothing to send is a success. */
  readonly send: () => Promise<void>;
}

export class Publisher {
  readonly #options: PublisherOptions;
  #wanted = false;
  #busy = false;
  #closed = false;
  #away = false;
  #retry: NodeJS.Timeout | undefined;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  /** There is something newer to send. */
  changed(): void {
    this.#wanted = true;
    if (!this.#busy && this.#retry === undefined) void this.#run();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
  }

  async #run(): Promise<void> {
    this.#busy = true;
    while (this.#wanted && !this.#closed) {
      this.#wanted = false;
      try {
        await this.#options.send();
        this.#note(false);
      } catch (thrown) {
        this.#note(true, messageOf(thrown));
        this.#wanted = true;
        this.#retryLater();
        break;
      }
    }
    this.#busy = false;
  }

  #retryLater(): void {
    if (this.#closed) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.changed();
    }, this.#options.retryMs);
  }

  /** One line when it goes away and one when it is back, not one for each attempt. */
  #note(away: boolean, detail?: string): void {
    if (this.#away === away) return;
    this.#away = away;
    const { log, name } = this.#options;
    if (away) log.warn({ event: "push-failing", to: name, detail });
    else log.info({ event: "push-restored", to: name });
  }
}
