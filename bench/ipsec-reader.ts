/**
 * What following counters costs on this machine, and how late it is: events of many SAs come over a socket as often as their kernels would
 * speak; an agent reads and tells them, the collector passes them on, and the agent of the shadow takes them. Kernels, strongSwan and Vault
 * are played; agents, collector's routes and the sockets between them are the product's, each a process.
 */
import { type ChildProcess, fork } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { UnixHttpClient } from "../drivers/http-unix.ts";
import { type XfrmEvent, XfrmEventReader } from "../drivers/tunnel/xfrm-events.ts";
import type { IpsecKernel } from "../drivers/tunnel/xfrm-kernel.ts";
import { quantile } from "../lab/ipsec/figures.ts";
import { ForeshiftError } from "../models/errors.ts";
import { IPSEC_BENCH } from "../models/limits-ipsec.ts";
import type { IpsecGateway } from "../workers/agent/ipsec/gateway.ts";
import { benchedAgent, benchedSession, HOLDER, quietKernel } from "./ipsec-reader-agent.ts";
import { FIRST_SPI, type Role, type Told } from "./ipsec-reader-process.ts";

const PROGRAM = fileURLToPath(new URL("./ipsec-reader-process.ts", import.meta.url));
const MICROS_PER_SECOND = 1_000_000;
const { readerPps, loadSessions: SESSIONS, pace, tickMs, readerMs, loadRampMs, readerReadyMs } = IPSEC_BENCH;

/** Sessions of `loadSessions`, each at `readerPps` packets a second in both directions. */
export async function benchReader() {
  const folder = await mkdtemp(join(tmpdir(), "foreshift-"));
  const socketPath = join(folder, "collector.sock");
  const processes: ChildProcess[] = [];
  const work = async (role: Role) => {
    const child = fork(PROGRAM, [JSON.stringify(role)]);
    processes.push(child);
    if (role.kind !== "kernels") await once(child, "message");
    return child;
  };
  const events = new Events();
  const collector = new UnixHttpClient({ socketPath, name: "collector" });
  const sessions = Array.from({ length: SESSIONS }, (_, n) => benchedSession(n, FIRST_SPI));
  const kernel = { ...quietKernel(sessions.flatMap(({ sas }) => sas)), follow: events.follow };
  const views = sessions.map(({ view }) => view);
  const holder = benchedAgent(HOLDER, collector, kernel, views);
  try {
    const collects = await work({ kind: "collector", socketPath, sessions: SESSIONS });
    const shadow = await work({ kind: "shadow", socketPath });
    const eventsPerSa = 1_000 / Math.min(pace.ticks * tickMs, (1_000 * pace.packets) / readerPps);
    holder.start();
    await untilHeld(holder);
    await work({ kind: "kernels", port: await events.port(), sessions: SESSIONS, pps: readerPps, eventsPerSa });
    await delay(loadRampMs);
    await Promise.all([ask(collects), ask(shadow)]);
    const [before, cpuBefore, beganAtMs] = [events.read, process.cpuUsage(), performance.now()];
    await delay(readerMs);
    const used = process.cpuUsage(cpuBefore);
    const [read, seconds] = [events.read - before, (performance.now() - beganAtMs) / 1_000];
    const [passed, heard] = await Promise.all([ask(collects), ask(shadow)]);
    const holderMicros = used.user + used.system;
    return {
      sessions: SESSIONS,
      pps: readerPps,
      events: read,
      eventsPps: Math.round(read / seconds),
      eventsPpsExpected: Math.round(SESSIONS * 2 * eventsPerSa),
      words: heard.words,
      microsPerEvent: rounded(holderMicros / read),
      microsPerWordAtCollector: rounded(passed.cpuMicros / heard.words),
      microsPerWordAtShadow: rounded(heard.cpuMicros / heard.words),
      followsEventsPpsMax: Math.round(MICROS_PER_SECOND / (holderMicros / read)),
      lagMsP50: quantile(heard.lagsMs, 0.5),
      lagMsP99: quantile(heard.lagsMs, 0.99),
    };
  } finally {
    await holder.stop();
    events.close();
    await collector.close();
    for (const one of processes) one.kill("SIGKILL");
    await rm(folder, { recursive: true, force: true });
  }
}

/** A kernel's events, as datagrams bring them. */
class Events {
  read = 0;
  readonly #socket = createSocket("udp4");

  readonly follow: IpsecKernel["follow"] = async (onEvents, _, signal) => {
    this.#socket.on("message", (datagram) => {
      const events: readonly XfrmEvent[] = new XfrmEventReader().read(datagram);
      this.read += events.length;
      onEvents(events);
    });
    if (!signal.aborted) await once(signal, "abort");
  };

  async port(): Promise<number> {
    this.#socket.bind(0, "127.0.0.1");
    await once(this.#socket, "listening");
    return this.#socket.address().port;
  }

  close(): void {
    this.#socket.close();
  }
}

/** Until its sessions are read, sealed, told, and have a shadow. */
async function untilHeld(holder: IpsecGateway): Promise<void> {
  const deadline = performance.now() + readerReadyMs;
  while (holder.status().own < SESSIONS) {
    if (performance.now() > deadline)
      throw new ForeshiftError("COMMAND_FAILED", { field: "following counters", detail: "the agent holds no sessions" });
    await delay(IPSEC_BENCH.pollMs);
  }
}

async function ask(process: ChildProcess): Promise<Told> {
  process.send("tell");
  return (await once(process, "message"))[0] as Told;
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}
