// Faults that build up, on a real machine under traffic: little to see at first, a machine that fails at the stated time, and nothing
// left once they are taken back.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { netnsHypervisor } from "../../drivers/hypervisor/netns.ts";
import { agentClient } from "../../drivers/tunnel/agent-client.ts";
import { SERVER_INNER } from "../../lab/addresses.ts";
import { type BuildUpKind, type Fault, LabClient, type LabTraffic } from "../../lab/lab-client.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { eventually } from "../support/eventually.ts";
import { type LabDaemon, startLabDaemon } from "../support/lab-daemon.ts";
import { runIn, steerAllTo } from "../support/static-steering.ts";

/** Odd, so that the leaking process of this test is told from any other. */
const MEMORY_BYTES = 320 * 1024 * 1024 + 1;
/** Twice of what the two clients need, and a little; the spare ones need as much again, and more. */
const PACKETS_PER_SECOND = 600;
const SPARE_SESSIONS = 5;
const SHORT_ROUND_TRIP_MS = 10;
let daemon: LabDaemon;
let lab: LabClient;

before(async () => {
  daemon = await startLabDaemon({
    clients: 2,
    endpoints: 1,
    memoryBytes: MEMORY_BYTES,
    spareSessions: SPARE_SESSIONS,
    packetAllowancePerSecond: PACKETS_PER_SECOND,
  });
  lab = new LabClient(daemon.socketPath);
  const hypervisor = netnsHypervisor({ socketPath: daemon.socketPath });
  const [machine] = await hypervisor.list("lab");
  await hypervisor.close();
  assert.ok(machine !== undefined);
  await steerAllTo(daemon, machine.link, await lab.describe());
});

beforeEach(() => untilFlowing());

/** What a test that failed left at work is not the next one's. */
afterEach(async () => {
  for (const { endpoint } of await lab.faults()) await lab.heal(endpoint);
});

after(async () => {
  await lab?.close();
  await daemon?.stop();
});

async function untilFlowing(): Promise<void> {
  await eventually("traffic flows", async () => (await countedFor(500)).every(({ lost }) => lost === 0), 40_000);
}

/** What was sent in the next while: each direction of each client, once all of it is settled. */
async function countedFor(ms: number): Promise<readonly { sent: number; lost: number }[]> {
  await lab.resetTraffic();
  await delay(ms);
  const endMs = Date.now();
  const traffic = await eventually("the count", async () => settledAt(await lab.traffic(), endMs), 10_000);
  return traffic.clients.flatMap(({ up, down }) => [up, down]);
}

function settledAt(traffic: LabTraffic, endMs: number): LabTraffic | undefined {
  return traffic.countedToMs >= endMs ? traffic : undefined;
}

async function lossShare(ms: number): Promise<number> {
  const streams = await countedFor(ms);
  const sum = (what: "sent" | "lost") => streams.reduce((total, stream) => total + stream[what], 0);
  return sum("lost") / sum("sent");
}

async function begin(kind: BuildUpKind, buildUpSeconds: number): Promise<Fault> {
  const fault = await lab.inject(kind, "ep-1", { buildUpSeconds });
  assert.equal(fault.failsAtMs, fault.atMs + buildUpSeconds * 1_000);
  assert.deepEqual(await lab.faults(), [fault]);
  return fault;
}

async function healed(): Promise<void> {
  await lab.heal("ep-1");
  assert.deepEqual(await lab.faults(), []);
  await untilFlowing();
}

async function untilPart(fault: Fault, share: number): Promise<void> {
  await delay(Math.max(0, fault.atMs + ((fault.failsAtMs ?? 0) - fault.atMs) * share - Date.now()));
}

/** Upper quartile of round trips through the tunnel, milliseconds: a single late answer, which is not rare, moves it little. */
function roundTripMs(): number {
  const text = runIn(daemon, "client-1", ["ping", "-c", "40", "-i", "0.025", "-W", "2", SERVER_INNER]);
  const times = [...text.matchAll(/ time=([\d.]+) ms/g)].map(([, ms]) => Number(ms)).toSorted((a, b) => a - b);
  return times[Math.floor(times.length * 0.75)] ?? Number.NaN;
}

/** Undefined while the machine under the lab is itself so busy that a fault on top of it would show nothing. */
function shortRoundTripMs(): number | undefined {
  const ms = roundTripMs();
  return ms < SHORT_ROUND_TRIP_MS ? ms : undefined;
}

async function status(): Promise<{ tunnelUp: boolean; sessions: number } | undefined> {
  const agent = agentClient({ socketPath: daemon.agentSocket("ep-1"), timeoutMs: 300 });
  try {
    return await agent.status().catch(() => undefined);
  } finally {
    await agent.close();
  }
}

/** Resident bytes of the process that leaks; undefined when there is none. */
function leakedBytes(): number | undefined {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(`"limitBytes":${MEMORY_BYTES}`))
        return Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]) * 4_096;
    } catch {
      // It ended while we looked.
    }
  }
  return undefined;
}

const feed = async () => JSON.parse(await readFile(join(daemon.home, "outside-events.json"), "utf8")) as Announcement[];
interface Announcement {
  readonly kind: string;
  readonly region: string;
  readonly zone: string;
  readonly startsAt: string;
}

