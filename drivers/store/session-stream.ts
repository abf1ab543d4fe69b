/**
 * Follows a swarm's sessions as the collector streams them: what changed since a version, then live, over breaks and restarts.
 */
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { IpsecLine } from "../../models/ipsec/wire.ts";
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
  /** Follows IPsec sessions too: those that this endpoint is the shadow of. */
  readonly ipsec?: { readonly endpoint: string; readonly onLines: (lines: readonly IpsecLine[]) => void } | undefined;
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
  const { ipsec } = options;
  const shadow = ipsec === undefined ? "" : `&ipsec=${encodeURIComponent(ipsec.endpoint)}`;
  const path = `/v1/sessions/stream?swarm=${encodeURIComponent(options.swarm)}&after=${options.after()}${shadow}`;
  const stream = options.collector.ndjson(path, {
    connectTimeoutMs: LIMITS.http.requestTimeoutMs,
    idleTimeoutMs: LIMITS.collector.streamIdleTimeoutMs,
    signal: options.signal,
  });
  let took = false;
  for await (const lines of batched(stream)) {
    took = true;
    const what = "line of the session stream";
    const ofIpsec = ipsec === undefined ? [] : lines.filter(isOfIpsec);
    if (ofIpsec.length > 0) ipsec?.onLines(ofIpsec.map((line) => parseInput(IpsecLine, line, what)));
    const others = ipsec === undefined ? lines : lines.filter((line) => !isOfIpsec(line));
    if (others.length > 0) await options.onLines(others.map((line) => parseInput(StreamLine, line, what)));
  }
  return took;
}

function isOfIpsec(line: unknown): boolean {
  return typeof line === "object" && line !== null && Object.keys(line).some((name) => name.startsWith("ipsec"));
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
