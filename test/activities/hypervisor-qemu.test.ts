// The hypervisor port against virtual machines: real guests on the lab's links, each with its own kernel's WireGuard and its agent,
// reached over its serial line.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { NO_RETRY } from "../../drivers/http-unix.ts";
import { netnsHypervisor } from "../../drivers/hypervisor/netns.ts";
import type { Machine } from "../../drivers/ports.ts";
import { VirtualMachine } from "../../drivers/qemu/virtual-machine.ts";
import { agentClient } from "../../drivers/tunnel/agent-client.ts";
import type { LabDescription } from "../../lab/lab-client.ts";
import { processorsFor } from "../../lab/machine-image.ts";
import { LAB_SWARM } from "../../lab/spec.ts";
import { EMULATED_LIMITS, MACHINE_LIMITS } from "../../models/limits-machines.ts";
import type { Peer } from "../../models/session.ts";
import { buildImage } from "../../setup/image/build.ts";
import { hypervisorContract } from "../support/contracts/hypervisor.ts";
import { eventually } from "../support/eventually.ts";
import { type LabDaemon, startLabDaemon } from "../support/lab-daemon.ts";
import { whyNoMachines } from "../support/machines.ts";
import { run } from "../support/namespace.ts";

/** So much a clock that stood still would be behind. */
const SLEEP_MS = 3_000;
/** Guests are emulated, and others may have most of the processors: what is waited for comes, late. */
const PATIENCE_MS = EMULATED_LIMITS.phaseTimeoutMs;
/** Hosts of the lab that hold the far ends of a machine's links. */
const FAR_ENDS = ["lb", "edge", "router"];

const skip = await whyNoMachines();

describe("virtual machines", { skip }, () => {
  let image: string;
  let lab: LabDaemon;
  let hypervisor: ReturnType<typeof netnsHypervisor>;
  let folder: string;
  let bare: Promise<VirtualMachine>;
  const bareSpec = () => ({ name: "kept", image, folder, sockets: join(folder, "qemu"), files: [] });

  // Guests take their time to boot: what later tests need boots beside what the first ones ask for.
  before(async () => {
    image = (await buildImage()).image.folder;
    folder = mkdtempSync(join(tmpdir(), "foreshift-vm-"));
    bare = VirtualMachine.launch(bareSpec());
    bare.catch(() => undefined);
    lab = await startLabDaemon({ clients: 1, hypervisor: "qemu", image, processors: await processorsFor(image) });
    hypervisor = netnsHypervisor({ socketPath: lab.socketPath });
    hypervisor.launch({ operation: "contract/ghost", swarm: LAB_SWARM, suspended: true }).catch(() => undefined);
    hypervisor.launch({ operation: "contract/next", swarm: LAB_SWARM, suspended: false }).catch(() => undefined);
  });

  after(async () => {
    await hypervisor?.close();
    await lab?.stop();
    await bare?.then((machine) => machine.terminate());
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
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
    await assertServes(name);
    t.diagnostic(`serving ${Math.round(performance.now() - claimedAtMs)} ms after it was claimed`);
  });

  test("a machine's console is kept, and what it holds in memory goes on in another process", async () => {
    const [running] = await hypervisor.list(LAB_SWARM);
    assert.ok(running !== undefined);
    assert.match(await hypervisor.consoleLog(running.name), /foreshift: up/);
    const kept = await hypervisor.snapshot(running.name);
    assert.equal(statSync(kept.file).size, kept.bytes);
    assert.equal(statSync(kept.file).mode & 0o077, 0);
    await assertServes(running.name);

    const first = await bare;
    await first.ready();
    await first.run(["/usr/bin/sh", "-c", "echo so > /run/mark"]);
    await first.snapshot(join(folder, "memory"));
    await first.terminate();
    const second = await VirtualMachine.launch({ ...bareSpec(), snapshot: join(folder, "memory") });
    try {
      await second.ready();
      assert.equal((await second.run(["/usr/bin/cat", "/run/mark"])).stdout, "so\n");
    } finally {
      await second.terminate();
    }
  });

  test("a lab's process that comes anew finds its machines, makes none twice, and leaves none that is half made", async () => {
    const again = () => hypervisor.launch({ operation: "contract/a", swarm: LAB_SWARM, suspended: false });
    const running = await again();
    const other = (await hypervisor.list(LAB_SWARM)).find(({ name }) => name !== running.name);
    assert.ok(other !== undefined);
    const ghost = await hypervisor.suspend({ operation: "adoption/sleep", name: other.name });
    const [before, peers] = [await hypervisor.list(LAB_SWARM), await peersOf(lab)];
    const half = () => hypervisor.launch({ operation: "adoption/half", swarm: LAB_SWARM, suspended: false });
    const cutOff = half().catch(() => undefined);
    await eventually("a launch under way", () => guests(lab.home).length > before.length, PATIENCE_MS);
    const isHeldBack = () => guests(lab.home).filter((guest) => niceOf(guest) > 0).length === 1;
    const mayRaise = guests(lab.home, running.name).every((guest) => niceOf(guest) < 0);
    if (mayRaise) await eventually("one that boots waits for those that serve", isHeldBack, PATIENCE_MS);
    const [pid] = daemons(lab.home);
    assert.ok(pid !== undefined);
    process.kill(pid, "SIGKILL");
    await cutOff;
    await eventually("another process of the lab", () => hypervisor.list(LAB_SWARM).catch(() => undefined), PATIENCE_MS);
    const launched = await half();
    assert.notEqual(daemons(lab.home)[0], pid);
    assert.deepEqual(byName(await hypervisor.list(LAB_SWARM)), byName([...before, launched]));
    assert.equal(guests(lab.home).length, before.length + 1);
    assert.ok(
      !mayRaise || guests(lab.home).every((guest) => niceOf(guest) < 0),
      "all that have booted go before those that boot",
    );
    assertTraces(lab, [...before, launched]);
    assert.deepEqual(await again(), running);
    assert.deepEqual(await peersOf(lab), peers);
    await hypervisor.resume({ operation: "adoption/wake", name: ghost.name });
    for (const { name } of [running, ghost]) await assertServes(name);
    // One has gone by itself before it is ended.
    for (const guest of guests(lab.home, launched.name)) process.kill(guest, "SIGKILL");
    await eventually("its end", () => guests(lab.home, launched.name).length === 0, PATIENCE_MS);
    for (const { name } of [ghost, launched]) await hypervisor.terminate({ operation: `adoption/end/${name}`, name });
    assert.equal(guests(lab.home).length, before.length - 1);
    assertTraces(lab, await hypervisor.list(LAB_SWARM));
  });

  /** Its agent answers, its tunnel is up, and its clock says what it can have been while it was asked. */
  async function assertServes(name: string): Promise<void> {
    const timeoutMs = MACHINE_LIMITS.agentAnswerTimeoutMs;
    const agent = agentClient({ socketPath: lab.agentSocket(name), timeoutMs });
    try {
      const { askedAtMs, status } = await eventually(
        `${name} answers`,
        async () => {
          const askedAtMs = Date.now();
          return await agent.status().then(
            (status) => ({ askedAtMs, status }),
            () => undefined,
          );
        },
        PATIENCE_MS,
      );
      assert.ok(status.tunnelUp, `${name} has its tunnel up`);
      const offMs = Math.max(askedAtMs - status.clockMs, status.clockMs - Date.now());
      assert.ok(offMs < SLEEP_MS / 2, `the clock of ${name} is ${offMs} ms off`);
    } finally {
      await agent.close();
    }
  }

  test("no virtual machine outlives the hypervisor that launched it", async () => {
    assert.ok(guests(lab.home).length > 0);
    lab.child.kill("SIGKILL");
    await eventually("the guests' end", () => guests(lab.home).length === 0, PATIENCE_MS);
  });
});

