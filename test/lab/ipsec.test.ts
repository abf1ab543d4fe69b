// IPsec sessions on a real wire: stock clients in a virtual machine, three gateways in another, the balancer's rules between them.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { playInGuests } from "../../bench/ipsec-guests.ts";
import { whyNoLongMachines } from "../support/machines.ts";

const skip = await whyNoLongMachines();
const PATIENCE_MS = 60_000;

test("a session goes on after its gateway crashed, and after it was moved: no number twice, none taken back", {
  skip,
}, async (t) => {
  const parts = ["crash", "move"] as const;
  const figures = await playInGuests({ trials: 1, parts, onProgress: (text) => t.diagnostic(text) });
  const { crash, planned, counters } = figures;
  assert.equal(crash.recovered, 1, "packets pass again after the crash");
  assert.equal(crash.newIkeSas, 1, "the shadow has an IKE SA of its own with the client");
  assert.equal(planned.packetsLost, 0);
  assert.ok(counters.packets > 0);
  assert.ok(counters.replayed > 0, "packets of the client were sent once more");
  assert.deepEqual([counters.reused, counters.notGrowing], [0, 0]);
  assert.deepEqual([counters.replayAccepted, counters.replayable], [0, 0]);
  assert.equal(counters.refusedByClient.failed, 0);
});

test("of three gateways any one may be lost, and its sessions go on at both others by the SPIs that they had", {
  skip,
}, async (t) => {
  const { spread, counters } = await playInGuests({ trials: 3, parts: ["spread"], onProgress: (text) => t.diagnostic(text) });
  assert.deepEqual(new Set(spread.map(({ killed }) => killed)), new Set(["gw-1", "gw-2", "gw-3"]));
  for (const lost of spread) {
    assert.ok(lost.sessions >= 3, `${lost.killed} had sessions`);
    assert.equal(lost.tookOver, lost.sessions);
    assert.equal(lost.sameSpis, lost.sessions, "they go on by the SPIs that they had");
    assert.ok(
      Object.values(lost.onGateways).every((count) => count > 0),
      "both others have some of them",
    );
    assert.ok(lost.replayed > 0);
    assert.deepEqual([lost.reused, lost.notGrowing, lost.replayAccepted, lost.replayable], [0, 0, 0, 0]);
  }
  assert.deepEqual([counters.reused, counters.notGrowing], [0, 0]);
});

for (const { to, whole } of [
  { to: "all that a terminal's Ctrl-C reaches", whole: true },
  { to: "the command alone", whole: false },
])
  test(`an interrupt of ${to} leaves no guest, no namespace and no file`, { skip }, async () => {
    const folder = mkdtempSync(join(tmpdir(), "foreshift-test-"));
    const inMemory = readdirSync("/dev/shm").sort();
    const args = ["cli/foreshift.mjs", "bench", "ipsec", "--crashes", "1", "--trials", "1", "--parts", "crash"];
    const env = { ...process.env, TMPDIR: folder };
    const child = spawn(process.execPath, args, { detached: true, stdio: "ignore", env });
    try {
      const pid = child.pid ?? 0;
      const isGuest = (one: number) => nameOf(one).startsWith("qemu-system");
      // Beside the two guests there may be the one that tries whether KVM works.
      await until("both guests run", () => descendants(pid).filter(isGuest).length >= 2);
      const all = descendants(pid);
      const namespaces = new Set(all.filter(isGuest).map(namespaceOf));
      const ended = once(child, "exit");
      process.kill(whole ? -pid : pid, "SIGINT");
      assert.deepEqual(await ended, [130, null]);
      await until("every process of it has ended", () => [pid, ...all].every((one) => nameOf(one) === ""));
      assert.deepEqual(
        processes().filter((one) => namespaces.has(namespaceOf(one))),
        [],
      );
      assert.deepEqual(readdirSync(folder), []);
      assert.deepEqual(readdirSync("/dev/shm").sort(), inMemory);
    } finally {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGKILL");
        await once(child, "exit");
      }
      await rm(folder, { recursive: true, force: true });
    }
  });

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!holds()) {
    assert.ok(performance.now() < deadline, `in time: ${what}`);
    await delay(100);
  }
}

function processes(): number[] {
  return readdirSync("/proc").map(Number).filter(Number.isInteger);
}

/** Empty when there is none, or it has ended and is only not waited for yet. */
function nameOf(pid: number): string {
  const { name, state } = statusOf(pid);
  return state === "Z" ? "" : name;
}

function statusOf(pid: number): { readonly name: string; readonly state: string; readonly parent: number } {
  try {
    const match = /^\d+ \((.*)\) (\S) (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"));
    return { name: match?.[1] ?? "", state: match?.[2] ?? "", parent: Number(match?.[3] ?? 0) };
  } catch {
    return { name: "", state: "", parent: 0 };
  }
}

function descendants(of: number): number[] {
  const parents = new Map(processes().map((pid) => [pid, statusOf(pid).parent]));
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid) ?? 0;
    return parent === of || (parent > 1 && isBelow(parent));
  };
  return [...parents.keys()].filter(isBelow);
}

function namespaceOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return "";
  }
}
