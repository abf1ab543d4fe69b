/** Calls of Temporal that are made again when they fail, until the connection is closed. */
import { setTimeout as delay } from "node:timers/promises";
import { type ConnectionOptions, defaultGrpcRetryOptions, makeGrpcRetryInterceptor } from "@temporalio/client";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";

/** Timers of one length and of another do not fall due to the millisecond. */
const TIMER_MARGIN_MS = 20;

/**
 * The client makes a call again from a timer. What a closed connection throws there nobody catches, and the process ends by it: so no
 * call is made again once the end has begun, and the connection is closed when the last timer is over.
 */
export class Retries {
  readonly interceptors: NonNullable<ConnectionOptions["interceptors"]>;
  /** When the last of the timers falls due, by `performance.now()`. */
  #dueMs = 0;
  #isEnding = false;

  constructor() {
    const { delayFunction, retryableDecider } = defaultGrpcRetryOptions();
    const retry = makeGrpcRetryInterceptor({
      retryableDecider: (attempt, status) => !this.#isEnding && retryableDecider(attempt, status),
      delayFunction: (attempt, status) => {
        const pauseMs = delayFunction(attempt, status);
        this.#dueMs = Math.max(this.#dueMs, performance.now() + pauseMs);
        return pauseMs;
      },
    });
    this.interceptors = [retry];
  }

  /** A run goes on whatever becomes of who waits for it: a server that does not answer for a while is asked again. */
  async patiently<T>(call: () => Promise<T>): Promise<T> {
    const { retryAttemptsMax, retryFirstMs, retryLongestMs } = LIMITS.control;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await call();
      } catch (thrown) {
        const mayPass = thrown instanceof ForeshiftError && thrown.code === "UNREACHABLE" && thrown.field === "Temporal";
        if (!mayPass || this.#isEnding || attempt >= retryAttemptsMax) throw thrown;
        await delay(Math.min(retryFirstMs * 2 ** attempt, retryLongestMs));
      }
    }
  }

  /** Returns once the connection may be closed. */
  async end(): Promise<void> {
    this.#isEnding = true;
    const leftMs = this.#dueMs - performance.now();
    if (leftMs > 0) await delay(leftMs + TIMER_MARGIN_MS);
  }
}
