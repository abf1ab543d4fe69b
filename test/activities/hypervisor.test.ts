// The hypervisor port against the lab's own: real namespaces, real agents, real WireGuard, a key from a real OpenBao.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { NO_RETRY } from "../../drivers/http-unix.ts";
import { netnsHypervisor } from "../../drivers/hypervisor/netns.ts";
import { agentClient } from "../../drivers/tunnel/agent-client.ts";
import type { JournalEntry } from "../../lab/journal.ts";
import { LAB_SWARM } from "../../lab/spec.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { hypervisorContract } from "../support/contracts/hypervisor.ts";
import { eventually } from "../support/eventually.ts";
import { type LabDaemon, startLabDaemon } from "../support/lab-daemon.ts";

const CGROUP_ROOTS = ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpuacct"];
let lab: LabDaemon;
let hypervisor: ReturnType<typeof netnsHypervisor>;
const launch = (operation: string, suspended = false) => hypervisor.launch({ operation, swarm: LAB_SWARM, suspended });

before(async () => {
  lab = await startLabDaemon({ clients: 1 });
  hypervisor = netnsHypervisor({ socketPath: lab.socketPath });
});

after(async () => {
  await hypervisor?.close();
  await lab?.stop();
});

const codeIs = (code: string) => (error: ForeshiftError) => {
  assert.equal(error.code, code, error.message);
  assert.ok(error.remedy.length > 0);
  return true;
};

async function answers(name: string, timeoutMs = 300): Promise<boolean> {
  const agent = agentClient({ socketPath: lab.agentSocket(name), timeoutMs });
  try {
    return await agent.status().then(
      ({ tunnelUp }) => tunnelUp,
      () => false,
    );
  } finally {
    await agent.close();
  }
}

async function executions(operation: string): Promise<number> {
  const entries = (await lab.http.get("/v1/journal", { timeoutMs: 1_000, retry: NO_RETRY })) as JournalEntry[];
  return entries.find((entry) => entry.operation === operation)?.executions ?? 0;
}

test("a launched machine runs WireGuard with the swarm's key, and is launched once per key, also when asked at the same time", async () => {
  const [one, two] = await Promise.all([launch("launch/a"), launch("launch/a")]);
  assert.deepEqual(one, two);
  assert.deepEqual(await launch("launch/a"), one);
  assert.equal(one.state, "running");
  assert.equal(await executions("launch/a"), 1);
  assert.match(await hypervisor.consoleLog(one.name), /"event":"started"/);
  await assert.rejects(hypervisor.snapshot(one.name), codeIs("INVALID_FIELD"));
  assert.equal(await answers(one.name), true);
  assert.deepEqual(await hypervisor.list(LAB_SWARM), [one]);
});

test("a ghost has booted and stands still; resumed, it answers at once, and can be suspended again", async () => {
  const ghost = await launch("launch/ghost", true);
  assert.equal(ghost.state, "suspended");
  assert.equal(await answers(ghost.name), false);
  const startedAtMs = performance.now();
  assert.equal((await hypervisor.resume({ operation: "resume/ghost", name: ghost.name })).state, "running");
  assert.ok(performance.now() - startedAtMs < 1_000, "resuming takes milliseconds");
  await eventually("the ghost answers", () => answers(ghost.name), 2_000);
  assert.equal((await hypervisor.suspend({ operation: "suspend/ghost", name: ghost.name })).state, "suspended");
  assert.equal(await answers(ghost.name), false);
  await hypervisor.resume({ operation: "resume/ghost", name: ghost.name });
  assert.equal(await answers(ghost.name), false, "a key that was executed changes nothing");
  assert.equal(await executions("resume/ghost"), 1);
});

