/** IPsec's packet path on real nftables: ESP by SPI, bare and inside UDP, IKE by its SPIs and clients, and an SPI that moves. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { NamespaceCommands, NftTable } from "../../drivers/balancer/nftables.ts";
import {
  IPSEC_DECLARED,
  IPSEC_TABLE,
  type IpsecSteeringInput,
  ipsecRuleset,
  passedAtMost,
} from "../../drivers/balancer/nftables-ipsec-ruleset.ts";
import { insideNamespace, run } from "../support/namespace.ts";

const VIP = "198.19.0.1";
const CLIENT = "198.18.0.9";
const IKE_SPI = "0123456789abcdef";
/** Bare ESP is sent as UDP whose protocol number is changed on the way out: its ports are then the SPI. */
const [KNOWN, OTHER, UNKNOWN] = [0xc001_0001, 0xc001_0002, 0xc001_0003];
const SENDER = `const [packets] = process.argv.slice(1).map((text) => JSON.parse(text));
for (const { from, port, to, toPort, payload } of packets) {
  const socket = require("dgram").createSocket({ type: "udp4", reuseAddr: true });
  socket.bind(port, from, () => socket.send(Buffer.from(payload, "hex"), toPort, to, () => socket.close()));
}`;

if (insideNamespace(import.meta.url)) {
  layNetwork();
  const commands = new NamespaceCommands(undefined);
  const devices = await commands.devices();
  const table = new NftTable(commands, IPSEC_TABLE, IPSEC_DECLARED);
  const base: IpsecSteeringInput = {
    owner: "lab",
    vip: VIP,
    edgeDevice: "edge",
    edgeDeviceIndex: devices.get("edge") ?? 0,
    buckets: [1],
    slots: [1, 2].map((mark) => ({
      mark,
      device: `ep-${mark}`,
      mac: `02:00:00:00:01:0${mark}`,
      deviceIndex: devices.get(`ep-${mark}`),
    })),
    fenced: new Set(),
    spis: new Map([
      [KNOWN, 1],
      [OTHER, 2],
    ]),
    pins: new Map(),
  };
  await table.apply(ipsecRuleset(base));

  /** Which counters moved while these were sent. */
  const counted = async (host: string, packets: readonly object[]) => {
    const before = await table.counters();
    run("nsenter", `--net=/run/netns/${host}`, process.execPath, "-e", SENDER, JSON.stringify(packets));
    const after = await table.counters();
    return Object.fromEntries([...after].map(([name, n]) => [name, n - (before.get(name) ?? 0)]).filter(([, n]) => n !== 0));
  };
  const passed = async (spi: number, known: number) => passedAtMost(await table.elements("passed"), spi, known);
  const esp = (spi: number) => ({ from: CLIENT, port: spi >>> 16, to: VIP, toPort: spi & 0xffff, payload: "00000001" });
  const natt = (spi: number) => ({ from: CLIENT, port: 4500, to: VIP, toPort: 4500, payload: `${spi.toString(16)}00000001` });
  const ike = (spi: string, port = 500) => ({
    from: CLIENT,
    port,
    to: VIP,
    toPort: port,
    payload: `${port === 4500 ? "00000000" : ""}${spi}${"00".repeat(20)}`,
  });
  const answer = (spi: string, port = 500) => ({ ...ike(spi, port), from: VIP, to: CLIENT });

  test("ESP goes by its SPI, bare and inside UDP, and a move is one transaction that nothing else notices", async () => {
    assert.deepEqual(await counted("cl", [esp(KNOWN), natt(KNOWN)]), { by_spi: 2, member_1: 2 });
    assert.deepEqual(await counted("cl", [esp(OTHER), natt(OTHER)]), { by_spi: 2, member_2: 2 });
    const transactions = table.transactions;
    const moved = { ...base, spis: new Map([...base.spis, [KNOWN, 2]]) };
    assert.equal(await table.apply(ipsecRuleset(moved)), true);
    assert.equal(table.transactions, transactions + 1);
    assert.deepEqual(await counted("cl", [esp(KNOWN), natt(KNOWN)]), { by_spi: 2, member_2: 2 });
    await table.apply(ipsecRuleset(base));
  });

  test("up to which number an SPI's packets passed is known, bare and inside UDP", async () => {
    await table.apply(ipsecRuleset(base));
    // Where a bare packet has its number, the sender's has UDP's length, 12, and its checksum.
    await counted("cl", [esp(KNOWN)]);
    const number = (await passed(KNOWN, 1)) ?? 0;
    assert.deepEqual([number >>> 16, number % 8], [12, 7]);
    await counted("cl", [{ ...natt(OTHER), payload: `${OTHER.toString(16)}0100002a` }]);
    assert.equal(await passed(OTHER, 40), 0x0100_002f);
    assert.equal(await passed(UNKNOWN, 1), undefined);
  });

  test("a restarted balancer finds its table right and touches nothing", async () => {
    const again = new NftTable(commands, IPSEC_TABLE, IPSEC_DECLARED);
    assert.equal(await again.apply(ipsecRuleset(base)), false);
  });

  test("an SPI that was not told goes to who made the client's IKE SA, and a pin overrules that", async () => {
    assert.deepEqual(await counted("cl", [esp(UNKNOWN)]), { unknown_spi: 1, by_hash: 1, member_1: 1 });
    await counted("m2", [answer(IKE_SPI)]);
    assert.deepEqual(await counted("cl", [esp(UNKNOWN), natt(UNKNOWN)]), { unknown_spi: 2, by_client: 2, member_2: 2 });
    await table.apply(ipsecRuleset({ ...base, pins: new Map([[CLIENT, 1]]) }));
    assert.deepEqual(await counted("cl", [ike("aaaaaaaaaaaaaaaa")]), { by_client: 1, member_1: 1 });
    assert.deepEqual(await counted("cl", [ike(IKE_SPI)]), { by_ike_spi: 1, member_2: 1 }, "an IKE SA stays where it is");
    await table.apply(ipsecRuleset(base));
  });

  test("IKE is told from ESP on port 4500, an IKE SA is learned there too, and a keepalive follows its client", async () => {
    await counted("m2", [answer("bbbbbbbbbbbbbbbb", 4500)]);
    assert.deepEqual(await counted("cl", [ike("bbbbbbbbbbbbbbbb", 4500)]), { by_ike_spi: 1, member_2: 1 });
    assert.deepEqual(await counted("cl", [{ ...natt(1), payload: "ff" }]), { by_client: 1, member_2: 1 });
  });

  test("a fenced member teaches nothing and gets nothing new", async () => {
    await table.apply(ipsecRuleset({ ...base, fenced: new Set([2]) }));
    assert.deepEqual(await counted("m2", [answer("cccccccccccccccc")]), { fenced: 1 });
    assert.equal((await table.elements("ike_sas")).size, 2);
    assert.deepEqual(await counted("cl", [ike(IKE_SPI)]), { by_ike_spi: 1, by_client: 1, by_hash: 1, member_1: 1 });
    await table.apply(ipsecRuleset(base));
  });

  test("what a fenced member sends of ESP, bare and inside UDP, goes nowhere: it may have been frozen, and its SAs are another's", async () => {
    const sent = [esp(KNOWN), natt(KNOWN)].map((packet) => ({ ...packet, from: VIP, to: CLIENT }));
    assert.deepEqual(await counted("m2", sent), {});
    await table.apply(ipsecRuleset({ ...base, fenced: new Set([2]) }));
    assert.deepEqual(await counted("m2", sent), { fenced: 2 });
    assert.deepEqual(await counted("m1", sent), {});
    await table.apply(ipsecRuleset(base));
  });

  test("clients write no map, whatever they send", async () => {
    const packets = Array.from({ length: 50 }, (_, n) => ike((n + 1).toString(16).padStart(16, "d")));
    await counted("cl", [...packets, ...packets.map((packet, n) => ({ ...packet, ...natt(0xd000_0000 + n) }))]);
    assert.equal((await table.elements("ike_sas")).size, 2);
    assert.equal((await table.elements("ike_clients")).size, 1);
  });
}

