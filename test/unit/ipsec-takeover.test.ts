// A shadow that goes on with an SA: no number used twice, no packet accepted twice, whatever is lost; and smaller bounds fail here.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Crash, playCrash, playCrashes } from "../../bench/ipsec-crashes.ts";
import { ReplayWindow, SequenceSender } from "../../models/ipsec/replay-window.ts";
import { applyDelta, type ChildSa, CounterDelta, IpsecSession } from "../../models/ipsec/state.ts";
import { PeakRate, type PeakRates, type TakeoverMoment, takeOver } from "../../models/ipsec/takeover.ts";
import { parseInput } from "../../models/parse.ts";
import { seededRandom } from "../../models/random.ts";
import { holds } from "../support/property.ts";

const RUNS = 10_000;
const MUTANT_RUNS = 1_500;
const PEAK_ALONE = { factor: 2, linePps: 0 };

const crashes: fc.Arbitrary<Crash> = fc
  .record({
    esn: fc.boolean(),
    replayWindow: fc.integer({ min: 1, max: 128 }),
    outboundFrom: fc.integer({ min: 0, max: 2 ** 31 }),
    inboundFrom: fc.integer({ min: 0, max: 2 ** 31 }),
    nearWrap: fc.boolean(),
    outboundPps: fc.integer({ min: 1, max: 2_000 }),
    inboundPps: fc.integer({ min: 1, max: 2_000 }),
    burst: fc.integer({ min: 0, max: 198 }).map((percent) => percent / 100),
    updateIntervalMs: fc.integer({ min: 10, max: 200 }),
    updateLoss: fc.constantFrom(0, 0.1, 0.5, 0.9, 1),
    lagMsMax: fc.integer({ min: 0, max: 60 }),
    crashAtMs: fc.integer({ min: 0, max: 300 }),
    fencedAfterMs: fc.integer({ min: 0, max: 400 }),
    worksOn: fc.boolean(),
    passedBlock: fc.constantFrom(0, 1, 8),
  })
  .map(({ nearWrap, ...crash }) => {
    if (!nearWrap) return crash;
    const near = (from: number) => 2 ** 32 - 1 - (from % (crash.esn ? 2_000 : 2 ** 25));
    return { ...crash, outboundFrom: near(crash.outboundFrom), inboundFrom: near(crash.inboundFrom) };
  });

for (const [name, bound] of [
  ["the bound in force", undefined],
  ["the bound by the measured peak alone", PEAK_ALONE],
] as const) {
  test(`${name}: no number twice, no replay, and traffic goes on, over ${RUNS} crashes`, (context) => {
    let refused = 0;
    const property = fc.property(crashes, fc.integer(), (crash, seed) => {
      const result = playCrash(crash, { random: seededRandom(seed), ...(bound === undefined ? {} : { bound }) });
      const { refusal, ...counts } = result;
      assert.deepEqual(counts, { reused: 0, replayAccepted: 0, refusedByPeer: 0, refusedByShadow: 0 });
      if (refusal !== undefined) refused += 1;
    });
    holds(context, property, RUNS);
    assert.ok(refused > 0 && refused < RUNS / 2, `${refused} takeovers were refused`);
  });
}

test("half of the bound, no bound, and a window that is left open are caught", () => {
  const random = seededRandom(6);
  const half = playCrashes(MUTANT_RUNS, { random, bound: { factor: 1, linePps: 0 } });
  assert.ok(half.reused > 100 && half.replayAccepted > 100, JSON.stringify(half));
  const none = playCrashes(MUTANT_RUNS, { random, bound: { factor: 0, linePps: 0 } });
  assert.ok(none.reused > half.reused && none.replayAccepted > half.replayAccepted, JSON.stringify(none));
  const open = playCrashes(MUTANT_RUNS, {
    random,
    bound: PEAK_ALONE,
    spoil: (plan) => ({ ...plan, inboundSequence: plan.inboundSequence - plan.replayWindow }),
  });
  assert.ok(open.replayAccepted > 0 && open.reused === 0, JSON.stringify(open));
  const forgetful = playCrashes(MUTANT_RUNS, { random, passedLess: 64 });
  assert.ok(forgetful.replayAccepted > 0 && forgetful.reused === 0, JSON.stringify(forgetful));
});

