/** The packet path on real nftables with real WireGuard at both ends. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { NamespaceCommands, NftTable } from "../../drivers/balancer/nftables.ts";
import { RETURN_DECLARED, RETURN_TABLE, returnRuleset } from "../../drivers/balancer/nftables-return-ruleset.ts";
import {
  type Ruleset,
  STEERING_DECLARED,
  STEERING_TABLE,
  type SteeringInput,
  steeringRuleset,
} from "../../drivers/balancer/nftables-ruleset.ts";
import type { Client } from "../../lab/client-host.ts";
import { runScript, signalHost } from "../../lab/namespace.ts";
import { hashTable, turnTable } from "../../models/hash-table.ts";
import { type BalancerLab, buildBalancerLab, flood, holderOf, initiations, stream, VIP } from "../support/balancer-lab.ts";
import { insideNamespace } from "../support/namespace.ts";

const lb = new NamespaceCommands("/run/netns/lb");
const router = new NamespaceCommands("/run/netns/router");
const newTable = () => new NftTable(lb, STEERING_TABLE, STEERING_DECLARED);

if (insideNamespace(import.meta.url)) {
  const lab = await buildBalancerLab({ endpoints: 3, sessions: 5, ipv6Share: 0.2 });
  after(() => lab.close());
  const [roamer, honest, flooder, newcomer, six] = lab.clients.list;
  assert.ok(roamer && honest && flooder && newcomer && six);
  const devices = await lb.devices();
  const table = newTable();
  const base = inputOf(lab, devices);
  await table.apply(steeringRuleset(base));
  const ways = await setUpRouter(lab);
  /** Packets that each member got of so many handshakes of a stranger, while nobody else sends any: sessions are kept alive by themselves. */
  const packetsOfStranger = async (count: number): Promise<ReadonlyMap<number, number>> => {
    const others = lab.clients.list.filter(({ name }) => name !== newcomer.name);
    const signalAll = (signal: "SIGSTOP" | "SIGCONT") => {
      for (const { name: host } of others)
        assert.equal(
          signalHost(host, signal, ({ name }) => name === "wireguard-go"),
          1,
        );
    };
    signalAll("SIGSTOP");
    try {
      const before = await memberPackets(table);
      await initiations(newcomer.name, count);
      const after = await memberPackets(table);
      return new Map([...after].map(([mark, packets]) => [mark, packets - (before.get(mark) ?? 0)]));
    } finally {
      signalAll("SIGCONT");
    }
  };

  test("clients reach an endpoint over IPv4 and IPv6, and data goes by session", async () => {
    for (const client of [roamer, honest, six]) assert.equal((await stream(client, 50, 10)).answered, 50);
    const counters = await table.counters();
    assert.equal(counters.get("unknown_index"), 0);
    assert.equal(counters.get("by_session"), 150);
    assert.equal((await table.elements("clients6")).size, 1);
  });

  test("a restarted balancer finds everything right and touches nothing", async () => {
    const before = await kernelText();
    const again = newTable();
    assert.equal(await again.apply(steeringRuleset(base)), false);
    assert.equal(again.transactions, 0);
    assert.equal(await kernelText(), before);
  });

  test("rules changed by hand are noticed and put right, learned sessions stay", async () => {
    const sessions = [...(await table.elements("sessions")).keys()].sort();
    await runScript(
      "nft flush chain netdev foreshift data4; nft add rule netdev foreshift vip4 drop; nft delete chain netdev foreshift learn_ep-1",
      "lb",
    );
    const again = newTable();
    assert.equal(await again.apply(steeringRuleset(base)), true);
    assert.deepEqual([...(await again.elements("sessions")).keys()].sort(), sessions);
    assert.equal((await stream(roamer, 20, 10)).answered, 20);
    table.distrust();
  });

  test("a roaming client keeps its session; by address hash alone the same roams lose packets", async () => {
    const bySession = await roamAndCount(lab, roamer, 8);
    assert.equal(bySession.answered, bySession.sent);
    const counters = await table.counters();
    assert.equal(counters.get("unknown_index"), 0);

    await table.apply(byAddressAlone(base));
    const byAddress = await roamAndCount(lab, roamer, 8);
    await table.apply(steeringRuleset(base));
    assert.ok(byAddress.answered < byAddress.sent * 0.9, `by address ${byAddress.answered} of ${byAddress.sent} were answered`);
    assert.equal((await stream(roamer, 20, 10)).answered, 20);
  });

  test("a flood of random indices disturbs no honest client and grows no map", async () => {
    await stream(flooder, 5, 10);
    const sizes = async () => [(await table.elements("sessions")).size, (await table.elements("clients4")).size];
    const before = await sizes();
    const [result] = await Promise.all([stream(honest, 200, 20), flood(flooder.name, 50_000)]);
    assert.equal(result.answered, result.sent);
    assert.deepEqual(await sizes(), before);
    const counters = await table.counters();
    assert.ok((counters.get("unknown_index") ?? 0) >= 49_000, "the flood reached the balancer");
    assert.ok((counters.get("dropped") ?? 0) > 10_000, "most of it was dropped");
  });

  test("a pinned client hands its next session to the pinned endpoint, and changes under way lose nothing", async () => {
    const before = await holderOf(lab, honest);
    const target = lab.endpoints.find((endpoint) => endpoint !== before) ?? "";
    const [address, port] = await outerOf(lab, honest);
    const pinned = { ...base, pins: [[address, port, markOf(target)] as const] };
    const [result] = await Promise.all([stream(honest, 100, 10), changeManyTimes(table, base, pinned)]);
    assert.equal(result.answered, result.sent, "an established session stays whatever the table says");
    await table.apply(steeringRuleset(pinned));
    await ways.setLearned("routes4", new Map([[honest.sessions[0]?.innerAddress ?? "", markOf(target)]]));
    await forgetSession(lab, honest);
    assert.equal((await stream(honest, 20, 10)).answered, 20);
    assert.equal(await holderOf(lab, honest), target);
    await table.apply(steeringRuleset(base));
  });

  test("a draining member keeps its clients, also when they make new sessions, and gets no new ones", async () => {
    const holder = (await holderOf(lab, flooder)) ?? "";
    const others = lab.endpoints.filter((endpoint) => endpoint !== holder);
    const draining = {
      ...base,
      buckets: hashTable(
        base.buckets,
        others.map((endpoint) => ({ slot: markOf(endpoint), weight: 100 })),
      ),
    };
    await table.apply(steeringRuleset(draining));
    await forgetSession(lab, flooder);
    assert.equal((await stream(flooder, 10, 10)).answered, 10);
    assert.equal(await holderOf(lab, flooder), holder);
    assert.equal((await packetsOfStranger(300)).get(markOf(holder)), 0);
    await table.apply(steeringRuleset(base));
  });

  test("an ejected member gets no handshakes at once, and its own teach nothing", async () => {
    const holder = (await holderOf(lab, flooder)) ?? "";
    await table.apply(steeringRuleset({ ...base, fenced: new Set([markOf(holder)]) }));
    await ways.forgetLearned(["routes4"], new Set([markOf(holder)]));
    await forgetSession(lab, flooder);
    assert.equal((await stream(flooder, 10, 10)).answered, 10);
    assert.notEqual(await holderOf(lab, flooder), holder);
    assert.equal((await packetsOfStranger(300)).get(markOf(holder)), 0);
    await table.apply(steeringRuleset(base));
  });

  test("weights are kept: by hash within chance, by turns exactly", async () => {
    const weighted = [100, 50, 0].map((weight, at) => ({ slot: at + 1, weight }));
    const counts = async (change: Partial<SteeringInput>) => {
      await table.apply(steeringRuleset({ ...base, ...change }));
      const packets = await packetsOfStranger(600);
      return [1, 2, 3].map((mark) => packets.get(mark) ?? 0);
    };
    const [byHash = 0, , none] = await counts({ buckets: hashTable([], weighted) });
    assert.equal(none, 0);
    // 600 draws with p = 2/3 have a standard deviation of 11.5.
    assert.ok(Math.abs(byHash - 400) < 60, `${byHash} of 600 went to the member with two thirds`);
    const byTurns = await counts({ spread: "rotate", buckets: turnTable(weighted) });
    assert.ok(Math.abs((byTurns[0] ?? 0) - 400) <= 2 && byTurns[2] === 0, `by turns: ${byTurns.join(" ")}`);
    await table.apply(steeringRuleset(base));
  });

  test("a removed member's buckets go to others, all others stay where they are", async () => {
    const before = await table.elements("buckets");
    const rest = [1, 2].map((slot) => ({ slot, weight: 100 }));
    const without = { ...base, slots: base.slots.filter((slot) => slot.mark !== 3), buckets: hashTable(base.buckets, rest) };
    await table.apply(steeringRuleset(without));
    const after = await table.elements("buckets");
    for (const [bucket, mark] of before) {
      if (mark === "3") assert.notEqual(after.get(bucket), "3");
      else assert.equal(after.get(bucket), mark);
    }
    assert.equal((await table.counters()).has("member_3"), false);
    await table.apply(steeringRuleset(base));
  });

  test("a step of which one part is refused changes nothing", async () => {
    const before = await kernelText();
    // The second command is refused by the kernel: bucket 0 leads elsewhere.
    const text =
      "add element netdev foreshift pins4 { 198.18.101.9 . 1 : 1 }\nadd element netdev foreshift buckets { 0 : 99 }\n";
    assert.notEqual((await lb.run("nft", ["-f", "-"], text)).status, 0);
    assert.equal(await kernelText(), before);
  });
}