const byName = (machines: readonly Machine[]) => machines.toSorted((a, b) => (a.name < b.name ? -1 : 1));

async function peersOf({ http }: LabDaemon): Promise<readonly Peer[]> {
  return (await http.get<LabDescription>("/v1/lab", { timeoutMs: 5_000, retry: NO_RETRY })).peers;
}

/** Links, namespaces, sockets and folders are those of the machines that there are, and of no other. */
function assertTraces(lab: LabDaemon, machines: readonly Machine[]): void {
  const names = machines.map(({ name }) => name).sort();
  const [pid] = daemons(lab.home);
  const own = process.getuid?.() === 0 ? [] : ["--user", "--preserve-credentials"];
  const inLab = (...command: string[]) => run("nsenter", "--target", `${pid}`, ...own, "--mount", "--net", "--", ...command);
  for (const host of FAR_ENDS)
    assert.deepEqual(namesIn(inLab("ip", "-n", host, "-brief", "link", "show")), names, `links in ${host}`);
  assert.deepEqual(namesIn(inLab("ip", "netns", "list")), names, "namespaces");
  assert.deepEqual(namesIn(readdirSync(dirname(lab.agentSocket("any"))).join("\n")), names, "sockets");
  assert.deepEqual(readdirSync(join(lab.home, "lab", "machines")).sort(), names, "folders");
}

/** Of machines, each once, at the beginnings of lines. */
function namesIn(lines: string): readonly string[] {
  return [...new Set(Array.from(lines.matchAll(/^ep-\d+/gm), ([name]) => name))].sort();
}

/** Processes of QEMU whose disks lie in a folder; of all machines, or of one. */
function guests(folder: string, name = ""): readonly number[] {
  return processes(
    (command) =>
      command.startsWith("qemu-system") && command.includes(folder) && (name === "" || command.includes(`\0-name\0${name}\0`)),
  );
}

function niceOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // Fields are counted from behind the name in parentheses, which may hold anything: proc_pid_stat(5).
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[16]);
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