test("what cannot be bounded is refused, with its reason", () => {
  const sa = {
    esn: false,
    outbound: { sequence: 1_000 },
    inbound: { sequence: 1_000, replayWindow: 32 },
    lifetime: { endsAtMs: 100_000, bytesMax: 10, packetsMax: 10 },
    bytes: 1,
    packets: 1,
  };
  const peaks = { outboundPps: 1_000, inboundPps: 1_000 };
  const reason = (change: object, moment: Partial<TakeoverMoment> = {}, rates: PeakRates = peaks) => {
    const outcome = takeOver({ ...sa, ...change }, rates, { ageMs: 100, nowMs: 1_000, ...moment });
    return outcome.kind === "go-on" ? outcome : outcome.reason;
  };
  assert.deepEqual(reason({}), {
    kind: "go-on",
    outboundSequence: 1_000 + 148_809 + 1,
    inboundSequence: 1_000 + 2 * (100 + 4) + 32,
    replayWindow: 32,
    outboundJump: 148_810,
    inboundJump: 208,
  });
  const skipped = (passedAtMost: number) => {
    const outcome = takeOver({ ...sa, inbound: { ...sa.inbound, passedAtMost } }, peaks, { ageMs: 100, nowMs: 1_000 });
    return outcome.kind === "go-on" ? outcome.inboundJump : undefined;
  };
  assert.deepEqual([skipped(1_007), skipped(900), skipped(2 ** 31)], [7, 0, 208], "what passed the balancer, and never more");
  assert.equal(reason({}, { ageMs: 5_001 }), "stale");
  assert.equal(reason({}, { ageMs: Number.NaN }), "bad-measure");
  assert.equal(reason({}, { ageMs: -1 }), "bad-measure");
  assert.equal(reason({}, { nowMs: 100_000 }), "expired");
  assert.equal(reason({}, {}, { ...peaks, inboundPps: undefined }), "rate-unknown");
  assert.equal(reason({ bytes: 10 }), "expired");
  assert.equal(reason({ packets: 10 }), "expired");
  assert.equal(reason({ outbound: { sequence: 2 ** 32 - 2 ** 24 } }), "sequence-near-its-end");
  assert.equal(reason({ inbound: { sequence: 2 ** 32 - 2 ** 24, replayWindow: 32 } }), "sequence-near-its-end");
  assert.equal(typeof reason({ esn: true, outbound: { sequence: 2 ** 32 - 2 ** 24 } }), "object");
  assert.equal(reason({}, {}, { outboundPps: 1e12, inboundPps: 1 }), "jump-too-long");
});

test("sender and window are those of Linux", () => {
  const last = new SequenceSender(false, 2 ** 32 - 2);
  assert.deepEqual([last.next(), last.next()], [2 ** 32 - 1, undefined]);
  const plain = new ReplayWindow(false, 4, 10);
  assert.deepEqual(
    [0, 6, 7, 7, 10, 10, 2 ** 31, 10].map((n) => plain.accept(n)),
    [false, false, true, false, true, false, true, false],
  );
  const wide = new ReplayWindow(true, 4, 2 ** 32 - 2);
  const crossing = [2 ** 32 + 1, 2 ** 32 - 1, 2 ** 32 - 1, 2 ** 32 - 3, 2 ** 32 + 2].map((n) => wide.accept(n));
  assert.deepEqual(crossing, [true, true, false, false, true]);
});

test("a peak is kept, and two readings too near to one another do not make one", () => {
  const peak = new PeakRate();
  assert.equal(peak.pps, undefined);
  peak.read(0, 0);
  peak.read(50, 1);
  peak.read(199, 200);
  peak.read(200, 1_200);
  assert.equal(peak.pps, 1_000);
});

test("a peak is no lower than the rate was, though its second reading came late", () => {
  const peak = new PeakRate();
  peak.read(0, 0, 20);
  // Counted at 130 ms, heard at 150: too soon to say, and then as if the way had taken all it may.
  peak.read(110, 110, 20);
  assert.equal(peak.pps, undefined);
  peak.read(130, 150, 20);
  assert.ok((peak.pps ?? 0) >= 1_000, `${peak.pps}`);
});

const child: ChildSa = {
  name: "net",
  reqid: 1,
  mode: "tunnel",
  esn: false,
  local: ["10.1.0.0/16"],
  remote: ["10.2.0.1/32"],
  outbound: { spi: 4_096, keys: "vault:v1:AAAA", sequence: 5 },
  inbound: { spi: 4_097, keys: "vault:v1:AAAA", sequence: 6, replayWindow: 32, seen: "3f" },
  lifetime: {},
  bytes: 0,
  packets: 11,
};
const session: IpsecSession = {
  endpoint: "ep-1",
  ike: {
    connection: "client-1",
    initiatorSpi: "0123456789abcdef",
    responderSpi: "fedcba9876543210",
    local: "198.19.0.1:4500",
    remote: "198.18.0.9:4500",
    localId: "gw",
    remoteId: "client-1",
  },
  children: [child],
  version: 3,
  updatedAtMs: 1_000,
};

test("a session's state holds keys sealed only, and nothing that is not its own", () => {
  assert.deepEqual(parseInput(IpsecSession, session, "session"), session);
  const withKey = { ...session, children: [{ ...child, outbound: { ...child.outbound, keys: "0x0102030405" } }] };
  assert.throws(() => parseInput(IpsecSession, withKey, "session"), /children\.0\.outbound\.keys.*transit sealed/);
  assert.throws(() => parseInput(IpsecSession, { ...session, key: "a" }, "session"), /INVALID|Unrecognized/i);
  assert.throws(() => parseInput(CounterDelta, { spi: 255, sequence: 1 }, "delta"), /spi/);
});

test("deltas move counters on, in their order alone, and never back", () => {
  const told = applyDelta(session, { version: 4, atMs: 1_050, counters: [{ spi: 4_096, sequence: 9 }] });
  assert.equal(told.children[0]?.outbound.sequence, 9);
  assert.equal(told.children[0]?.inbound.sequence, 6);
  assert.equal(told.updatedAtMs, 1_050);
  assert.equal(applyDelta(told, { version: 4, atMs: 1_060, counters: [{ spi: 4_096, sequence: 7 }] }), told);
  assert.throws(() => applyDelta(told, { version: 5, atMs: 1_060, counters: [{ spi: 4_096, sequence: 7 }] }), /back/);
  assert.throws(() => applyDelta(told, { version: 5, atMs: 1_060, counters: [{ spi: 9_999, sequence: 7 }] }), /no such SA/);
  const seen = applyDelta(told, { version: 5, atMs: 1_060, counters: [{ spi: 4_097, sequence: 7, seen: "7f" }] });
  assert.equal(seen.children[0]?.inbound.seen, "7f");
});
