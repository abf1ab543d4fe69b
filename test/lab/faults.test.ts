// Faults by name, on real machines under traffic: each does what it says, is listed, and can be taken back.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { netnsHypervisor } from "../../drivers/hypervisor/netns.ts";
import { agentClient } from "../../drivers/tunnel/agent-client.ts";
import { type FaultKind, LabClient } from "../../lab/lab-client.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { eventually } from "../support/eventually.ts";
import { type LabDaemon, startLabDaemon } from "../support/lab-daemon.ts";
import { runIn, steerAllTo } from "../support/static-steering.ts";

let daemon: LabDaemon;
let lab: LabClient;

before(async () => {
  daemon = await startLabDaemon({ clients: 2, endpoints: 1 });
  lab = new LabClient(daemon.socketPath);
  const hypervisor = netnsHypervisor({ socketPath: daemon.socketPath });
  const [machine] = await hypervisor.list("lab");
  await hypervisor.close();
  assert.ok(machine !== undefined);
  await steerAllTo(daemon, machine.link, await lab.describe());
});

beforeEach(() => untilFlowing());

after(async () => {
  await lab?.close();
  await daemon?.stop();
});

/** Data comes through in both directions, with nothing lost since the reset. */
async function untilFlowing(): Promise<void> {
  await eventually(
    "traffic flows",
    async () => {
      await lab.resetTraffic();
      const { clients } = await eventually(
        "some are settled",
        async () => {
          const traffic = await lab.traffic();
          return traffic.clients.every(({ up, down }) => up.sent > 20 && down.sent > 20) ? traffic : undefined;
        },
        20_000,
      );
      return clients.every(({ up, down }) => up.lost === 0 && down.lost === 0);
    },
    40_000,
  );
}

/** Nothing comes through any more: more than `count` packets in a row are lost. */
async function untilSilent(count = 30): Promise<void> {
  await lab.resetTraffic();
  await eventually("traffic stops", async () => (await lab.traffic()).clients.every(({ up }) => up.lost > count), 10_000);
}

async function isolated(kind: FaultKind, during: () => Promise<void>): Promise<void> {
  const fault = await lab.inject(kind, "ep-1");
  assert.ok(Math.abs(fault.atMs - Date.now()) < 2_000);
  assert.deepEqual(await lab.faults(), [fault]);
  await during();
  await lab.heal("ep-1");
  assert.deepEqual(await lab.faults(), []);
  await untilFlowing();
}

async function status(): Promise<{ tunnelUp: boolean } | undefined> {
  const agent = agentClient({ socketPath: daemon.agentSocket("ep-1"), timeoutMs: 300 });
  try {
    return await agent.status().catch(() => undefined);
  } finally {
    await agent.close();
  }
}

const pingOutside = () =>
  runIn(daemon, "lb", ["sh", "-c", "ping -c 2 -i 0.2 -W 1 198.18.16.6 >/dev/null && echo yes || echo no"]).trim();

test("crash kills WireGuard and leaves the agent, which says so", async () => {
  await isolated("crash", async () => {
    await untilSilent();
    assert.equal((await status())?.tunnelUp, false);
  });
});

test("freeze stops everything; the kernel still answers", async () => {
  await isolated("freeze", async () => {
    await untilSilent();
    assert.equal(await status(), undefined);
    assert.equal(pingOutside(), "yes");
  });
});

test("partition takes the links down", async () => {
  await isolated("partition", async () => {
    await untilSilent();
    assert.equal(pingOutside(), "no");
    assert.equal((await status())?.tunnelUp, true);
  });
});

test("a zombie answers outside and forwards nothing inside", async () => {
  await isolated("zombie", async () => {
    await untilSilent();
    assert.equal(pingOutside(), "yes");
    assert.equal((await status())?.tunnelUp, true);
  });
});

test("heartbeat loss kills the agent, which stays down, and loses no packet", async () => {
  await isolated("heartbeat-loss", async () => {
    await lab.resetTraffic();
    await eventually("enough packets", async () => (await lab.traffic()).clients.every(({ up }) => up.sent > 300), 10_000);
    assert.equal(await status(), undefined);
    for (const { up, down, tcp } of (await lab.traffic()).clients)
      assert.deepEqual([up.lost, down.lost, tcp.broken], [0, 0, 0]);
  });
  await eventually("the agent is back", async () => (await status())?.tunnelUp === true, 10_000);
});

test("a brownout begins with delay alone and goes on to loss", async () => {
  await isolated("brownout", async () => {
    await lab.resetTraffic();
    const early = await eventually(
      "five seconds of it",
      async () => {
        const { clients } = await lab.traffic();
        return clients.every(({ up }) => up.sent > 400) ? clients : undefined;
      },
      15_000,
    );
    for (const { up, down } of early) assert.deepEqual([up.lost, down.lost], [0, 0]);
    assert.ok(early.some(({ up }) => up.longestGapMs > 20));
    await eventually("loss", async () => (await lab.traffic()).clients.every(({ up }) => up.lost > 5), 15_000);
    for (const { up } of (await lab.traffic()).clients) assert.ok(up.received > 300);
  });
});

test("a second fault on a machine is refused, healing a healthy one is not, and a fault given seconds ends by itself", async () => {
  await lab.inject("zombie", "ep-1");
  await assert.rejects(lab.inject("freeze", "ep-1"), (error: ForeshiftError) => error.code === "INVALID_FIELD");
  await lab.heal("ep-1");
  await lab.heal("ep-1");
  await assert.rejects(lab.heal("ep-99"), (error: ForeshiftError) => error.code === "UNKNOWN_ENDPOINT");
  await daemon.http.post("/v1/faults", {
    timeoutMs: 5_000,
    retry: { attemptsMax: 1, backoffMs: 0, backoffMsMax: 0 },
    body: { kind: "zombie", endpoint: "ep-1", seconds: 0.5 },
  });
  assert.equal((await lab.faults()).length, 1);
  await eventually("it ends", async () => (await lab.faults()).length === 0, 3_000);
});
