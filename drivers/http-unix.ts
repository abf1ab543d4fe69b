/**
 * JSON over HTTP on a unix socket, or over TCP once both ends are authenticated: how Foreshift's processes ask each other. Every call
 * states its timeout and its retry policy.
 */
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type { TLSSocket } from "node:tls";
import { type buildConnector, type Dispatcher, Pool } from "undici";
import type { z } from "zod";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { parseInput } from "../models/parse.ts";

const { http } = LIMITS;

/**
 * How often a call that never got an answer is made in all, and how long is waited before each further attempt: `backoffMs`,
 * doubled each time, up to `backoffMsMax`. An answer, whatever it says, ends the call.
 */
export interface RetryPolicy {
  readonly attemptsMax: number;
  readonly backoffMs: number;
  readonly backoffMsMax: number;
}

export const NO_RETRY: RetryPolicy = { attemptsMax: 1, backoffMs: 0, backoffMsMax: 0 };
/** For calls that change nothing when made twice: reads, plain sets, and everything that carries an operation key. */
export const RETRY_IDEMPOTENT: RetryPolicy = {
  attemptsMax: http.attemptsMax,
  backoffMs: http.retryFirstMs,
  backoffMsMax: http.retryLongestMs,
};

export interface CallOptions<T = unknown> {
  /** For each attempt, from its start to the end of the answer. */
  readonly timeoutMs: number;
  readonly retry: RetryPolicy;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Checks the answer; without it the answer is trusted. */
  readonly schema?: z.ZodType<T>;
  readonly signal?: AbortSignal;
}

export interface StreamOptions {
  /** To the first byte of the answer. */
  readonly connectTimeoutMs: number;
  /** Silence after which the stream counts as broken; the server sends empty lines more often than that. */
  readonly idleTimeoutMs: number;
  readonly signal: AbortSignal;
}

/** Opens a connection whose both ends are authenticated (drivers/identity/dial.ts). */
export interface Dial<S extends Socket = TLSSocket> {
  (where: string): Promise<S>;
  /** Calls back when connections are made with another certificate from here on; the answer takes the wish back. */
  readonly onRenewed?: (callback: () => void) => () => void;
}

type Method = "GET" | "PUT" | "POST" | "DELETE";

export interface UnixHttpClientOptions {
  readonly socketPath: string;
  readonly name: string;
  readonly dial?: Dial<Socket>;
  /** An idle connection is closed after this long, in any case before the server closes it. */
  readonly keepAliveMs?: number;
}

/**
 * One keep-alive pool to one socket; with `dial`, `socketPath` may be `host:port`. `name` is what error messages call the process behind it,
 * e.g. `reflex`. With a new certificate calls go over new connections, and the old ones end when what is under way on them has ended.
 */
export class UnixHttpClient {
  readonly socketPath: string;
  readonly name: string;
  readonly #dial: Dial<Socket> | undefined;
  readonly #keepAliveMs: number;
  readonly #former = new Set<Pool>();
  readonly #forgetRenewals: () => void;
  #pool: Pool;
  /** Ended when streams have to go over to a new certificate. */
  #streams = new AbortController();

  constructor({ socketPath, name, dial, keepAliveMs = http.clientKeepAliveMs }: UnixHttpClientOptions) {
    this.#keepAliveMs = keepAliveMs;
    this.socketPath = socketPath;
    this.name = name;
    this.#dial = dial;
    this.#pool = this.#newPool();
    this.#forgetRenewals = dial?.onRenewed?.(() => this.#goOver()) ?? (() => undefined);
  }

