// IPsec sessions from one agent by way of the collector's hub to the agents that shadow them, and what those do when they are to go on.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { pino } from "pino";
import type { Passed, TakeOverOrder } from "../../models/ipsec/wire.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { OwnSessions } from "../../workers/agent/ipsec/own-sessions.ts";
import { IpsecHub } from "../../workers/collector/ipsec-hub.ts";
import { eventually } from "../support/eventually.ts";
import { clientSession, KEYS, sealer, type TestEndpoint, testEndpoint } from "../support/ipsec-endpoint.ts";

const log = pino({ level: "silent" });

function threeGateways(names = ["gw-1", "gw-2", "gw-3"]) {
  const candidates = names.map((endpoint, at) => ({ endpoint, zone: `zone-${at}`, room: 100 }));
  const hub = new IpsecHub({ candidates: () => candidates, log });
  const gateways = names.map((name) => testEndpoint("lab", name, hub));
  const stop = async () => void (await Promise.all(gateways.map(({ gateway }) => gateway.stop())));
  return { candidates, hub, gateways: gateways as [TestEndpoint, TestEndpoint, TestEndpoint], stop };
}

function holds(endpoint: TestEndpoint, count: number): void {
  for (let n = 1; n <= count; n += 1) {
    const { sas, view } = clientSession(n);
    endpoint.kernel.sas.push(...sas);
    endpoint.views.push(view);
  }
}

function orderFor(endpoint: TestEndpoint, passed: readonly Passed[] = [], ids?: readonly string[]): TakeOverOrder {
  const sessions = (endpoint.steering?.sessions ?? []).filter(({ session }) => ids === undefined || ids.includes(session));
  return {
    operation: `take-over/${passed.length}`,
    from: "gw-1",
    sessions: sessions.map(({ session, connection, child }) => ({ session, connection, child, passed: [...passed] })),
  };
}

/** Traffic in both directions for long enough to measure a rate. */
async function carry(endpoint: TestEndpoint, n: number): Promise<void> {
  const [outbound, inbound] = clientSession(n).sas;
  for (let at = 0; at < 8; at += 1) {
    endpoint.kernel.count(outbound?.spi ?? 0, 2);
    endpoint.kernel.count(inbound?.spi ?? 0, 2);
    await delay(20);
  }
}