/** The balancer here, a client behind `edge`, and two members that own the VIP. */
function layNetwork(): void {
  const script = `set -e
    ip link set lo up
    for host in cl m1 m2; do ip netns add $host; done
    ip link add edge type veth peer name eth0 netns cl
    for n in 1 2; do
      ip link add ep-$n type veth peer name eth0 netns m$n
      ip -n m$n addr add ${VIP}/32 dev lo
      ip -n m$n link set lo up
      ip -n m$n link set eth0 address 02:00:00:00:01:0$n up
      ip -n m$n route add ${CLIENT} dev eth0 src ${VIP}
      ip -n m$n neigh add ${CLIENT} lladdr 02:00:00:00:02:01 dev eth0
      ip link set ep-$n up
    done
    ip -n cl link set lo up
    ip -n cl addr add ${CLIENT}/24 dev eth0
    ip -n cl link set eth0 up
    ip -n cl route add ${VIP} dev eth0
    ip -n cl neigh add ${VIP} lladdr 02:00:00:00:02:02 dev eth0
    ip link set edge up
    for host in cl m1 m2; do ip netns exec $host nft -f - <<'END'
table ip bare {
  chain out {
    type filter hook postrouting priority 300
    udp sport 0xc001 ip protocol set 50
  }
}
END
    done`;
  const { status, stderr } = spawnSync("sh", ["-c", script], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
}