function markOf(endpoint: string): number {
  return Number(endpoint.slice(3));
}

function inputOf(lab: BalancerLab, devices: ReadonlyMap<string, number>): SteeringInput {
  const slots = lab.endpoints.map((endpoint) => {
    const { device, mac } = lab.link(endpoint);
    return { mark: markOf(endpoint), device, mac, deviceIndex: devices.get(device) };
  });
  return {
    owner: "lab",
    vip: VIP,
    edgeDevice: "edge",
    edgeDeviceIndex: devices.get("edge") ?? 0,
    spread: "hash",
    buckets: hashTable(
      [],
      slots.map(({ mark }) => ({ slot: mark, weight: 100 })),
    ),
    slots,
    fenced: new Set(),
    pins: [],
  };
}

async function setUpRouter(lab: BalancerLab): Promise<NftTable> {
  const devices = await router.devices();
  const slots = lab.endpoints.map((endpoint) => {
    const { returnDevice, returnMac, probeInnerAddress } = lab.link(endpoint);
    return {
      mark: markOf(endpoint),
      device: returnDevice,
      mac: returnMac,
      deviceIndex: devices.get(returnDevice),
      probeInnerAddress,
    };
  });
  const input = {
    owner: "lab",
    serverDevice: "server",
    serverDeviceIndex: devices.get("server") ?? 0,
    slots,
    fenced: new Set<number>(),
  };
  const ways = new NftTable(router, RETURN_TABLE, RETURN_DECLARED);
  await ways.apply(returnRuleset(input));
  return ways;
}