test("a session's shadow goes on with its SAs above every number that was told, and then has an IKE SA of its own", async () => {
  const { gateways, stop } = threeGateways();
  const [holder, ...others] = gateways;
  holds(holder, 1);
  for (const { gateway } of gateways) gateway.start();
  try {
    const shadow = await eventually("somebody shadows it", () => others.find(({ gateway }) => gateway.status().shadowed === 1));
    await eventually("its policies are there, and no SA", () => shadow.kernel.lines.length === 3);
    assert.ok(
      shadow.kernel.lines.every((line) => line.startsWith("xfrm policy update ") && line.includes(" priority 371327 ")),
    );
    await eventually("its keys are opened", () => shadow.gateway.status().opened);
    await eventually("its kernel has code for such SAs before they come", () => shadow.kernel.samples.length === 2);
    const [sample = "", out = ""] = shadow.kernel.samples;
    assert.match(sample, /^xfrm state add src 192\.0\.2\.1 .* aead rfc4106\(gcm\(aes\)\) 0x[0-9a-f]{40} 128 /);
    assert.match(out, /^xfrm state delete src 192\.0\.2\.1 dst 192\.0\.2\.2 proto esp spi 0x00000100$/);
    assert.ok(!sample.includes(KEYS.outbound) && !sample.includes(KEYS.inbound));
    await eventually("the balancer knows whose it is", () => holder.steering?.sessions[0]?.shadow !== undefined);
    assert.deepEqual(holder.steering?.sessions[0]?.innerAddresses, ["10.9.0.1"]);
    await carry(holder, 1);
    await eventually("the last counters are told", () => lastOf(shadow.heard.join("")) === 116);
    const spis = clientSession(1).sas.map(({ spi }) => spi);
    assert.equal(holder.kernel.paced.length, spis.length);
    assert.deepEqual(new Set(holder.kernel.paced), new Set(spis), "each SA is given its pace once it has spoken, and once");
    const [outcome] = await shadow.gateway.handovers.takeOver(orderFor(holder));
    assert.equal(outcome?.goneOn, 1, outcome?.refusals.join());
    const [inbound = "", outbound = ""] = shadow.kernel.lines.filter((line) => line.startsWith("xfrm state add"));
    assert.match(outbound, new RegExp(`src 198.19.0.1 dst 198.18.0.9 .*${KEYS.outbound}.* flag af-unspec limit time-hard 35`));
    assert.match(inbound, new RegExp(`src 198.18.0.9 dst 198.19.0.1 .*${KEYS.inbound}`));
    const numberOf = (line: string, name: string) => Number(new RegExp(`${name} (0x[0-9a-f]+)`).exec(line)?.[1]);
    assert.ok(numberOf(outbound, "replay-oseq") >= 116 + 2 * IPSEC_LIMITS.burstPackets);
    assert.ok(numberOf(inbound, "replay-seq") >= 106 + 32);
    assert.equal(numberOf(outbound, "replay-oseq") - 116, outcome?.outboundJump);
    await eventually("its handshake with the client", () => shadow.initiated.length === 1);
    assert.deepEqual(shadow.initiated, ["net/net"]);
    const again = await shadow.gateway.handovers.takeOver(orderFor(holder));
    assert.deepEqual(again, [outcome], "asked once more it answers the same, and does nothing");
    assert.equal(shadow.kernel.lines.filter((line) => line.startsWith("xfrm state add")).length, 2);
    const [later] = await shadow.gateway.handovers.takeOver({ ...orderFor(holder), operation: "another" });
    assert.match(later?.refusals.join() ?? "", /^gone-on-before/);
    assert.equal(shadow.kernel.lines.filter((line) => line.startsWith("xfrm state")).length, 2, "and undoes nothing");
    assert.ok(shadow.kernel.lines.every((line) => !line.includes("vault:")));
    const taken = clientSession(1).sas[1];
    shadow.kernel.sas.push(...clientSession(1).sas);
    await eventually("it says by which SPIs it takes ESP now", () => shadow.steering?.held.length === 1);
    assert.deepEqual(shadow.steering?.held, [taken?.spi]);
    for (const { heard } of gateways) {
      const text = heard.join("");
      assert.ok(!text.includes("0b0b0b") && !text.includes("1d1d1d"), "keys travel sealed alone");
    }
  } finally {
    await stop();
  }
});

test("with the balancer's word no more inbound numbers are skipped than passed it, and none when nothing did", async () => {
  const { gateways, stop } = threeGateways(["gw-1", "gw-2"]);
  const [holder, shadow] = gateways;
  holds(holder, 2);
  for (const { gateway } of gateways) gateway.start();
  try {
    await eventually("both are shadowed and opened", () => {
      const { shadowed, opened } = shadow.gateway.status();
      return shadowed === 2 && opened;
    });
    await carry(holder, 1);
    await carry(holder, 2);
    await eventually("the last counters are told", () => lastOf(shadow.heard.join("")) === 116);
    await eventually("the balancer knows of both", () => holder.steering?.sessions.length === 2);
    const [first, second] = [1, 2].map((n) => clientSession(n).sas[1]?.spi ?? 0);
    const outcomes = await shadow.gateway.handovers.takeOver(
      orderFor(holder, [
        { spi: first ?? 0, atMost: 109 },
        { spi: second ?? 0, nothing: true },
      ]),
    );
    assert.deepEqual(new Set(outcomes.map(({ inboundJump }) => inboundJump)), new Set([0, 3]));
    assert.ok(outcomes.every(({ outboundJump, goneOn }) => goneOn === 1 && outboundJump > IPSEC_LIMITS.linePps / 100));
  } finally {
    await stop();
  }
});

