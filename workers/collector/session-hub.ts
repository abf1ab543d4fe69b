/**
 * Streams of session changes. Each swarm is read once per announcement, however many endpoints listen; a listener that is behind
 * reads on its own until it has caught up, and then joins the others.
 */
import type { Writable } from "node:stream";
import type { Logger } from "pino";
import type { ChangeLine } from "../../drivers/store/sessions.ts";
import type { PostgresStore } from "../../drivers/store/store.ts";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import type { Lag } from "./lag.ts";

type ChangeStore = Pick<PostgresStore, "changesAfter" | "headVersion">;

interface Subscriber {
  readonly out: Writable;
  /** Versions up to this one were sent. */
  cursor: number;
  live: boolean;
}

interface Swarm {
  readonly subscribers: Set<Subscriber>;
  /** Versions up to this one were sent to the live subscribers. Undefined before the first reading. */
  cursor: number | undefined;
  reading: boolean;
  again: boolean;
}

export class SessionHub {
  readonly #store: ChangeStore;
  readonly #lag: Lag;
  readonly #log: Logger;
  readonly #swarms = new Map<string, Swarm>();

  constructor(parts: { store: ChangeStore; lag: Lag; log: Logger }) {
    this.#store = parts.store;
    this.#lag = parts.lag;
    this.#log = parts.log;
  }

  get subscribers(): number {
    return [...this.#swarms.values()].reduce((sum, { subscribers }) => sum + subscribers.size, 0);
  }

  /** Sends what came after `after`, then what comes, until `out` closes. Throws before the first line is sent, never later. */
  async subscribe(name: string, after: number, out: Writable): Promise<void> {
    if (this.subscribers >= LIMITS.collector.streamClientsMax) {
      throw new ForeshiftError("NOT_READY", {
        value: "the collector",
        detail: `${LIMITS.collector.streamClientsMax} streams are open`,
      });
    }
    const swarm = this.#swarm(name);
    const head = await this.#store.headVersion(name);
    swarm.cursor ??= head;
    const subscriber: Subscriber = { out, cursor: Math.min(after, head), live: false };
    swarm.subscribers.add(subscriber);
    out.once("close", () => swarm.subscribers.delete(subscriber));
    send(subscriber, `${JSON.stringify({ head })}\n`);
    void this.#catchUp(name, swarm, subscriber);
  }

  /** Versions of this swarm were announced; of all swarms when it is not known which (announcements may have been missed). */
  announced(name?: string): void {
    for (const [key, swarm] of this.#swarms) if (name === undefined || name === key) void this.#advance(key, swarm);
  }

  keepAlive(): void {
    for (const { subscribers } of this.#swarms.values()) for (const subscriber of subscribers) send(subscriber, "\n");
  }

  close(): void {
    for (const { subscribers } of this.#swarms.values()) for (const { out } of subscribers) out.end();
  }

  #swarm(name: string): Swarm {
    const swarm = this.#swarms.get(name) ?? { subscribers: new Set(), cursor: undefined, reading: false, again: false };
    this.#swarms.set(name, swarm);
    return swarm;
  }

  async #catchUp(name: string, swarm: Swarm, subscriber: Subscriber): Promise<void> {
    try {
      while (swarm.subscribers.has(subscriber)) {
        const changes = await this.#store.changesAfter(name, subscriber.cursor, LIMITS.collector.streamCatchUpBatch);
        sendChanges(subscriber, changes);
        // Nothing may happen between this comparison and the joining.
        if (changes.length < LIMITS.collector.streamCatchUpBatch && subscriber.cursor >= (swarm.cursor ?? 0)) {
          subscriber.live = true;
          return;
        }
        if (changes.length === 0) subscriber.cursor = swarm.cursor ?? subscriber.cursor;
      }
    } catch (thrown) {
      this.#log.warn({ event: "catch-up-failed", swarm: name, detail: messageOf(thrown) });
      subscriber.out.destroy();
    }
  }

  async #advance(name: string, swarm: Swarm): Promise<void> {
    swarm.again = true;
    if (swarm.reading || swarm.cursor === undefined) return;
    swarm.reading = true;
    try {
      while (swarm.again) {
        swarm.again = false;
        await this.#readOn(name, swarm);
      }
    } catch (thrown) {
      setTimeout(() => void this.#advance(name, swarm), LIMITS.collector.streamReconnectFirstMs).unref();
      this.#log.warn({ event: "stream-read-failed", swarm: name, detail: messageOf(thrown) });
    } finally {
      swarm.reading = false;
    }
  }

  async #readOn(name: string, swarm: Swarm): Promise<void> {
    for (;;) {
      const changes = await this.#store.changesAfter(name, swarm.cursor ?? 0, LIMITS.collector.streamCatchUpBatch);
      const now = Date.now();
      for (const { updatedAtMs } of changes) if (updatedAtMs !== undefined) this.#lag.add(now - updatedAtMs);
      swarm.cursor = changes.at(-1)?.version ?? swarm.cursor;
      for (const subscriber of swarm.subscribers) if (subscriber.live) sendChanges(subscriber, changes);
      if (changes.length < LIMITS.collector.streamCatchUpBatch) return;
    }
  }
}

function sendChanges(subscriber: Subscriber, changes: readonly ChangeLine[]): void {
  const newer = changes.filter(({ version }) => version > subscriber.cursor);
  if (newer.length === 0) return;
  send(subscriber, newer.map(({ line }) => `${JSON.stringify(line)}\n`).join(""));
  subscriber.cursor = newer.at(-1)?.version ?? subscriber.cursor;
}

function send(subscriber: Subscriber, text: string): void {
  const { out } = subscriber;
  if (out.writableEnded || out.destroyed) return;
  out.write(text);
  if (out.writableLength > LIMITS.collector.streamUnsentBytesMax) out.destroy();
}