/** What balancers do that know addresses only: every packet by the hash of where it comes from. */
function byAddressAlone(input: SteeringInput): Ruleset {
  const ruleset = steeringRuleset(input);
  const byHash = [
    `meta mark set jhash ip saddr . udp sport mod ${input.buckets.length} seed 0x1f0e5417`,
    "meta mark set meta mark map @buckets",
    "meta mark vmap @members",
  ];
  return { ...ruleset, chains: ruleset.chains.map((chain) => (chain.name === "vip4" ? { ...chain, rules: byHash } : chain)) };
}

async function roamAndCount(lab: BalancerLab, client: Client, roams: number): Promise<{ sent: number; answered: number }> {
  let sent = 0;
  let answered = 0;
  for (let n = 0; n < roams; n += 1) {
    await lab.clients.roam(client.name);
    const result = await stream(client, 10, 10);
    sent += result.sent;
    answered += result.answered;
  }
  return { sent, answered };
}

async function changeManyTimes(table: NftTable, a: SteeringInput, b: SteeringInput): Promise<void> {
  const swapped = hashTable(a.buckets, [{ slot: 2, weight: 1 }]);
  for (let n = 0; n < 10; n += 1) await table.apply(steeringRuleset(n % 2 === 0 ? { ...b, buckets: swapped } : a));
}

/** The client forgets its keys, so that its next packet begins with a handshake; the endpoints forget nothing. */
async function forgetSession(lab: BalancerLab, client: Client): Promise<void> {
  const endpoint = `${VIP.v4}:${VIP.port}`;
  const peer = lab.swarmPublicKey;
  await runScript(
    `wg set wg0 peer ${peer} remove; wg set wg0 peer ${peer} endpoint ${endpoint} allowed-ips 10.99.0.0/16`,
    client.name,
  );
  // Endpoints take one initiation of a peer in 20 ms, and WireGuard rounds its time stamps to 17 ms.
  await new Promise((resolve) => setTimeout(resolve, 50));
}

async function outerOf(lab: BalancerLab, client: Client): Promise<[string, number]> {
  const holder = (await holderOf(lab, client)) ?? "";
  const text = await runScript("wg show wg0 endpoints", holder);
  const line = text.split("\n").find((candidate) => candidate.startsWith(client.sessions[0]?.peer.publicKey ?? "-"));
  const [address = "", port = ""] = (line?.split("\t")[1] ?? "").split(":");
  return [address, Number(port)];
}

async function memberPackets(table: NftTable): Promise<ReadonlyMap<number, number>> {
  const counters = await table.counters();
  return new Map([1, 2, 3].map((mark) => [mark, counters.get(`member_${mark}`) ?? 0]));
}

async function kernelText(): Promise<string> {
  const text = await runScript("nft -a list table netdev foreshift", "lb");
  return text.replaceAll(/ expires \S+/g, "").replaceAll(/packets \d+ bytes \d+/g, "");
}
