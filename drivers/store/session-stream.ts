/**
 * Follows a swarm's sessions as the collector streams them: what changed since a version, then live, over breaks and restarts.
 */
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { LIMITS } from "../../models/limits.ts";
import { parseInput } from "../../models/parse.ts";
import { Peer, PublicKey, SessionState } from "../../models/session.ts";
import { StaticIdentities } from "../../models/static-identities.ts";
import type { UnixHttpClient } from "../http-unix.ts";

const version = z.number().int().nonnegative();

/** One line of the stream. `head` opens it: the highest version there is; lower than one's own means the store began anew. */
export const StreamLine = z.union([
  z.strictObject({ head: version }),
  z.strictObject({ upsert: SessionState }),
  z.strictObject({ remove: PublicKey, version }),
  z.strictObject({ peer: Peer, version }),
  /** Out for good. */
  z.strictObject({ revoke: PublicKey, version }),
  /** Static keys that the swarm answers to from here on. */
  z.strictObject({ identities: StaticIdentities, version }),
]);
export type StreamLine = z.infer<typeof StreamLine>;

export interface FollowOptions {
  readonly collector: UnixHttpClient;
  readonly swarm: string;
  /** Version to go on after; asked at each connection. */
  readonly after: () => number;
  readonly onLines: (lines: readonly StreamLine[]) => void | Promise<void>;
  readonly onBreak: (thrown: unknown) => void;
  readonly signal: AbortSignal;
}

/** Lines that are handed on together at most; a burst at catch-up is taken in few steps. */
const LINES_AT_ONCE_MAX = 512;

/** Returns once `signal` aborts. */
export async function followSessions(options: FollowOptions): Promise<void> {
  const { signal } = options;
  let pauseMs: number = LIMITS.collector.streamReconnectFirstMs;
  while (!signal.aborted) {
    try {
      const took = await followOnce(options);
      if (took) pauseMs = LIMITS.collector.streamReconnectFirstMs;
    } catch (thrown) {
      options.onBreak(thrown);
    }
    if (signal.aborted) return;
    await delay(pauseMs, undefined, { signal }).catch(() => undefined);
    pauseMs = Math.min(pauseMs * 2, LIMITS.collector.streamReconnectLongestMs);
  }
}

async function followOnce(options: FollowOptions): Promise<boolean> {
  const path = `/v1/sessions/stream?swarm=${encodeURIComponent(options.swarm)}&after=${options.after()}`;
  const stream = options.collector.ndjson(path, {
    connectTimeoutMs: LIMITS.http.requestTimeoutMs,
    idleTimeoutMs: LIMITS.collector.streamIdleTimeoutMs,
    signal: options.signal,
  });
  let took = false;
  for await (const lines of batched(stream)) {
    took = true;
    await options.onLines(lines.map((line) => parseInput(StreamLine, line, "line of the session stream")));
  }
  return took;
}

/** Groups what is there already; waits only for the first of each group. */
async function* batched(stream: AsyncGenerator<unknown, void, undefined>): AsyncGenerator<readonly unknown[], void, undefined> {
  let next = stream.next();
  for (;;) {
    const first = await next;
    if (first.done === true) return;
    const lines = [first.value];
    next = stream.next();
    while (lines.length < LINES_AT_ONCE_MAX) {
      const more = await Promise.race([next, new Promise<undefined>((resolve) => setImmediate(resolve, undefined))]);
      if (more === undefined || more.done === true) break;
      lines.push(more.value);
      next = stream.next();
    }
    // Its failure is met at the next turn; until then it must not count as unhandled.
    next.catch(() => undefined);
    yield lines;
  }
}
