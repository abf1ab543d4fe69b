// The hypervisor port against virtual machines: real guests on the lab's links, each with its own kernel's WireGuard and its agent,
// reached over its serial line.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { netnsHypervisor } from "../../drivers/hypervisor/netns.ts";
import { agentClient } from "../../drivers/tunnel/agent-client.ts";
import { LAB_SWARM } from "../../lab/spec.ts";
import { buildImage } from "../../setup/image/build.ts";
import { hypervisorContract } from "../support/contracts/hypervisor.ts";
import { eventually } from "../support/eventually.ts";
import { type LabDaemon, startLabDaemon } from "../support/lab-daemon.ts";
import { whyNoMachines } from "../support/machines.ts";

/** So much a clock that stood still would be behind. */
const SLEEP_MS = 3_000;

const skip = await whyNoMachines();

describe("virtual machines", { skip }, () => {
  let lab: LabDaemon;
  let hypervisor: ReturnType<typeof netnsHypervisor>;

  before(async () => {
    const { image } = await buildImage();
    lab = await startLabDaemon({ clients: 1, hypervisor: "qemu", image: image.folder });
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

  test("no virtual machine outlives the hypervisor that launched it", async () => {
    assert.ok(guests(lab.home) > 0);
    lab.child.kill("SIGKILL");
    await eventually("the guests' end", () => guests(lab.home) === 0, 10_000);
  });
});

/** Processes of QEMU whose disks lie in a folder. */
function guests(folder: string): number {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      return command.startsWith("qemu-system") && command.includes(folder);
    } catch {
      return false;
    }
  }).length;
}