test("repair unfreezes a machine and brings its links up, once per key", async () => {
  const machine = await launch("launch/repair");
  for (const kind of ["freeze", "partition"]) {
    await lab.http.post("/v1/faults", { timeoutMs: 5_000, retry: NO_RETRY, body: { kind, endpoint: machine.name } });
    if (kind === "freeze") assert.equal(await answers(machine.name), false);
    await hypervisor.repair({ operation: `repair/${kind}`, name: machine.name });
    await eventually(`it answers after ${kind}`, () => answers(machine.name), 2_000);
    assert.deepEqual(await lab.http.get("/v1/faults", { timeoutMs: 1_000, retry: NO_RETRY }), []);
  }
  await lab.http.post("/v1/faults", { timeoutMs: 5_000, retry: NO_RETRY, body: { kind: "freeze", endpoint: machine.name } });
  await hypervisor.repair({ operation: "repair/freeze", name: machine.name });
  assert.equal(await answers(machine.name), false, "a key that was executed changes nothing");
});

test("a terminated machine is gone with its processes, twice is as good as once, and its number is not used again", async () => {
  const machine = await launch("launch/short");
  await hypervisor.terminate({ operation: "terminate/short", name: machine.name });
  await hypervisor.terminate({ operation: "terminate/short", name: machine.name });
  await hypervisor.terminate({ operation: "terminate/short-again", name: machine.name });
  assert.ok((await hypervisor.list(LAB_SWARM)).every(({ name }) => name !== machine.name));
  await assert.rejects(access(lab.agentSocket(machine.name)));
  assert.equal((await launch("launch/short")).state, "gone");
  const next = await launch("launch/next");
  assert.ok(Number(next.name.slice(3)) > Number(machine.name.slice(3)));
});

test("where control groups can be made, a machine's processes are in its own, which ends with it", async (t) => {
  const parent = CGROUP_ROOTS.map((root) => join(root, "foreshift-lab")).find((folder) => existsSync(folder));
  if (parent === undefined) return t.skip("this user may not make control groups");
  // Another lab on this machine may have a machine of the same name.
  const before = new Set(readdirSync(parent));
  const machine = await launch("launch/cgroup");
  const group = readdirSync(parent).find((name) => !before.has(name) && name.endsWith(`-${machine.name}`));
  assert.ok(group !== undefined);
  const processes = readFileSync(join(parent, group, "cgroup.procs"), "utf8")
    .trim()
    .split("\n");
  assert.equal(processes.length, 2, "the agent and WireGuard");
  await hypervisor.terminate({ operation: "terminate/cgroup", name: machine.name });
  assert.ok(!existsSync(join(parent, group)));
});

hypervisorContract(LAB_SWARM, () => hypervisor);

test("bad requests name the field and the remedy, and change nothing", async () => {
  const before = await hypervisor.list(LAB_SWARM);
  await assert.rejects(hypervisor.resume({ operation: "x/1", name: "ep-99" }), codeIs("UNKNOWN_ENDPOINT"));
  await assert.rejects(hypervisor.list("other"), codeIs("UNKNOWN_SWARM"));
  await assert.rejects(hypervisor.launch({ operation: "x/2", swarm: "other", suspended: false }), codeIs("UNKNOWN_SWARM"));
  await assert.rejects(hypervisor.launch({ operation: "", swarm: LAB_SWARM, suspended: false }), codeIs("INVALID_FIELD"));
  await assert.rejects(hypervisor.repair({ operation: "launch/a", name: "ep-1" }), codeIs("INVALID_FIELD"));
  const fault = (body: object) => lab.http.post("/v1/faults", { timeoutMs: 1_000, retry: NO_RETRY, body });
  await assert.rejects(fault({ kind: "earthquake", endpoint: "ep-1" }), codeIs("INVALID_FIELD"));
  await assert.rejects(fault({ kind: "crash", endpoint: "ep-99" }), codeIs("UNKNOWN_ENDPOINT"));
  assert.deepEqual(await hypervisor.list(LAB_SWARM), before);
});

test("started again, the lab has no machines, and numbers go on where they were", async () => {
  const highest = Math.max(...(await hypervisor.list(LAB_SWARM)).map(({ name }) => Number(name.slice(3))));
  await lab.restart();
  assert.deepEqual(await hypervisor.list(LAB_SWARM), []);
  const machine = await launch("launch/a");
  assert.ok(Number(machine.name.slice(3)) > highest);
});
