/**
 * Rows on their way to the database: a bounded queue that is written in batches, and goes on when the database is back.
 */
import type { Logger } from "pino";
import { messageOf } from "../../models/errors.ts";

export interface WriterOptions<Row> {
  readonly name: string;
  readonly queuedMax: number;
  readonly batchMax: number;
  readonly flushMs: number;
  readonly write: (batch: readonly Row[]) => Promise<void>;
  readonly log: Logger;
}

export interface WriterCounts {
  readonly written: number;
  /** Lost because the queue was full: the oldest go first. */
  readonly dropped: number;
  readonly queued: number;
}

export class Writer<Row> {
  readonly #options: WriterOptions<Row>;
  #queue: Row[] = [];
  #written = 0;
  #dropped = 0;
  #failing = false;
  #timer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: WriterOptions<Row>) {
    this.#options = options;
  }

  counts(): WriterCounts {
    return { written: this.#written, dropped: this.#dropped, queued: this.#queue.length };
  }

  add(rows: readonly Row[]): void {
    for (const row of rows) this.#queue.push(row);
    this.#bound();
    this.#timer ??= setTimeout(() => this.#flushSoon(), this.#options.flushMs);
  }

  /** Writes what is queued, once. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#flushing;
    await this.#flush();
  }

  #bound(): void {
    const over = this.#queue.length - this.#options.queuedMax;
    if (over <= 0) return;
    this.#queue.splice(0, over);
    this.#dropped += over;
  }

  #flushSoon(): void {
    this.#flushing = this.#flush().finally(() => {
      this.#timer = undefined;
      if (this.#queue.length === 0 || this.#closed) return;
      this.#timer = setTimeout(() => this.#flushSoon(), this.#options.flushMs);
    });
  }

  async #flush(): Promise<void> {
    const { name, batchMax, write, log } = this.#options;
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, batchMax);
      try {
        await write(batch);
        this.#written += batch.length;
        if (this.#failing) log.info({ event: "writing-restored", what: name });
        this.#failing = false;
      } catch (thrown) {
        if (!this.#failing) log.warn({ event: "writing-failing", what: name, detail: messageOf(thrown) });
        this.#failing = true;
        this.#queue = [...batch, ...this.#queue];
        this.#bound();
        return;
      }
    }
  }
}
