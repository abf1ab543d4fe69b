/**
 * UDP programs that tests run inside hosts: `echo ADDRESS PORT`, `stream SOURCE ADDRESS PORT COUNT INTERVAL_MS` (numbered packets, what
 * came back), `initiations ADDRESS PORT COUNT` (first messages of handshakes, each from a port of its own), `flood ADDRESS PORT COUNT` (WireGuard data packets with random receiver indices, from many ports).
 */
import { randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";

export interface StreamResult {
  readonly sent: number;
  readonly answered: number;
  readonly duplicated: number;
  readonly longestGapMs: number;
}

const FLOOD_SOCKETS = 16;
const FLOOD_BURST = 200;
/** Answers may come this long after the last packet. */
const TAIL_MS = 500;

const [mode, ...args] = process.argv.slice(2);
if (mode === "echo") echo(args[0] ?? "", Number(args[1]));
else if (mode === "stream") stream(args[0] ?? "", args[1] ?? "", Number(args[2]), Number(args[3]), Number(args[4]));
else if (mode === "initiations") await initiations(args[0] ?? "", Number(args[1]), Number(args[2]));
else if (mode === "flood") await flood(args[0] ?? "", Number(args[1]), Number(args[2]));

function echo(address: string, port: number): void {
  const socket = createSocket("udp4");
  socket.on("message", (message, from) => socket.send(message, from.port, from.address));
  socket.bind(port, address, () => process.stdout.write("ready\n"));
}

function stream(source: string, address: string, port: number, count: number, intervalMs: number): void {
  const socket = createSocket("udp4");
  const seen = new Set<number>();
  let sent = 0;
  let duplicated = 0;
  let lastAt = performance.now();
  let longestGapMs = 0;
  socket.on("message", (message) => {
    const now = performance.now();
    longestGapMs = Math.max(longestGapMs, now - lastAt);
    lastAt = now;
    const number = message.readUInt32BE(0);
    if (seen.has(number)) duplicated += 1;
    seen.add(number);
  });
  socket.on("error", () => undefined);
  socket.bind(0, source, () => {
    const timer = setInterval(() => {
      const message = Buffer.alloc(64);
      message.writeUInt32BE(sent, 0);
      socket.send(message, port, address, () => undefined);
      sent += 1;
      if (sent < count) return;
      clearInterval(timer);
      setTimeout(() => {
        const result: StreamResult = { sent, answered: seen.size, duplicated, longestGapMs: Math.round(longestGapMs) };
        process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
      }, TAIL_MS);
    }, intervalMs);
  });
}

/** Each from its own port; nobody answers them, as they are signed by nobody. */
async function initiations(address: string, port: number, count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) {
    const socket = createSocket("udp4");
    const message = Buffer.concat([Buffer.from([1, 0, 0, 0]), randomBytes(144)]);
    await new Promise((resolve) => socket.send(message, port, address, resolve));
    socket.close();
  }
  process.stdout.write("done\n");
}

async function flood(address: string, port: number, count: number): Promise<void> {
  const sockets: Socket[] = Array.from({ length: FLOOD_SOCKETS }, () => createSocket(isIPv6(address) ? "udp6" : "udp4"));
  for (let n = 0; n < count; n += FLOOD_BURST) {
    await Promise.all(
      Array.from({ length: Math.min(FLOOD_BURST, count - n) }, (_, k) => {
        const message = Buffer.concat([Buffer.from([4, 0, 0, 0]), randomBytes(44)]);
        return new Promise((resolve) => sockets[k % FLOOD_SOCKETS]?.send(message, port, address, resolve));
      }),
    );
  }
  for (const socket of sockets) socket.close();
  process.stdout.write("done\n");
}
