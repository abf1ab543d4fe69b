/**
 * The traffic of one client host, through its tunnels: numbered packets both ways, and one TCP download that must never break.
 * Started by the lab's process; its configuration is the first argument, its questions come over IPC.
 */
import { createSocket } from "node:dgram";
import { connect, type Socket } from "node:net";
import { takeDataPathPriority } from "../drivers/priority.ts";
import { DOWNLOAD_PORT, SERVER_INNER, STREAM_PORT_BASE } from "./addresses.ts";
import { ByIndex } from "./by-index.ts";
import { matchesPattern } from "./pattern.ts";
import { type Received, ReceivedStream } from "./received-stream.ts";
import { decodePacket, encodePacket, SentStream } from "./sent-stream.ts";
import {
  answerParent,
  mapSessions,
  type Sent,
  type TcpCounters,
  type TrafficConfig,
  type TrafficSession,
} from "./traffic-protocol.ts";

const SEND_TICK_MS = 5;
const CONNECT_TIMEOUT_MS = 2_000;
const RECONNECT_MS = 500;
/** The client says something on its stream that often, so that both directions are in use. */
const REQUEST_INTERVAL_MS = 1_000;

/** One endless download; a stream that has been established and ends is broken, and begun anew. */
class Download {
  readonly #innerAddress: string;
  #broken = 0;
  #bytes = 0;
  #longestStallMs = 0;
  /** Undefined while nothing is established, and so nothing can stall. */
  #lastDataMs: number | undefined;

  constructor(innerAddress: string) {
    this.#innerAddress = innerAddress;
    this.#connect();
  }

  report(): TcpCounters {
    const silenceMs = this.#lastDataMs === undefined ? 0 : performance.now() - this.#lastDataMs;
    return { broken: this.#broken, bytes: this.#bytes, longestStallMs: Math.max(this.#longestStallMs, silenceMs) };
  }

  reset(): void {
    this.#broken = 0;
    this.#bytes = 0;
    this.#longestStallMs = 0;
    if (this.#lastDataMs !== undefined) this.#lastDataMs = performance.now();
  }

  #connect(): void {
    const socket = connect({ host: SERVER_INNER, port: DOWNLOAD_PORT, localAddress: this.#innerAddress, noDelay: true });
    const giveUp = setTimeout(() => socket.destroy(), CONNECT_TIMEOUT_MS);
    const requests = setInterval(() => {
      if (socket.readyState === "open" && !socket.writableNeedDrain) socket.write("more\n");
    }, REQUEST_INTERVAL_MS);
    let established = false;
    socket.once("connect", () => {
      clearTimeout(giveUp);
      established = true;
      this.#lastDataMs = performance.now();
    });
    this.#check(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => {
      clearTimeout(giveUp);
      clearInterval(requests);
      if (established) this.#broken += 1;
      this.#lastDataMs = undefined;
      setTimeout(() => this.#connect(), RECONNECT_MS);
    });
  }

  #check(socket: Socket): void {
    let offset = 0;
    socket.on("data", (bytes) => {
      const nowMs = performance.now();
      this.#longestStallMs = Math.max(this.#longestStallMs, nowMs - (this.#lastDataMs ?? nowMs));
      this.#lastDataMs = nowMs;
      if (!matchesPattern(offset, bytes)) socket.destroy();
      offset += bytes.length;
      this.#bytes += bytes.length;
    });
  }
}

interface Session {
  readonly sent: SentStream | undefined;
  readonly received: ReceivedStream;
  download: Download | undefined;
  readonly send: (sequence: number) => void;
}

// What is measured is the path, not this process's wait for its turn.
takeDataPathPriority();
const config = JSON.parse(process.argv[2] ?? "{}") as TrafficConfig;
const sessions = new ByIndex(config.sessions.map((session, at) => [session.index, openSession(session, at)]));

setInterval(() => {
  const nowMs = performance.now();
  for (const { sent, send } of sessions.values()) sent?.sendDue(nowMs, send);
}, SEND_TICK_MS);
answerParent({
  sent: () => sessions.table(({ sent }): Sent => ({ next: sent?.next ?? 0, settled: sent?.settled ?? 0 })),
  received: ({ upTo }) =>
    mapSessions(upTo, (end, index): Received => sessions.required(index).received.report(end, performance.now())),
  tcp: () => sessions.table(({ download }): TcpCounters => download?.report() ?? { broken: 0, longestStallMs: 0, bytes: 0 }),
  reset: ({ base }) => {
    mapSessions(base, (first, index) => {
      const { received, download } = sessions.required(index);
      received.reset(first, performance.now());
      download?.reset();
    });
    return null;
  },
  forget: () => null,
});

function openSession({ index, innerAddress, beginsAtMs = 0 }: TrafficSession, at: number): Session {
  const beginsAfterMs = Math.max(0, beginsAtMs - Date.now());
  const socket = createSocket("udp4");
  const received = new ReceivedStream(performance.now());
  socket.on("message", (bytes) => {
    const packet = decodePacket(bytes);
    if (packet?.session === index) received.note(packet.sequence, performance.now(), Date.now());
  });
  socket.bind(0, innerAddress);
  const intervalMs = 1_000 / config.packetsPerSecond;
  // Sessions take turns within the interval, so that they do not all send at once.
  const firstMs = performance.now() + beginsAfterMs + (intervalMs * at) / config.sessions.length;
  const session: Session = {
    sent: config.packetsPerSecond === 0 ? undefined : new SentStream({ intervalMs, firstMs }),
    received,
    download: undefined,
    // An error means that the packet was not sent; it counts as sent, and so as lost.
    send: (sequence) =>
      socket.send(encodePacket({ session: index, sequence }), STREAM_PORT_BASE + index, SERVER_INNER, () => undefined),
  };
  const beginDownload = () => {
    session.download = new Download(innerAddress);
  };
  // Its first packet is what makes WireGuard shake hands.
  if (config.tcpBytesPerSecond > 0) setTimeout(beginDownload, beginsAfterMs);
  return session;
}
