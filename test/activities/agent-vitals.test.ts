// What the agent measures, on this machine's own kernel: CPU of real processes, real sockets, real counters.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, describe, test } from "node:test";
import { counterMetric, gaugeMetric } from "../../models/telemetry.ts";
import { ClockOffset } from "../../workers/agent/clock-offset.ts";
import { interfaceCounters, networkErrors, readInterfaces } from "../../workers/agent/kernel-counters.ts";
import { NamespaceReader } from "../../workers/agent/namespace-use.ts";
import { PathProber } from "../../workers/agent/path-prober.ts";
import { TunnelVitals } from "../../workers/agent/tunnel-vitals.ts";
import { VitalsReader } from "../../workers/agent/vitals.ts";
import { eventually } from "../support/eventually.ts";
import { sessionOf } from "../support/sessions.ts";

test("every name that is sent is in the catalogue", () => {
  for (const ownMachine of [true, false]) {
    const { gauges, counters } = new VitalsReader({ device: "wg0", ownMachine }).read();
    for (const name of Object.keys(gauges)) assert.ok(gaugeMetric(name), name);
    for (const name of Object.keys(counters)) assert.ok(counterMetric(name), name);
    for (const name of ["cpuUserS", "cpuSystemS", "cpuStealS", "udpInErrors", "tcpRetransmits", "oomKills", "softnetDrops"])
      assert.ok(counters[name] !== undefined && counters[name] >= 0, name);
  }
});

test("a process of the namespace counts by what it used, and its time stays when it has ended", async () => {
  const reader = new NamespaceReader();
  const child = spawn(process.execPath, ["-e", "for (;;);"], { stdio: "ignore" });
  try {
    const before = reader.read(0);
    await eventually("the child computes", () => reader.read(0).userS - before.userS > 0.2, 20_000);
  } finally {
    child.kill("SIGKILL");
  }
  const during = reader.read(0);
  await eventually("it has ended", () => child.signalCode !== null);
  const left = reader.read(1e9);
  assert.ok(left.userS >= during.userS && left.systemS >= during.systemS);
  assert.ok((left.waitS ?? 0) >= (during.waitS ?? 0) && left.memoryBytes > 0);
});

test("CPU of the machine: what a busy process uses shows", async () => {
  const reader = new VitalsReader({ device: "wg0", ownMachine: true });
  assert.equal(reader.read().vitals.cpuShare, undefined);
  const until = performance.now() + 300;
  while (performance.now() < until);
  const { vitals } = reader.read();
  assert.ok((vitals.cpuShare ?? 0) > 0.1 && (vitals.cpuShare ?? 2) <= 1, `${vitals.cpuShare}`);
});

test("counters of interfaces and of errors grow with what happens", async () => {
  const before = networkErrors();
  const { createSocket } = await import("node:dgram");
  const socket = createSocket("udp4");
  // Nobody listens there: the kernel counts a datagram without a port.
  await new Promise<void>((resolve) => socket.send("x", 1, "127.0.0.1", () => resolve()));
  await eventually("it is counted", () => (networkErrors()["udpNoPorts"] ?? 0) > (before["udpNoPorts"] ?? 0));
  socket.close();
  const names = Object.keys(interfaceCounters(readInterfaces()));
  assert.ok(names.every((name) => !name.endsWith(":lo")));
});

describe("paths", () => {
  const prober = new PathProber();
  after(() => prober.close());

  test("an address that refuses has a round trip and no loss; one that never answers is not spoken of", async () => {
    prober.measure([
      { label: "near", address: "127.0.0.1" },
      { label: "from", address: "127.0.0.2", from: "127.0.0.3" },
      // Not an address of this machine, and not routed: TEST-NET-1.
      { label: "silent", address: "192.0.2.1", from: "127.0.0.1" },
    ]);
    await eventually("jitter is known", () => prober.gauges()["pathJitterMs:near"] !== undefined, 10_000);
    await eventually("the other path's turn", () => prober.gauges()["pathRttMs:from"] !== undefined, 10_000);
    const gauges = prober.gauges();
    assert.equal(gauges["pathLossShare:near"], 0);
    assert.ok((gauges["pathRttMs:near"] ?? -1) > 0 && (gauges["pathRttMs:near"] ?? 1e9) < 900);
    assert.equal(gauges["pathLossShare:from"], 0);
    assert.deepEqual(
      Object.keys(gauges).filter((name) => name.endsWith(":silent")),
      [],
    );
    for (const name of Object.keys(gauges)) assert.ok(gaugeMetric(name), name);
  });

  test("a path that is measured no more is forgotten; one that stays is not begun anew", () => {
    prober.measure([{ label: "near", address: "127.0.0.1" }]);
    assert.equal(prober.gauges()["pathLossShare:near"], 0);
    assert.deepEqual(
      Object.keys(prober.gauges()).filter((name) => name.endsWith(":from")),
      [],
    );
    prober.measure([{ label: "near", address: "127.0.0.9" }]);
    assert.deepEqual(prober.gauges(), {});
  });
});

describe("clocks", () => {
  const exchange = (aheadMs: number, wayMs: number, backMs: number) => ({
    sentAtMs: 1_000 + aheadMs,
    receivedThereAtMs: 1_000 + wayMs,
    answeredThereAtMs: 1_002 + wayMs,
    answeredAtMs: 1_002 + wayMs + backMs + aheadMs,
  });

  test("the offset is what the quickest of the last exchanges says", () => {
    const clock = new ClockOffset();
    assert.deepEqual(clock.gauges(), {});
    clock.note(exchange(500, 1, 1));
    clock.note(exchange(500, 100, 0));
    assert.deepEqual(clock.gauges(), { clockOffsetMs: 500, collectorRttMs: 100 });
    for (let n = 0; n < 8; n += 1) clock.note(exchange(-20, 3, 3));
    assert.deepEqual(clock.gauges(), { clockOffsetMs: -20, collectorRttMs: 6 });
  });

  test("an exchange in which a clock was set is left out", () => {
    const clock = new ClockOffset();
    clock.note({ sentAtMs: 5_000, answeredAtMs: 4_000, receivedThereAtMs: 5_000, answeredThereAtMs: 5_001 });
    assert.deepEqual(clock.gauges(), {});
  });
});

test("handshakes, restarts, ages and lateness", () => {
  const vitals = new TunnelVitals();
  const now = Date.now();
  const at = (n: number, ageS: number) => sessionOf(n, "ep-1", { lastHandshakeMs: now - ageS * 1_000 });
  vitals.up(false);
  vitals.up(true);
  assert.deepEqual([vitals.counters([]).tunnelRestarts, vitals.counters([at(1, 9), at(2, 5)]).handshakes], [0, 2]);
  vitals.up(true);
  vitals.up(false);
  vitals.restarted();
  vitals.up(true);
  vitals.answered(3);
  vitals.answered(8);
  const counters = vitals.counters([at(1, 9), at(2, 1), at(3, 2)]);
  assert.deepEqual([counters.tunnelRestarts, counters.handshakes], [1, 4]);
  for (const afterDueMs of [-180, 2, 250, 7]) vitals.cameRound(afterDueMs);
  const gauges = vitals.gauges([at(1, 9), at(2, 1), at(3, 2)], now);
  assert.deepEqual([gauges.handshakeAgeSP50, gauges.handshakeAgeSMax, gauges.deviceAnswerMsMax], [2, 9, 8]);
  assert.equal(gauges.agentLateMsMax, 250);
  assert.deepEqual([vitals.gauges([], now).deviceAnswerMsMax, vitals.gauges([], now).agentLateMsMax], [0, 0]);
});