test("what is stale, not known, or of which the keys do not open, gets a new handshake at once and no SA", async () => {
  const { gateways, hub, stop } = threeGateways(["gw-1", "gw-2"]);
  const [holder, shadow] = gateways;
  holds(holder, 1);
  for (const { gateway } of gateways) gateway.start();
  try {
    await eventually(
      "it is shadowed and opened",
      () => shadow.gateway.status().shadowed === 1 && shadow.gateway.status().opened,
    );
    const { session } = holder.steering?.sessions[0] ?? { session: "" };
    const tooYoung = await shadow.gateway.handovers.takeOver({ ...orderFor(holder), operation: "young" });
    assert.match(tooYoung[0]?.refusals.join() ?? "", /^rate-unknown/);
    const unknown = { session: "0".repeat(32), connection: "net", child: "net", passed: [] };
    const [nobodys] = await shadow.gateway.handovers.takeOver({ operation: "unknown", from: "gw-1", sessions: [unknown] });
    assert.match(nobodys?.refusals.join() ?? "", /^not-shadowed/);
    await carry(holder, 1);
    const stolen = (await sealer.seal([{ context: "gw-1 out 1", value: "another's" }]))[0] ?? "";
    const copy = [...shadow.heard.join("").matchAll(/\{"ipsec":.*\}/g)].map(([text]) => JSON.parse(text)).at(-1).ipsec;
    const child = copy.children[0];
    const swapped = {
      ...copy,
      version: Date.now() + 60_000,
      children: [{ ...child, outbound: { ...child.outbound, keys: stolen } }],
    };
    delete swapped.shadow;
    hub.take({ swarm: "lab", endpoint: "gw-1", sentAtMs: Date.now(), copies: [swapped], deltas: [], gone: [] });
    await eventually(
      "the exchanged keys were refused",
      () => shadow.gateway.status().opened && shadow.heard.join("").includes(stolen),
    );
    await delay(IPSEC_LIMITS.openIntervalMs * 2);
    const [exchanged] = await shadow.gateway.handovers.takeOver({ ...orderFor(holder, [], [session]), operation: "exchanged" });
    assert.match(exchanged?.refusals.join() ?? "", /^keys-not-opened/);
    assert.equal(shadow.kernel.lines.filter((line) => line.startsWith("xfrm state add")).length, 0);
    await eventually("each has its handshake", () => shadow.initiated.length === 3);
  } finally {
    await stop();
  }
});

test("SAs that the kernel refuses leave no half behind, and their client gets a new handshake", async () => {
  const { gateways, stop } = threeGateways(["gw-1", "gw-2"]);
  const [holder, shadow] = gateways;
  holds(holder, 2);
  for (const { gateway } of gateways) gateway.start();
  try {
    await eventually(
      "both are shadowed and opened",
      () => shadow.gateway.status().shadowed === 2 && shadow.gateway.status().opened,
    );
    await carry(holder, 1);
    await carry(holder, 2);
    await eventually("the last counters are told", () => lastOf(shadow.heard.join("")) === 116);
    await eventually("the balancer knows of both", () => holder.steering?.sessions.length === 2);
    const odd = clientSession(2).sas[0];
    shadow.kernel.refuses = `add src 198.19.0.1 dst ${odd?.destination}`;
    const outcomes = await shadow.gateway.handovers.takeOver(orderFor(holder));
    assert.deepEqual(new Set(outcomes.map(({ goneOn }) => goneOn)), new Set([0, 1]));
    const spi = (odd?.spi ?? 0).toString(16);
    assert.ok(shadow.kernel.lines.some((line) => line.startsWith("xfrm state delete") && line.includes(spi)));
    await eventually("both have their handshakes", () => shadow.initiated.length === 2);
  } finally {
    await stop();
  }
});

