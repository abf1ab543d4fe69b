/**
 * The server behind the lab's router: receives the clients' numbered packets and sends its own, serves the endless download, and
 * echoes probes. Started by the lab's process; its configuration is the first argument, its questions come over IPC.
 */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Socket } from "node:net";
import { takeDataPathPriority } from "../drivers/priority.ts";
import { DOWNLOAD_PORT, ECHO_PORT, SERVER_INNER, STREAM_PORT_BASE } from "./addresses.ts";
import { ByIndex } from "./by-index.ts";
import { patternAt } from "./pattern.ts";
import { type Received, ReceivedStream } from "./received-stream.ts";
import { decodePacket, encodePacket, SentStream } from "./sent-stream.ts";
import { answerParent, mapSessions, type Sent, type TrafficConfig } from "./traffic-protocol.ts";

const SEND_TICK_MS = 5;
/** Often enough that a stall of the download is seen in time; slow downloads send a packet's worth at a time, and so less often. */
const DOWNLOAD_TICK_MS_MIN = 50;
const DOWNLOAD_CHUNK_BYTES_MIN = 1_000;

interface Session {
  readonly socket: UdpSocket;
  readonly received: ReceivedStream;
  readonly sent: SentStream | undefined;
  /** Where the client was last heard from; nothing is sent before. */
  client: RemoteInfo | undefined;
}

// What is measured is the path, not this process's wait for its turn.
takeDataPathPriority();
const config = JSON.parse(process.argv[2] ?? "{}") as TrafficConfig;
const sessions = new ByIndex<Session>();
const downloads = new Map<Socket, { offset: number }>();

serveEcho();
for (const { index } of config.sessions) sessions.set(index, openSession(index));
serveDownload();
setInterval(sendDue, SEND_TICK_MS);
answerParent({
  sent: () => sessions.table(({ sent }): Sent => ({ next: sent?.next ?? 0, settled: sent?.settled ?? 0 })),
  received: ({ upTo }) =>
    mapSessions(upTo, (end, index): Received => sessions.required(index).received.report(end, performance.now())),
  tcp: () => ({}),
  reset: ({ base }) => {
    mapSessions(base, (first, index) => sessions.required(index).received.reset(first, performance.now()));
    return null;
  },
  forget: ({ sessions: gone }) => {
    for (const index of gone) {
      sessions.required(index).socket.close();
      sessions.set(index, openSession(index));
    }
    return null;
  },
});

function openSession(index: number): Session {
  const socket = createSocket("udp4");
  const received = new ReceivedStream(performance.now());
  const intervalMs = 1_000 / config.packetsPerSecond;
  // Sessions take turns within the interval, so that they do not all send at once.
  const firstMs = performance.now() + (intervalMs * (index % 16)) / 16;
  const sent = config.packetsPerSecond === 0 ? undefined : new SentStream({ intervalMs, firstMs });
  const session: Session = { socket, received, sent, client: undefined };
  socket.on("message", (bytes, from) => {
    const packet = decodePacket(bytes);
    if (packet?.session !== index) return;
    session.client = from;
    received.note(packet.sequence, performance.now(), Date.now());
  });
  socket.bind(STREAM_PORT_BASE + index, SERVER_INNER);
  return session;
}

function sendDue(): void {
  const nowMs = performance.now();
  for (const [index, { sent, socket, client }] of sessions) {
    if (client === undefined) continue;
    sent?.sendDue(nowMs, (sequence) => {
      // An error means that the packet was not sent; it counts as sent, and so as lost.
      socket.send(encodePacket({ session: index, sequence }), client.port, client.address, () => undefined);
    });
  }
}

/** Sends the pattern at the configured rate; what the client writes is read and dropped. */
function serveDownload(): void {
  if (config.tcpBytesPerSecond === 0) return;
  const tickMs = Math.max(DOWNLOAD_TICK_MS_MIN, (1_000 * DOWNLOAD_CHUNK_BYTES_MIN) / config.tcpBytesPerSecond);
  const bytesPerTick = Math.ceil((config.tcpBytesPerSecond * tickMs) / 1_000);
  createServer({ noDelay: true }, (socket) => {
    downloads.set(socket, { offset: 0 });
    socket.on("error", () => undefined);
    socket.on("close", () => downloads.delete(socket));
    socket.resume();
  }).listen(DOWNLOAD_PORT, SERVER_INNER);
  setInterval(() => {
    for (const [socket, stream] of downloads) {
      // A client that cannot be reached holds its stream up, not this process's memory.
      if (socket.writableNeedDrain) continue;
      const chunk = patternAt(stream.offset, bytesPerTick);
      stream.offset += chunk.length;
      socket.write(chunk);
    }
  }, tickMs);
}

function serveEcho(): void {
  const socket = createSocket("udp4");
  socket.on("message", (bytes, from) => socket.send(bytes, from.port, from.address, () => undefined));
  socket.bind(ECHO_PORT, SERVER_INNER);
}
