/** What the reflex did and saw, numbered without gaps, on disk until enough newer events are there. */
import { appendFile, mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import type { Logger } from "pino";
import { messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import type { ReflexEvent } from "../../models/steering.ts";
import { readWhole, writeWhole } from "./files.ts";

export class EventJournal {
  readonly #path: string;
  readonly #log: Logger;
  #events: ReflexEvent[] = [];
  #seq = 0;
  #linesOnDisk = 0;
  #unwritten: ReflexEvent[] = [];
  #writing: Promise<void> | undefined;
  readonly #waiters = new Set<() => void>();

  constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
  }

  async load(): Promise<void> {
    const text = (await readWhole(this.#path)) ?? "";
    for (const line of text.split("\n")) {
      const event = parseLine(line);
      // A line that was being written when the power went is not an event.
      if (event === undefined || event.seq <= this.#seq) continue;
      this.#events.push(event);
      this.#seq = event.seq;
    }
    this.#events = this.#events.slice(-LIMITS.reflex.eventsKeptMax);
    await this.#rewrite();
  }

  add(event: Omit<ReflexEvent, "seq" | "atMs">, atMs: number): void {
    this.#seq += 1;
    const whole: ReflexEvent = { seq: this.#seq, atMs, ...event };
    this.#events.push(whole);
    if (this.#events.length > LIMITS.reflex.eventsKeptMax) this.#events.shift();
    this.#unwritten.push(whole);
    this.#log.info({ event: event.kind, endpoint: event.endpoint, text: event.text, ...event.details });
    this.#writing ??= this.#write();
    for (const wake of this.#waiters) wake();
  }

  /** Oldest first, waiting up to `waitMs` for the first. */
  async after(seq: number, waitMs: number): Promise<readonly ReflexEvent[]> {
    const found = this.#since(seq);
    if (found.length > 0 || waitMs <= 0) return found;
    await new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#waiters.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, waitMs);
      this.#waiters.add(wake);
    });
    return this.#since(seq);
  }

  /** Lets go of everybody who waits, and of what is not written yet. */
  async close(): Promise<void> {
    for (const wake of this.#waiters) wake();
    await this.#writing;
  }

  #since(seq: number): readonly ReflexEvent[] {
    return this.#events.filter((event) => event.seq > seq).slice(0, LIMITS.reflex.eventsPerAnswerMax);
  }

  async #write(): Promise<void> {
    try {
      while (this.#unwritten.length > 0) {
        const batch = this.#unwritten;
        this.#unwritten = [];
        if (this.#linesOnDisk + batch.length > 2 * LIMITS.reflex.eventsKeptMax) await this.#rewrite();
        else await appendFile(this.#path, lines(batch), { mode: 0o600, flush: true });
        this.#linesOnDisk += batch.length;
      }
    } catch (thrown) {
      this.#log.error({ event: "events-not-written", detail: messageOf(thrown) });
    } finally {
      this.#writing = undefined;
    }
  }

  async #rewrite(): Promise<void> {
    await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
    await writeWhole(this.#path, lines(this.#events));
    this.#linesOnDisk = this.#events.length;
  }
}

function lines(events: readonly ReflexEvent[]): string {
  return events.map((event) => `${JSON.stringify(event)}\n`).join("");
}

function parseLine(line: string): ReflexEvent | undefined {
  if (line === "") return undefined;
  try {
    const event = JSON.parse(line) as ReflexEvent;
    return Number.isSafeInteger(event.seq) ? event : undefined;
  } catch {
    return undefined;
  }
}
