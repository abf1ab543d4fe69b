/**
 * The lab's traffic as a whole: starts the server's and the clients' processes, and puts what senders and receivers know together.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Logger } from "pino";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import type { Client } from "./client-host.ts";
import type { ClientTraffic, LabTraffic, PacketCounters } from "./lab-client.ts";
import { spawnIn } from "./namespace.ts";
import type { Received } from "./received-stream.ts";
import { SAMPLE_MS } from "./sent-stream.ts";
import {
  type Answers,
  type BySession,
  mapSessions,
  type Question,
  type Sent,
  type TrafficConfig,
  type TrafficSession,
} from "./traffic-protocol.ts";

const SERVER = fileURLToPath(new URL("./server.ts", import.meta.url));
const CLIENT = fileURLToPath(new URL("./client-traffic.ts", import.meta.url));

export interface TrafficOptions {
  readonly clients: readonly Client[];
  /** Clients that may join later. */
  readonly spare: readonly Client[];
  readonly packetsPerSecond: number;
  readonly tcpBytesPerSecond: number;
  readonly logDir: string;
  readonly log: Logger;
}

/** A sender names as settled what it sent at least the settling time ago, and knows that time to a sample or two. */
const SENT_UNCERTAIN_MS = LIMITS.lab.trafficSettleMs + 2 * SAMPLE_MS;

export class Traffic {
  readonly #options: TrafficOptions;
  readonly #server: TrafficProcess;
  readonly #senders: Map<Client, TrafficProcess>;
  /** First packet that counts, by session. */
  #base: { up: BySession<number>; down: BySession<number> };
  #sinceMs = Date.now();

  constructor(options: TrafficOptions) {
    this.#options = options;
    this.#server = this.#start("server", SERVER, [...options.clients, ...options.spare].flatMap(sessionsOf));
    this.#senders = new Map(options.clients.map((client) => [client, this.#start(client.name, CLIENT, sessionsOf(client))]));
    this.#base = { up: {}, down: {} };
  }

  /** A spare client joins; each of these sessions of it sends its first packet when its time has come. */
  join(client: Client, sessions: readonly TrafficSession[]): void {
    const joining = new Set(sessions.map(({ index }) => index));
    const joined = { ...client, sessions: client.sessions.filter(({ index }) => joining.has(index)) };
    this.#senders.set(joined, this.#start(client.name, CLIENT, sessions));
  }

