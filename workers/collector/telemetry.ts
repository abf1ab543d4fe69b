/**
 * Heartbeats on their way to the database: the latest at hand in memory, the rest in a bounded queue that is written in batches.
 */
import type { Logger } from "pino";
import type { PostgresStore } from "../../drivers/store/store.ts";
import { messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import type { Heartbeat } from "../../models/observation.ts";

export interface TelemetryCounts {
  readonly received: number;
  readonly written: number;
  /** Lost because the queue was full: the oldest go first. */
  readonly dropped: number;
  readonly queued: number;
}

export class Telemetry {
  readonly #store: PostgresStore;
  readonly #log: Logger;
  readonly #latest = new Map<string, Map<string, Heartbeat>>();
  readonly #loaded = new Set<string>();
  #queue: Heartbeat[] = [];
  #received = 0;
  #written = 0;
  #dropped = 0;
  #failing = false;
  #timer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(parts: { store: PostgresStore; log: Logger }) {
    this.#store = parts.store;
    this.#log = parts.log;
  }

  counts(): TelemetryCounts {
    return { received: this.#received, written: this.#written, dropped: this.#dropped, queued: this.#queue.length };
  }

  take(heartbeat: Heartbeat): void {
    this.#received += 1;
    this.#remember(heartbeat);
    this.#queue.push(heartbeat);
    this.#bound();
    this.#timer ??= setTimeout(() => this.#flushSoon(), LIMITS.collector.heartbeatFlushMs);
  }

  /** Latest of each endpoint; those from before this process started come from the database. */
  async latest(swarm: string): Promise<readonly Heartbeat[]> {
    if (!this.#loaded.has(swarm)) {
      for (const heartbeat of await this.#store.heartbeats(swarm)) this.#remember(heartbeat);
      this.#loaded.add(swarm);
    }
    return [...(this.#latest.get(swarm)?.values() ?? [])];
  }

  swarms(): readonly string[] {
    return [...this.#latest.keys()];
  }

  /** Endpoints that could take sessions over, as far as their heartbeats tell. */
  candidates(swarm: string, nowMs: number): readonly string[] {
    const oldest = nowMs - LIMITS.collector.shadowHeartbeatAgeMsMax;
    const fit = [...(this.#latest.get(swarm)?.values() ?? [])].filter(({ atMs, tunnelUp }) => tunnelUp && atMs >= oldest);
    return fit.map(({ endpoint }) => endpoint);
  }

  /** Writes what is queued, once. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#flushing;
    await this.#flush();
  }

  #remember(heartbeat: Heartbeat): void {
    const endpoints = this.#latest.get(heartbeat.swarm) ?? new Map<string, Heartbeat>();
    this.#latest.set(heartbeat.swarm, endpoints);
    const held = endpoints.get(heartbeat.endpoint);
    if (held === undefined || held.atMs <= heartbeat.atMs) endpoints.set(heartbeat.endpoint, heartbeat);
  }

  #bound(): void {
    const over = this.#queue.length - LIMITS.collector.heartbeatsQueuedMax;
    if (over <= 0) return;
    this.#queue.splice(0, over);
    this.#dropped += over;
  }

  #flushSoon(): void {
    this.#flushing = this.#flush().finally(() => {
      this.#timer = undefined;
      if (this.#queue.length === 0 || this.#closed) return;
      this.#timer = setTimeout(() => this.#flushSoon(), LIMITS.collector.heartbeatFlushMs);
    });
  }

  async #flush(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, LIMITS.collector.heartbeatBatchMax);
      try {
        await this.#store.insertHeartbeats(batch);
        this.#written += batch.length;
        if (this.#failing) this.#log.info({ event: "telemetry-restored" });
        this.#failing = false;
      } catch (thrown) {
        if (!this.#failing) this.#log.warn({ event: "telemetry-failing", detail: messageOf(thrown) });
        this.#failing = true;
        this.#queue = [...batch, ...this.#queue];
        this.#bound();
        return;
      }
    }
  }
}