test("a gateway that is left takes its SAs out and says its last numbers, which its shadow goes on from whatever it heard before", async () => {
  const { gateways, stop } = threeGateways(["gw-1", "gw-2"]);
  const [holder, shadow] = gateways;
  holds(holder, 1);
  for (const { gateway } of gateways) gateway.start();
  try {
    await eventually(
      "it is shadowed and opened",
      () => shadow.gateway.status().shadowed === 1 && shadow.gateway.status().opened,
    );
    await carry(holder, 1);
    await eventually("the last counters are told", () => lastOf(shadow.heard.join("")) === 116);
    const order = orderFor(holder);
    const [outbound, inbound] = clientSession(1).sas;
    const at = holder.kernel.sas.findIndex(({ spi }) => spi === outbound?.spi);
    const state = holder.kernel.sas[at];
    assert.ok(state !== undefined);
    // Packets that no event has told of.
    holder.kernel.sas[at] = { ...state, outboundSequence: 5_000 };
    const spis = [inbound?.spi ?? 0];
    const handedOver = await holder.gateway.handovers.handOver({ operation: "leave", spis });
    assert.deepEqual(
      new Map(handedOver.counters.map(({ spi, sequence }) => [spi, sequence])),
      new Map([
        [outbound?.spi, 5_000],
        [inbound?.spi, 106],
      ]),
    );
    assert.equal(holder.kernel.lines.filter((line) => line.startsWith("xfrm state delete")).length, 2);
    assert.equal(
      await holder.gateway.handovers.handOver({ operation: "leave", spis }),
      handedOver,
      "asked again it says the same",
    );
    holder.kernel.sas.length = 0;
    await eventually("it holds it no more", () => holder.gateway.status().own === 0);
    await delay(IPSEC_LIMITS.updateIntervalMs * 3);
    assert.equal(shadow.gateway.status().shadowed, 1, "of its end nothing was told");
    const [outcome] = await shadow.gateway.handovers.takeOver({ ...order, handedOver });
    assert.equal(outcome?.goneOn, 1, outcome?.refusals.join());
    assert.equal(outcome?.ageMs, handedOver.ageMs);
    const line = shadow.kernel.lines.find((one) => one.startsWith("xfrm state add src 198.19.0.1")) ?? "";
    const next = Number(/replay-oseq (0x[0-9a-f]+)/.exec(line)?.[1]);
    assert.ok(next >= 5_000 + 2 * IPSEC_LIMITS.burstPackets && next === 5_000 + (outcome?.outboundJump ?? 0));
    holder.kernel.sas.push(...clientSession(1).sas);
    holder.kernel.refuses = "delete";
    await assert.rejects(holder.gateway.handovers.handOver({ operation: "again", spis }), "SAs that stay are not handed over");
  } finally {
    await stop();
  }
});

test("a rekey is told as a whole copy, an end as an end, and retired SAs leave the kernel with all that sends beside them", async () => {
  const { gateways, stop } = threeGateways(["gw-1", "gw-2"]);
  const [holder, shadow] = gateways;
  holds(holder, 1);
  for (const { gateway } of gateways) gateway.start();
  try {
    await eventually("it is shadowed", () => shadow.gateway.status().shadowed === 1);
    const { sas, view } = clientSession(1);
    const rekeyed = sas.map((state) => ({ ...state, spi: state.spi + 256, inboundSequence: 0, outboundSequence: 0 }));
    holder.kernel.sas.push(...rekeyed);
    const children = view.children.map((child) => ({
      ...child,
      inboundSpi: child.inboundSpi + 256,
      outboundSpi: child.outboundSpi + 256,
    }));
    holder.views.splice(0, 1, { ...view, children });
    const spi = rekeyed[1]?.spi ?? 0;
    await eventually("the new SPI is told", () => holder.steering?.sessions[0]?.inbound[0]?.spi === spi);
    assert.deepEqual(holder.steering?.held.length, 2, "the old SPI is still taken");
    await eventually("the shadow has the new SAs", () => shadow.heard.join("").includes(`"spi":${spi},"keys"`));
    assert.equal(await holder.gateway.handovers.retire({ spis: [spi] }), 3, "and what sends by the same policy, old and new");
    const deleted = holder.kernel.lines.filter((line) => line.startsWith("xfrm state delete"));
    assert.equal(deleted.filter((line) => line.includes("src 198.19.0.1 ")).length, 2);
    holder.kernel.sas.length = 0;
    await eventually("it is gone", () => shadow.gateway.status().shadowed === 0);
  } finally {
    await stop();
  }
});

