/** Processes of `ipsec-reader.ts`: kernels that speak, the collector that passes words on, and the agent of a shadow that hears them. */
import { createSocket } from "node:dgram";
import { setTimeout as delay } from "node:timers/promises";
import { pino } from "pino";
import { UnixHttpClient } from "../drivers/http-unix.ts";
import { followSessions } from "../drivers/store/session-stream.ts";
import type { IpsecLine } from "../models/ipsec/wire.ts";
import { ipsecRoute, sessionStreamRoute } from "../workers/collector/api.ts";
import { IpsecHub } from "../workers/collector/ipsec-hub.ts";
import { RevokedEndpoints } from "../workers/collector/revoked-endpoints.ts";
import { serve } from "../workers/http-server.ts";
import { benchedAgent, HOLDER, quietKernel, SHADOW, SWARM } from "./ipsec-reader-agent.ts";

export type Role =
  | {
      readonly kind: "kernels";
      readonly port: number;
      readonly sessions: number;
      readonly pps: number;
      readonly eventsPerSa: number;
    }
  | { readonly kind: "collector"; readonly socketPath: string; readonly sessions: number }
  | { readonly kind: "shadow"; readonly socketPath: string };

/** Of one process: processor time since it was last asked, and what of counters it heard. */
export interface Told {
  readonly cpuMicros: number;
  readonly words: number;
  readonly lagsMs: readonly number[];
}

/** Two for each session: outbound, inbound. */
export const FIRST_SPI = 0xc0000000;
const STEP_MS = 2;

const role = process.argv[2];
if (process.send !== undefined && role !== undefined) {
  // Whatever becomes of the bench, nothing of it stays.
  process.once("disconnect", () => process.exit());
  await play(JSON.parse(role) as Role);
}

async function play(role: Role): Promise<void> {
  if (role.kind === "kernels") await speak(role);
  else if (role.kind === "collector") await passOn(role);
  else hear(role);
}

/** Events of all SAs in turn, at an even pace; what is due when the thread was late comes at once. */
async function speak({ port, sessions, pps, eventsPerSa }: Extract<Role, { kind: "kernels" }>): Promise<void> {
  const socket = createSocket("udp4");
  const sas = sessions * 2;
  const beganAtMs = performance.now();
  for (let sent = 0; ; await delay(STEP_MS)) {
    const due = ((performance.now() - beganAtMs) / 1_000) * sas * eventsPerSa;
    for (; sent < due; sent += 1) {
      const round = Math.floor(sent / sas) + 1;
      socket.send(counterEvent(FIRST_SPI + (sent % sas), Math.round((round * pps) / eventsPerSa)), port, "127.0.0.1");
    }
  }
}

/**
 * As the kernel lays one out that it sends for its thresholds (build_aevent in net/xfrm/xfrm_user.c); where the SA's bytes would stand is
 * the time, in microseconds.
 */
function counterEvent(spi: number, sequence: number): Buffer {
  const bytes = Buffer.alloc(16 + 48 + 16 + 36 + 8 + 8);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt16LE(0x1e, 4);
  bytes.set(destinationOf(spi), 16);
  bytes.writeUInt32BE(spi, 16 + 16);
  bytes.writeUInt16LE(2, 16 + 20);
  const attribute = (at: number, type: number, length: number) => {
    bytes.writeUInt16LE(length, at);
    bytes.writeUInt16LE(type, at + 2);
  };
  attribute(64, 10, 16);
  bytes.writeUInt32LE(spi % 2 === 0 ? sequence : 0, 68);
  bytes.writeUInt32LE(spi % 2 === 0 ? 0 : sequence, 72);
  attribute(80, 9, 36);
  bytes.writeBigUInt64LE(BigInt(Math.round((performance.timeOrigin + performance.now()) * 1_000)), 84);
  attribute(116, 11, 8);
  attribute(124, 12, 8);
  return bytes;
}

/** As `benchedSession` has it. */
function destinationOf(spi: number): readonly number[] {
  return spi % 2 === 0 ? [198, 18, 0, 1 + Math.floor((spi - FIRST_SPI) / 2)] : [198, 19, 0, 1];
}

/** The collector's part in it, behind its own routes. */
async function passOn({ socketPath, sessions }: Extract<Role, { kind: "collector" }>): Promise<void> {
  const log = pino({ level: "silent" });
  const candidates = [HOLDER, SHADOW].map((endpoint) => ({ endpoint, room: sessions }));
  const parts = { ipsec: new IpsecHub({ candidates: () => candidates, log }), revoked: new RevokedEndpoints() };
  await serve({
    socketPath,
    log,
    routes: (app) => {
      ipsecRoute(app, parts);
      sessionStreamRoute(app, { ...parts, hub: { subscribe: () => Promise.resolve() }, guard: undefined });
    },
  });
  answerWhenAsked(() => ({ words: 0, lagsMs: [] }));
}

/** The agent of the sessions' shadow: it takes the lines of the collector's stream, and opens keys. */
function hear({ socketPath }: Extract<Role, { kind: "shadow" }>): void {
  const collector = new UnixHttpClient({ socketPath, name: "collector" });
  const agent = benchedAgent(SHADOW, collector, quietKernel([]), []);
  agent.start();
  const before = new Map<number, number>();
  let lagsMs: number[] = [];
  let words = 0;
  /** A packet may have passed just after the event that the word before told of, and waited for this one. */
  const note = (line: IpsecLine) => {
    if (!("ipsecDelta" in line)) return;
    words += 1;
    for (const { spi, bytes = 0 } of line.ipsecDelta.counters) {
      const passedAtMs = before.get(spi);
      if (passedAtMs !== undefined) lagsMs.push(performance.timeOrigin + performance.now() - passedAtMs);
      before.set(spi, bytes / 1_000);
    }
  };
  void followSessions({
    collector,
    swarm: SWARM,
    after: () => 0,
    ipsec: {
      endpoint: SHADOW,
      onLines: (lines) => {
        agent.takeLines(lines);
        for (const line of lines) note(line);
      },
    },
    onLines: () => undefined,
    onBreak: () => undefined,
    signal: new AbortController().signal,
  });
  answerWhenAsked(() => {
    const told = { words, lagsMs };
    [words, lagsMs] = [0, []];
    return told;
  });
}

function answerWhenAsked(tell: () => Omit<Told, "cpuMicros">): void {
  let began = process.cpuUsage();
  process.on("message", () => {
    const { user, system } = process.cpuUsage(began);
    began = process.cpuUsage();
    process.send?.({ cpuMicros: user + system, ...tell() } satisfies Told);
  });
  process.send?.("ready");
}
