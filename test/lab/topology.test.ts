// The lab's network with real WireGuard clients and one endpoint: traffic both ways, direct server return, roaming.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { netnsHypervisor } from "../../drivers/hypervisor/netns.ts";
import { LabClient, type LabTraffic } from "../../lab/lab-client.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { eventually } from "../support/eventually.ts";
import { type LabDaemon, startLabDaemon } from "../support/lab-daemon.ts";
import { runIn, steerAllTo } from "../support/static-steering.ts";

const PACKETS_PER_SECOND = 100;
let daemon: LabDaemon;
let lab: LabClient;

before(async () => {
  const packetsPerSecond = PACKETS_PER_SECOND;
  daemon = await startLabDaemon({ clients: 4, ipv6ClientShare: 0.5, endpoints: 1, ghosts: 1, packetsPerSecond });
  lab = new LabClient(daemon.socketPath);
  const hypervisor = netnsHypervisor({ socketPath: daemon.socketPath });
  const machines = await hypervisor.list("lab");
  await hypervisor.close();
  assert.deepEqual(machines.map(({ state }) => state).toSorted(), ["running", "suspended"]);
  const running = machines.find(({ state }) => state === "running");
  assert.ok(running !== undefined);
  await steerAllTo(daemon, running.link, await lab.describe());
  await eventually("every client has a session and a download", async () => everyClientFlows(await lab.traffic()), 20_000);
});

after(async () => {
  await lab?.close();
  await daemon?.stop();
});

function everyClientFlows({ clients }: LabTraffic): boolean {
  return clients.every(({ up, down, tcp }) => up.received > 0 && down.received > 0 && tcp.bytes > 0);
}

test("numbered packets arrive both ways, none lost, doubled or out of order, over IPv4 and IPv6; the download flows", async () => {
  await lab.resetTraffic();
  await delay(4_000);
  const { clients } = await lab.traffic();
  assert.equal(clients.length, 4);
  for (const { client, up, down, tcp } of clients) {
    for (const direction of [up, down]) {
      assert.ok(direction.sent > 2 * PACKETS_PER_SECOND, `${client} sent ${direction.sent}`);
      assert.deepEqual([direction.lost, direction.duplicated, direction.reordered], [0, 0, 0], client);
      assert.equal(direction.received, direction.sent);
      assert.ok(direction.longestGapMs > 0 && direction.longestGapMs < 1_000, `${client} gap ${direction.longestGapMs} ms`);
    }
    assert.equal(tcp.broken, 0);
    assert.ok(tcp.bytes > 100_000, `${client} ${tcp.bytes} bytes`);
  }
  const sixth = runIn(daemon, "client-4", ["wg", "show", "wg0", "endpoints"]);
  assert.match(sixth, /\[fd00:19::1\]:51820/);
});

test("only handshakes of an endpoint pass the balancer; its data goes straight back", () => {
  const received = (device: string) =>
    Number(/RX:.*\n\s+\d+\s+(\d+)/.exec(runIn(daemon, "lb", ["ip", "-s", "link", "show", device]))?.[1]);
  const fromEdge = received("edge");
  const fromEndpoint = received("ep-1");
  assert.ok(fromEdge > 1_000, `${fromEdge} packets from the clients`);
  assert.ok(fromEndpoint > 0 && fromEndpoint < 100, `${fromEndpoint} packets from the endpoint`);
});

test("dropped packets are counted lost, and a silence has its length", async () => {
  await lab.resetTraffic();
  runIn(daemon, "router", ["nft", "-f", "-"], dropping('iifname "ep-1"'));
  await delay(500);
  runIn(daemon, "router", ["nft", "delete", "table", "inet", "test_drop"]);
  const client = await eventually("losses are settled", async () => {
    const [first] = (await lab.traffic()).clients;
    return first !== undefined && first.up.lost > 20 && first.up.received > 50 ? first : undefined;
  });
  assert.ok(client.up.longestGapMs >= 400, `gap of ${client.up.longestGapMs} ms`);
  assert.ok(Math.abs((client.up.longestGapEndedAtMs ?? 0) - Date.now()) < 10_000);
  assert.equal(client.down.lost, 0);
  assert.equal(client.tcp.broken, 0);
});

test("clients that change address and port keep their sessions and their download", async () => {
  await lab.resetTraffic();
  for (let round = 0; round < 3; round += 1) {
    await lab.roam("client-1");
    await lab.roam("client-4");
    await delay(700);
  }
  await delay(1_200);
  const { clients } = await lab.traffic();
  for (const { client, up, down, tcp } of clients) {
    const roamed = client === "client-1" || client === "client-4";
    assert.ok(up.lost + down.lost <= (roamed ? 60 : 0), `${client} lost ${up.lost} and ${down.lost}`);
    assert.equal(tcp.broken, 0);
    assert.ok(up.received > 100 && down.received > 100);
  }
  await assert.rejects(lab.roam("client-9"), (error: ForeshiftError) => error.code === "INVALID_FIELD");
});

test("a traffic process that dies is named, instead of its figures", async () => {
  // The brackets keep the shell, which runs there as well, from finding itself.
  const find = "ip netns pids client-2 | xargs -n1 sh -c 'grep -slz client-traffi[c] /proc/$0/cmdline' | cut -d/ -f3";
  runIn(daemon, "client-2", ["sh", "-c", `kill -9 $(${find})`]);
  await assert.rejects(
    eventually("it is named", async () => (await lab.traffic()).clients.length === 0),
    (error: ForeshiftError) =>
      error.code === "NOT_READY" && /traffic of client-2 is not ready: it ended with SIGKILL/.test(error.message),
  );
});

function dropping(match: string): string {
  return `table inet test_drop {
  chain forward {
    type filter hook forward priority filter; policy accept;
    ${match} drop
  }
}
`;
}