test("a word tells of what moved alone, and shadows are named once, until they are others", () => {
  const candidates = ["gw-2", "gw-3"].map((endpoint, at) => ({ endpoint, zone: `zone-${at}`, room: 100 }));
  const hub = new IpsecHub({ candidates: () => candidates, log });
  const own = new OwnSessions("gw-1", 0);
  const sessions = [1, 2, 3].map((n) => {
    const { sas, view } = clientSession(n);
    return { sas: [...sas], view };
  });
  const read = (atMs: number) =>
    own.observe(
      sessions.flatMap(({ sas }) => sas),
      sessions.map(({ view }) => view),
      { atMs, untilMs: atMs },
    );
  const tell = (nowMs: number) => {
    const untold = own.untold(nowMs);
    if (untold === undefined) return { copies: [], moved: [], named: undefined };
    const { copies, deltas, gone } = untold;
    const word = { swarm: "lab", endpoint: "gw-1", sentAtMs: nowMs, copies: [...copies], deltas: [...deltas], gone: [...gone] };
    const answer = hub.take(word, own.shadowsVersion);
    own.told(untold, answer);
    return { copies, moved: deltas.map(({ session }) => session), named: answer.shadows };
  };
  const speak = (n: number, outboundSequence: number, atMs: number) => {
    const sas = sessions[n]?.sas;
    const sa = sas?.[0];
    assert.ok(sas !== undefined && sa !== undefined);
    sas[0] = { ...sa, outboundSequence };
    const { destination, spi, reqid, seen } = sa;
    const counted = { inboundSequence: 0, outboundSequence, bytes: 0, packets: outboundSequence };
    own.heard({ kind: "counters", destination, spi, reqid, seen, ...counted }, atMs);
  };
  const ids = sessions.map(({ view }) => `${view.initiatorSpi}${view.responderSpi}`);
  read(1_000);
  assert.deepEqual(tell(1_000).copies, [], "of what is not sealed nothing is told");
  for (const { key } of own.unsealed()) own.sealed(key, "vault:v1:AAAA");
  assert.equal(tell(1_010).copies.length, 3);
  assert.deepEqual(tell(1_020), { copies: [], moved: [], named: undefined });
  speak(1, 150, 1_060);
  speak(1, 160, 1_070);
  assert.deepEqual(tell(1_070), { copies: [], moved: [ids[1]], named: undefined });
  speak(2, 170, 1_080);
  const lost = own.untold(1_080);
  assert.equal(lost?.deltas[0]?.session, ids[2]);
  speak(0, 180, 1_090);
  assert.deepEqual(new Set(tell(1_090).moved), new Set([ids[0], ids[2]]), "a word that was lost is told with the next");
  candidates.splice(0, 1);
  hub.check(1_100);
  speak(0, 190, 1_110);
  assert.deepEqual(tell(1_110).named, Object.fromEntries(ids.map((id) => [id, "gw-3"])));
  assert.ok(own.steered().every(({ shadow }) => shadow === "gw-3"));
  read(2_600);
  assert.deepEqual(new Set(tell(2_600).moved), new Set(ids), "after a reading all are told, so that none grows stale");
  sessions.pop();
  read(4_100);
  assert.equal(tell(4_100).moved.length, 2);
  assert.equal(tell(4_110).moved.length, 0);
});

/** The last outbound number that was told. */
function lastOf(heard: string): number {
  const told = [...heard.matchAll(/"spi":32\d{8},"sequence":(\d+)/g)].map(([, sequence]) => Number(sequence));
  return Math.max(0, ...told);
}