  /** Its sessions send no more, and nothing is sent to them. */
  async leave(client: Client): Promise<void> {
    const [joined, sender] = [...this.#senders].find(([{ name }]) => name === client.name) ?? [];
    if (joined === undefined || sender === undefined) return;
    this.#senders.delete(joined);
    await sender.stop();
    await this.#server.ask({ kind: "forget", sessions: client.sessions.map(({ index }) => index) });
    this.#base = { up: without(this.#base.up, client), down: without(this.#base.down, client) };
  }

  async report(): Promise<LabTraffic> {
    const askedAtMs = Date.now();
    const [up, down] = await this.#sent();
    // Of a session that is about to be counted anew the last settled packet may be older than the first that counts.
    const end = (sent: BySession<Sent>, base: BySession<number>) =>
      mapSessions(sent, ({ settled }, session) => Math.max(settled, base[session] ?? 0));
    const upTo = end(up, this.#base.up);
    const downTo = end(down, this.#base.down);
    const [upReceived, downReceived, tcp] = await Promise.all([
      this.#server.ask({ kind: "received", upTo }),
      this.#askClients((client) => ({ kind: "received", upTo: ofClient(downTo, client) })),
      this.#askClients(() => ({ kind: "tcp" })),
    ]);
    const clients = [...this.#senders.keys()].flatMap(({ name, sessions }) =>
      sessions.map(({ index, innerAddress, peer }): ClientTraffic => {
        return {
          client: name,
          publicKey: peer.publicKey,
          innerAddress,
          up: counters(this.#base.up[index], upTo[index], upReceived[index]),
          down: counters(this.#base.down[index], downTo[index], downReceived[index]),
          tcp: tcp[index] ?? { broken: 0, longestStallMs: 0, bytes: 0 },
        };
      }),
    );
    return { sinceMs: this.#sinceMs, countedToMs: askedAtMs - SENT_UNCERTAIN_MS, clients };
  }

  /** Counts from zero again; packets sent before are not counted any more. */
  async reset(): Promise<void> {
    const [up, down] = await this.#sent();
    this.#base = { up: mapSessions(up, ({ next }) => next), down: mapSessions(down, ({ next }) => next) };
    this.#sinceMs = Date.now();
    await Promise.all([
      this.#server.ask({ kind: "reset", base: this.#base.up }),
      this.#askClients((client) => ({ kind: "reset", base: ofClient(this.#base.down, client) })),
    ]);
  }

  async #sent(): Promise<[up: BySession<Sent>, down: BySession<Sent>]> {
    return await Promise.all([this.#askClients(() => ({ kind: "sent" as const })), this.#server.ask({ kind: "sent" })]);
  }

  #start(host: string, file: string, sessions: readonly TrafficSession[]): TrafficProcess {
    const { packetsPerSecond, tcpBytesPerSecond, logDir, log } = this.#options;
    const config = { sessions, packetsPerSecond, tcpBytesPerSecond };
    return new TrafficProcess({ host, file, config, logFile: join(logDir, "traffic.log"), log });
  }

  async #askClients<K extends Question["kind"]>(
    question: (client: Client) => Extract<Question, { kind: K }>,
  ): Promise<NonNullable<Answers[K]>> {
    const answers = await Promise.all([...this.#senders].map(([client, sender]) => sender.ask(question(client))));
    return Object.assign({}, ...answers);
  }
}

/** One child with an IPC channel; asked by number, so that answers find their questions. */
class TrafficProcess {
  readonly #host: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #ids = 0;
  #ended: string | undefined;

  constructor(options: { host: string; file: string; config: TrafficConfig; logFile: string; log: Logger }) {
    this.#host = options.host;
    const output = openSync(options.logFile, "a", 0o600);
    this.#child = spawnIn(options.host, [process.execPath, options.file, JSON.stringify(options.config)], {
      stdio: ["ignore", output, output, "ipc"],
    });
    closeSync(output);
    this.#child.on("message", (message: { id: number; value: unknown }) => {
      this.#waiting.get(message.id)?.resolve(message.value);
      this.#waiting.delete(message.id);
    });
    this.#child.once("error", (error) => this.#end(error.message));
    this.#child.once("exit", (code, signal) => {
      if (this.#ended !== undefined) return;
      // It ends by itself with this process alone. It is not begun anew: what it had counted is gone, and figures would hide that.
      const detail = `it ended with ${signal ?? `status ${code}`}; start the lab anew to count again`;
      options.log.error({ event: "traffic-ended", host: options.host, detail });
      this.#end(detail);
    });
  }

  async ask<Q extends Question>(question: Q): Promise<Answers[Q["kind"]]> {
    if (this.#ended !== undefined) throw this.#failure(this.#ended);
    const id = this.#ids++;
    const answer = new Promise<unknown>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    const late = setTimeout(() => {
      this.#waiting.get(id)?.reject(this.#failure(`no answer in ${LIMITS.lab.trafficAnswerTimeoutMs} ms`));
      this.#waiting.delete(id);
    }, LIMITS.lab.trafficAnswerTimeoutMs);
    // A channel that has closed is followed by the exit, which says how it ended.
    this.#child.send({ id, question }, () => undefined);
    try {
      return (await answer) as Answers[Q["kind"]];
    } finally {
      clearTimeout(late);
    }
  }

  async stop(): Promise<void> {
    this.#end("it was ended");
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }

  #end(detail: string): void {
    this.#ended ??= detail;
    for (const { reject } of this.#waiting.values()) reject(this.#failure(detail));
    this.#waiting.clear();
  }

  #failure(detail: string): ForeshiftError {
    return new ForeshiftError("NOT_READY", { value: `the traffic of ${this.#host}`, detail });
  }
}

function sessionsOf({ sessions }: Client): readonly TrafficSession[] {
  return sessions.map(({ index, innerAddress }) => ({ index, innerAddress }));
}

function without(table: BySession<number>, { sessions }: Client): BySession<number> {
  const gone = new Set(sessions.map(({ index }) => String(index)));
  return Object.fromEntries(Object.entries(table).filter(([index]) => !gone.has(index)));
}

function ofClient<T>(table: BySession<T>, client: Client): BySession<T> {
  return Object.fromEntries(client.sessions.flatMap(({ index }) => (index in table ? [[index, table[index] as T]] : [])));
}

/** Sent, and so received and lost, are of packets that have had time to arrive. */
function counters(base = 0, upTo = 0, received: Received | undefined): PacketCounters {
  const sent = upTo - base;
  return {
    sent,
    received: received?.received ?? 0,
    lost: sent - (received?.received ?? 0),
    duplicated: received?.duplicated ?? 0,
    reordered: received?.reordered ?? 0,
    longestGapMs: received?.longestGapMs ?? 0,
    longestGapEndedAtMs: received?.longestGapEndedAtMs,
    gaps: received?.gaps,
  };
}
