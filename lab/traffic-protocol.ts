/**
 * What the lab's process and its traffic processes (server and clients) say to each other over the IPC channel.
 */
import type { Received } from "./received-stream.ts";

/** By the session's index. */
export type BySession<T> = Readonly<Record<number, T>>;

export interface Sent {
  readonly next: number;
  readonly settled: number;
}

export interface TcpCounters {
  /** Established streams that ended or carried wrong bytes. */
  readonly broken: number;
  readonly longestStallMs: number;
  readonly bytes: number;
}

export type Question =
  | { readonly kind: "sent" }
  | { readonly kind: "received"; readonly upTo: BySession<number> }
  | { readonly kind: "tcp" }
  /** Receivers count from these numbers on, each for the sessions named. */
  | { readonly kind: "reset"; readonly base: BySession<number> }
  /** These sessions' clients are gone: nothing is sent to them, and what comes is counted from the first packet again. */
  | { readonly kind: "forget"; readonly sessions: readonly number[] };

export interface Answers {
  readonly sent: BySession<Sent>;
  readonly received: BySession<Received>;
  readonly tcp: BySession<TcpCounters>;
  readonly reset: null;
  readonly forget: null;
}

export interface TrafficSession {
  readonly index: number;
  readonly innerAddress: string;
  /** Unix ms, however long its process takes to start; at once unless stated. */
  readonly beginsAtMs?: number | undefined;
}

export interface TrafficConfig {
  readonly sessions: readonly TrafficSession[];
  readonly packetsPerSecond: number;
  readonly tcpBytesPerSecond: number;
}

/** Answers the parent's questions; the process ends with its parent. */
export function answerParent(
  answer: { [K in Question["kind"]]: (question: Extract<Question, { kind: K }>) => Answers[K] },
): void {
  process.on("message", (message: { id: number; question: Question }) => {
    const { id, question } = message;
    const value = (answer[question.kind] as (question: Question) => unknown)(question);
    process.send?.({ id, value });
  });
  process.on("disconnect", () => process.exit(0));
}

/** Each value of a table by session, changed. */
export function mapSessions<A, B>(table: BySession<A>, change: (value: A, session: number) => B): BySession<B> {
  return Object.fromEntries(Object.entries(table).map(([session, value]) => [session, change(value, Number(session))]));
}