test("rising loss begins with traces and ends with most of it lost", async () => {
  const fault = await begin("rising-loss", 10);
  const early = await lossShare(4_000);
  assert.ok(early > 0 && early < 0.03, `${early} is lost at first`);
  await untilPart(fault, 1);
  const late = await lossShare(2_000);
  assert.ok(late > 0.45 && late < 0.75, `${late} is lost at the end`);
  await healed();
});

test("CPU steal makes round trips longer, loses nothing for long, and ends with a machine that stands still", async () => {
  const before = await eventually("round trips without a fault are short", async () => shortRoundTripMs(), 60_000);
  const fault = await begin("cpu-steal", 10);
  await untilPart(fault, 0.75);
  const during = roundTripMs();
  assert.ok(during > before + 1 && during < before + 20, `${before} ms before, ${during} ms when most is stolen`);
  await untilPart(fault, 1.05);
  assert.ok((await lossShare(500)) > 0.95);
  assert.equal((await status())?.tunnelUp, false);
  await healed();
});

test("a memory leak takes real memory, and when there is none left everything in the machine is killed", async () => {
  const fault = await begin("memory-leak", 6);
  const first = await eventually("it leaks", () => leakedBytes());
  await untilPart(fault, 0.7);
  const later = leakedBytes() ?? 0;
  assert.ok(later - first > 20e6 && later < MEMORY_BYTES, `${first} bytes at first, ${later} later`);
  assert.equal((await status())?.tunnelUp, true);
  await eventually("it is out of memory", async () => (await lossShare(500)) > 0.95, 10_000);
  assert.equal(await status(), undefined);
  await healed();
  assert.equal(leakedBytes(), undefined);
});

test("an incident is announced for the machine's zone, then the machine stands still, repaired or not", async () => {
  const fault = await begin("incident", 4);
  const [announced] = await feed();
  assert.deepEqual([announced?.kind, announced?.region, announced?.zone], ["provider-incident", "local", "zone-a"]);
  assert.ok(Math.abs(Date.parse(announced?.startsAt ?? "") - (fault.failsAtMs ?? 0)) < 1_000);
  assert.equal(await lossShare(1_000), 0);
  await untilPart(fault, 1.05);
  assert.ok((await lossShare(500)) > 0.95);
  const hypervisor = netnsHypervisor({ socketPath: daemon.socketPath });
  await hypervisor.repair({ operation: "test/repair/1", name: "ep-1" });
  await hypervisor.close();
  assert.ok((await lossShare(500)) > 0.95);
  await healed();
  assert.deepEqual(await feed(), []);
});

test("sessions join one after the other until the machine drops what exceeds its allowance, and leave without a trace", async () => {
  const { beginsAtMs } = await lab.grow({ sessions: SPARE_SESSIONS, seconds: 4 });
  assert.equal(beginsAtMs.length, SPARE_SESSIONS);
  await assert.rejects(lab.grow({ sessions: 1, seconds: 1 }), (error: ForeshiftError) => error.code === "INVALID_FIELD");
  await delay((beginsAtMs[1] ?? 0) - Date.now() + 200);
  assert.ok((await lossShare(300)) < 0.02, "so many it can carry");
  await delay((beginsAtMs.at(-1) ?? 0) - Date.now() + 2_000);
  assert.equal((await lab.traffic()).clients.length, 2 + SPARE_SESSIONS);
  // Their process may take long to start where the machine is busy.
  await eventually("all send", async () => (await lab.traffic()).clients.every(({ up }) => up.sent > 0) || undefined, 10_000);
  const loss = await lossShare(1_000);
  assert.ok(loss > 0.05 && loss < 0.6, `${loss} is lost`);
  // Handshakes are dropped like everything else, and repeated after five seconds.
  await eventually("all have joined", async () => (await status())?.sessions === 2 + SPARE_SESSIONS || undefined, 20_000);
  await lab.shrink();
  await untilFlowing();
  assert.equal((await lab.traffic()).clients.length, 2);
  await eventually("the sessions are gone", async () => (await status())?.sessions === 2 || undefined, 5_000);
  // Again from the beginning, as if they had never been.
  await lab.grow({ sessions: 1, seconds: 0 });
  await eventually("one has joined again", async () => (await status())?.sessions === 3 || undefined, 10_000);
  assert.equal((await lab.traffic()).clients.length, 3, "and who has not is not asked");
  await lab.shrink();
});

test("only those that build up take a time for it, and a machine's end ends its fault", async () => {
  const asksTime = lab.inject("freeze", "ep-1", { buildUpSeconds: 5 });
  await assert.rejects(asksTime, (error: ForeshiftError) => error.code === "INVALID_FIELD");
  const hypervisor = netnsHypervisor({ socketPath: daemon.socketPath });
  const end = async (kind: BuildUpKind) => {
    const { name } = await hypervisor.launch({ operation: `test/launch/${kind}`, swarm: "lab", suspended: false });
    await lab.inject(kind, name, { buildUpSeconds: 60 });
    await delay(300);
    await hypervisor.terminate({ operation: `test/terminate/${kind}`, name });
  };
  for (const kind of ["rising-loss", "cpu-steal", "memory-leak", "incident"] as const) await end(kind);
  await hypervisor.close();
  assert.deepEqual(await lab.faults(), []);
  assert.deepEqual(await feed(), []);
  assert.equal(leakedBytes(), undefined);
});
