// The hypervisor port against virtual machines: real guests on the lab's links, each with its own kernel's WireGuard and its agent,
// reached over its serial line.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { NO_RETRY } from "../../drivers/http-unix.ts";
import { netnsHypervisor } from "../../drivers/hypervisor/netns.ts";
import type { Machine } from "../../drivers/ports.ts";
import { VirtualMachine } from "../../drivers/qemu/virtual-machine.ts";
import { agentClient } from "../../drivers/tunnel/agent-client.ts";
import type { LabDescription } from "../../lab/lab-client.ts";
import { LAB_SWARM } from "../../lab/spec.ts";
import type { Peer } from "../../models/session.ts";
import { buildImage } from "../../setup/image/build.ts";
import { hypervisorContract } from "../support/contracts/hypervisor.ts";
import { eventually } from "../support/eventually.ts";
import { type LabDaemon, startLabDaemon } from "../support/lab-daemon.ts";
import { whyNoMachines } from "../support/machines.ts";

/** So much a clock that stood still would be behind. */
const SLEEP_MS = 3_000;

const skip = await whyNoMachines();

describe("virtual machines", { skip }, () => {
  let image: string;
  let lab: LabDaemon;
  let hypervisor: ReturnType<typeof netnsHypervisor>;

  before(async () => {
    image = (await buildImage()).image.folder;
    lab = await startLabDaemon({ clients: 1, hypervisor: "qemu", image });
    hypervisor = netnsHypervisor({ socketPath: lab.socketPath });
  });

  after(async () => {
    await hypervisor?.close();
    await lab?.stop();
  });

  hypervisorContract(LAB_SWARM, () => hypervisor);

  test("one that slept has the right time and a tunnel that is up once it is awake", async (t) => {
    const machine = (await hypervisor.list(LAB_SWARM)).find(({ state }) => state === "running");
    assert.ok(machine !== undefined);
    const { name } = machine;
    await hypervisor.suspend({ operation: "clock/sleep", name });
    await delay(SLEEP_MS);
    const claimedAtMs = performance.now();
    await hypervisor.resume({ operation: "clock/wake", name });
    const agent = agentClient({ socketPath: lab.agentSocket(name) });
    try {
      const status = await agent.status();
      t.diagnostic(`serving ${Math.round(performance.now() - claimedAtMs)} ms after it was claimed`);
      assert.equal(status.tunnelUp, true);
      assert.ok(Math.abs(status.clockMs - Date.now()) < SLEEP_MS / 2, `the clock is ${status.clockMs - Date.now()} ms off`);
    } finally {
      await agent.close();
    }
  });

  test("a machine's console is kept, and what it holds in memory goes on in another process", async () => {
    const [running] = await hypervisor.list(LAB_SWARM);
    assert.ok(running !== undefined);
    assert.match(await hypervisor.consoleLog(running.name), /foreshift: up/);
    const kept = await hypervisor.snapshot(running.name);
    assert.equal(statSync(kept.file).size, kept.bytes);
    assert.equal(statSync(kept.file).mode & 0o077, 0);
    assert.ok((await eventually("its agent", () => statusOf(running.name), 20_000)).tunnelUp);

    const folder = mkdtempSync(join(tmpdir(), "foreshift-vm-"));
    const spec = { name: "kept", image, folder, sockets: join(folder, "qemu"), files: [] };
    const first = await VirtualMachine.launch(spec);
    try {
      await first.ready();
      await first.run(["/usr/bin/sh", "-c", "echo so > /run/mark"]);
      await first.snapshot(join(folder, "memory"));
      await first.terminate();
      const second = await VirtualMachine.launch({ ...spec, snapshot: join(folder, "memory") });
      try {
        await second.ready();
        assert.equal((await second.run(["/usr/bin/cat", "/run/mark"])).stdout, "so\n");
      } finally {
        await second.terminate();
      }
    } finally {
      await first.terminate();
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test("a lab's process that comes anew finds its machines, makes none twice, and leaves none that is half made", async () => {
    const running = await hypervisor.launch({ operation: "adoption/running", swarm: LAB_SWARM, suspended: false });
    const ghost = await hypervisor.launch({ operation: "adoption/ghost", swarm: LAB_SWARM, suspended: true });
    const [before, peers] = [await hypervisor.list(LAB_SWARM), await peersOf(lab)];
    const half = () => hypervisor.launch({ operation: "adoption/half", swarm: LAB_SWARM, suspended: false });
    const cutOff = half().catch(() => undefined);
    await eventually("a launch under way", () => guests(lab.home) > before.length, 20_000);
    const [pid] = daemons(lab.home);
    assert.ok(pid !== undefined);
    process.kill(pid, "SIGKILL");
    await cutOff;
    await eventually("another process of the lab", () => hypervisor.list(LAB_SWARM).catch(() => undefined), 20_000);
    const launched = await half();
    assert.notEqual(daemons(lab.home)[0], pid);
    assert.deepEqual(byName(await hypervisor.list(LAB_SWARM)), byName([...before, launched]));
    assert.equal(guests(lab.home), before.length + 1);
    assert.deepEqual(await hypervisor.launch({ operation: "adoption/running", swarm: LAB_SWARM, suspended: false }), running);
    assert.deepEqual(await peersOf(lab), peers);
    await hypervisor.resume({ operation: "adoption/wake", name: ghost.name });
    for (const { name } of [running, ghost]) {
      const { tunnelUp, clockMs } = await eventually(`${name} answers`, () => statusOf(name), 20_000);
      assert.ok(tunnelUp && Math.abs(clockMs - Date.now()) < SLEEP_MS / 2);
    }
    for (const { name } of [running, ghost, launched]) await hypervisor.terminate({ operation: `adoption/end/${name}`, name });
    assert.equal(guests(lab.home), before.length - 2);
  });

  async function statusOf(name: string) {
    const agent = agentClient({ socketPath: lab.agentSocket(name), timeoutMs: 5_000 });
    try {
      return await agent.status().catch(() => undefined);
    } finally {
      await agent.close();
    }
  }

  test("no virtual machine outlives the hypervisor that launched it", async () => {
    assert.ok(guests(lab.home) > 0);
    lab.child.kill("SIGKILL");
    await eventually("the guests' end", () => guests(lab.home) === 0, 10_000);
  });
});

const byName = (machines: readonly Machine[]) => machines.toSorted((a, b) => (a.name < b.name ? -1 : 1));

async function peersOf({ http }: LabDaemon): Promise<readonly Peer[]> {
  return (await http.get<LabDescription>("/v1/lab", { timeoutMs: 5_000, retry: NO_RETRY })).peers;
}

/** Processes of QEMU whose disks lie in a folder. */
function guests(folder: string): number {
  return processes((command) => command.startsWith("qemu-system") && command.includes(folder)).length;
}

/** The lab's own, whose configuration lies in a folder. */
function daemons(folder: string): readonly number[] {
  return processes((command) => command.startsWith(process.execPath) && command.includes(join(folder, "lab.json")));
}

function processes(are: (command: string) => boolean): readonly number[] {
  return readdirSync("/proc")
    .filter((pid) => {
      if (!/^\d+$/.test(pid)) return false;
      try {
        return are(readFileSync(`/proc/${pid}/cmdline`, "utf8"));
      } catch {
        return false;
      }
    })
    .map(Number);
}
