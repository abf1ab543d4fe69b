/**
 * Minutes and five minutes of every series, made from the live window once their time is over and nothing more can come.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Logger } from "pino";
import type { PostgresStore } from "../../drivers/store/store.ts";
import type { Grain, StoredRollup } from "../../drivers/store/telemetry.ts";
import { LIMITS } from "../../models/limits.ts";
import { rollup } from "../../models/telemetry-rollup.ts";
import type { LiveWindow } from "./live-window.ts";
import { Writer, type WriterCounts } from "./writer.ts";

const { minuteMs, fiveMinutesMs, rollupDelayMs, windowMs } = LIMITS.telemetry;

export class Rollups {
  readonly #window: LiveWindow;
  readonly #writers: Readonly<Record<Grain, Writer<StoredRollup>>>;
  /** Everything before is rolled up. */
  #doneToMs: number;
  #busy = false;

  constructor(parts: { window: LiveWindow; store: PostgresStore; log: Logger; nowMs: number }) {
    const { store, log } = parts;
    this.#window = parts.window;
    this.#doneToMs = Math.floor((parts.nowMs - windowMs) / fiveMinutesMs) * fiveMinutesMs;
    const writer = (grain: Grain) =>
      new Writer<StoredRollup>({
        name: `${grain} of telemetry`,
        queuedMax: LIMITS.telemetry.rollupsQueuedMax,
        batchMax: LIMITS.telemetry.rollupBatchMax,
        flushMs: LIMITS.collector.heartbeatFlushMs,
        write: (batch) => store.insertRollups(grain, batch),
        log,
      });
    this.#writers = { minute: writer("minute"), "five-minutes": writer("five-minutes") };
  }

  counts(): Readonly<Record<Grain, WriterCounts>> {
    return { minute: this.#writers.minute.counts(), "five-minutes": this.#writers["five-minutes"].counts() };
  }

  /** Rolls up what is over; to be called every now and then. */
  async check(nowMs: number): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#doneToMs + minuteMs + rollupDelayMs <= nowMs) {
        const endMs = this.#doneToMs + minuteMs;
        await this.#rollUp("minute", this.#doneToMs, endMs);
        if (endMs % fiveMinutesMs === 0) await this.#rollUp("five-minutes", endMs - fiveMinutesMs, endMs);
        this.#doneToMs = endMs;
        this.#window.forgetOld(nowMs);
      }
    } finally {
      this.#busy = false;
    }
  }

  /** What is not over yet is rolled up as far as it goes, so that a stop loses nothing. */
  async close(nowMs: number): Promise<void> {
    const beganFiveMs = Math.floor(this.#doneToMs / fiveMinutesMs) * fiveMinutesMs;
    for (let fromMs = this.#doneToMs; fromMs < nowMs; fromMs += minuteMs)
      await this.#rollUp("minute", fromMs, Math.min(fromMs + minuteMs, nowMs));
    for (let fromMs = beganFiveMs; fromMs < nowMs; fromMs += fiveMinutesMs)
      await this.#rollUp("five-minutes", fromMs, Math.min(fromMs + fiveMinutesMs, nowMs));
    await Promise.all([this.#writers.minute.close(), this.#writers["five-minutes"].close()]);
  }

  async #rollUp(grain: Grain, fromMs: number, untilMs: number): Promise<void> {
    for (const { swarm, endpoint, series } of this.#window.between(fromMs, untilMs)) {
      const rows = series.flatMap(([metric, values]): StoredRollup[] => {
        const summary = rollup(values);
        return summary === undefined ? [] : [{ atMs: fromMs, swarm, endpoint, metric, ...summary }];
      });
      this.#writers[grain].add(rows);
      // A large fleet takes a while: heartbeats come in between.
      await nextTurn();
    }
  }
}