  #newPool(): Pool {
    const dial = this.#dial;
    return new Pool("http://localhost", {
      ...(dial === undefined ? { socketPath: this.socketPath } : { connect: connector(dial, this.socketPath) }),
      connections: http.connectionsMax,
      pipelining: 1,
      keepAliveTimeout: this.#keepAliveMs,
      keepAliveMaxTimeout: this.#keepAliveMs,
      maxResponseSize: http.answerBytesMax,
    });
  }

  #goOver(): void {
    const former = this.#pool;
    const streams = this.#streams;
    this.#pool = this.#newPool();
    this.#streams = new AbortController();
    this.#former.add(former);
    streams.abort();
    // Its failure is that of the calls under way, who are told.
    former.close().then(
      () => this.#former.delete(former),
      () => this.#former.delete(former),
    );
  }

  get<T = unknown>(path: string, options: CallOptions<T>): Promise<T> {
    return this.request("GET", path, options);
  }

  put<T = unknown>(path: string, options: CallOptions<T>): Promise<T> {
    return this.request("PUT", path, options);
  }

  post<T = unknown>(path: string, options: CallOptions<T>): Promise<T> {
    return this.request("POST", path, options);
  }

  delete<T = unknown>(path: string, options: CallOptions<T>): Promise<T> {
    return this.request("DELETE", path, options);
  }

  /** UNREACHABLE when no answer came in time; the error the server answered; else the answer (undefined when it is empty). */
  async request<T = unknown>(method: Method, path: string, options: CallOptions<T>): Promise<T> {
    const { status, text } = await this.#withRetry(options, () => this.#exchange(method, path, options));
    const answer = this.#parseJson(text);
    if (status >= 400) throw ForeshiftError.fromBody(answer);
    return options.schema === undefined ? (answer as T) : parseInput(options.schema, answer, `answer of ${this.name}`);
  }

  /** The raw answer, for servers that are not ours (Vault) and for text (metrics). */
  async exchange(method: Method, path: string, options: CallOptions): Promise<{ status: number; text: string }> {
    return await this.#withRetry(options, () => this.#exchange(method, path, options));
  }

  /**
   * Each line of a newline-delimited JSON answer, until the server ends it (returns), it breaks (throws), `signal` aborts or another
   * certificate is to be shown (returns).
   */
  async *ndjson(path: string, options: StreamOptions): AsyncGenerator<unknown, void, undefined> {
    const signal = AbortSignal.any([options.signal, this.#streams.signal]);
    if (signal.aborted) return;
    try {
      const response = await this.#pool.request({
        method: "GET",
        path,
        headersTimeout: options.connectTimeoutMs,
        bodyTimeout: options.idleTimeoutMs,
        signal,
        // A stream holds its connection for as long as it lives, so it must not take one from the pool's calls.
        reset: true,
      });
      if (response.statusCode >= 400) throw ForeshiftError.fromBody(this.#parseJson(await response.body.text()));
      yield* this.#lines(response.body);
    } catch (thrown) {
      if (signal.aborted) return;
      throw this.#unreachable(thrown, options.idleTimeoutMs);
    }
  }

  async close(): Promise<void> {
    this.#forgetRenewals();
    await Promise.all([this.#pool, ...this.#former].map((pool) => pool.destroy()));
  }

  async #withRetry<R>(options: CallOptions, attempt: () => Promise<R>): Promise<R> {
    const { attemptsMax, backoffMs, backoffMsMax } = options.retry;
    for (let n = 1; ; n += 1) {
      try {
        return await attempt();
      } catch (thrown) {
        if (options.signal?.aborted === true) throw options.signal.reason;
        if (n >= attemptsMax) throw this.#unreachable(thrown, options.timeoutMs);
        await delay(
          Math.min(backoffMs * 2 ** (n - 1), backoffMsMax),
          undefined,
          options.signal ? { signal: options.signal } : {},
        );
      }
    }
  }

  async #exchange(method: Method, path: string, options: CallOptions): Promise<{ status: number; text: string }> {
    const deadline = AbortSignal.timeout(options.timeoutMs);
    const request: Dispatcher.RequestOptions = {
      method,
      path,
      signal: options.signal ? AbortSignal.any([options.signal, deadline]) : deadline,
      headersTimeout: options.timeoutMs,
      bodyTimeout: options.timeoutMs,
      headers: { ...(options.body === undefined ? {} : { "content-type": "application/json" }), ...options.headers },
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    };
    const response = await this.#pool.request(request);
    return { status: response.statusCode, text: await response.body.text() };
  }

  async *#lines(body: AsyncIterable<Buffer>): AsyncGenerator<unknown, void, undefined> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of body) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > http.streamLineCharsMax) throw new Error(`a line of more than ${http.streamLineCharsMax} characters`);
      for (const line of lines) if (line !== "") yield this.#parseJson(line);
    }
  }

  #parseJson(text: string): unknown {
    if (text === "") return undefined;
    try {
      return JSON.parse(text);
    } catch {
      throw new ForeshiftError("INTERNAL", { detail: `${this.name} answered something that is not JSON` });
    }
  }

  #unreachable(thrown: unknown, timeoutMs: number): unknown {
    if (thrown instanceof ForeshiftError) return thrown;
    const code = errorCode(thrown);
    const late = code === "UND_ERR_HEADERS_TIMEOUT" || code === "UND_ERR_BODY_TIMEOUT" || isTimeout(thrown);
    const detail =
      code === "ENOENT"
        ? "the socket does not exist"
        : code === "ECONNREFUSED"
          ? "nothing listens on the socket"
          : late
            ? `no answer within ${timeoutMs} ms`
            : messageOf(thrown);
    return new ForeshiftError("UNREACHABLE", { field: this.name, value: this.socketPath, detail }, { cause: thrown });
  }
}

function connector(dial: Dial<Socket>, where: string): buildConnector.connector {
  return (_, callback) => {
    dial(where).then(
      (socket) => callback(null, socket),
      (thrown: unknown) => callback(thrown instanceof Error ? thrown : new Error(messageOf(thrown)), null),
    );
  };
}

function errorCode(thrown: unknown): string | undefined {
  if (typeof thrown !== "object" || thrown === null || !("code" in thrown)) return undefined;
  return typeof thrown.code === "string" ? thrown.code : undefined;
}

function isTimeout(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === "TimeoutError";
}
