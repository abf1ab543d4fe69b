import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { ClientTraffic, PacketCounters } from "../../lab/lab-client.ts";
import { felt, longestGapWithin, quantile, recoveries } from "../../lab/measure.ts";

const quiet: PacketCounters = {
  sent: 100,
  received: 100,
  lost: 0,
  duplicated: 0,
  reordered: 0,
  longestGapMs: 12,
  longestGapEndedAtMs: 1_000,
};

function client(up: Partial<PacketCounters>, down: Partial<PacketCounters> = {}): ClientTraffic {
  return {
    client: "client-1",
    publicKey: "key",
    innerAddress: "10.66.1.1",
    up: { ...quiet, ...up },
    down: { ...quiet, ...down },
    tcp: { broken: 0, longestStallMs: 0, bytes: 1 },
  };
}

describe("what clients felt", () => {
  it("sums both directions of every client and takes the longest gap of any", () => {
    const clients = [client({ lost: 2, longestGapMs: 40 }, { lost: 3 }), client({ duplicated: 1 }, { longestGapMs: 70 })];
    const cost = felt({ sinceMs: 0, countedToMs: 0, clients });
    assert.deepEqual(cost, { packetsSent: 400, packetsLost: 5, packetsDuplicated: 1, tcpBroken: 0, longestGapMs: 70 });
  });

  it("measures recovery from the fault to the end of the gap, in the slower direction", () => {
    const clients = [
      client({ longestGapMs: 300, longestGapEndedAtMs: 5_300 }, { longestGapMs: 320, longestGapEndedAtMs: 5_350 }),
    ];
    assert.deepEqual(recoveries({ sinceMs: 0, countedToMs: 0, clients }, 5_000, 100), [350]);
  });

  it("finds the longest gap that reaches into a span, in either direction, and else names a bound", () => {
    const gaps = [
      { ms: 90, endedAtMs: 1_000 },
      { ms: 30, endedAtMs: 2_010 },
      { ms: 20, endedAtMs: 2_500 },
      { ms: 80, endedAtMs: 4_000 },
    ];
    const one = client({ gaps }, { gaps: [{ ms: 25, endedAtMs: 2_100 }] });
    assert.equal(longestGapWithin(one, 2_000, 3_000), 30, "it began before the span and ended within");
    assert.equal(longestGapWithin(one, 2_020, 3_930), 80, "it ended after the span and began within");
    assert.equal(longestGapWithin(one, 1_500, 1_600), 25, "shorter than the shortest that was kept, of the worse direction");
  });

  it("takes neither short gaps nor gaps from before the fault for its effect", () => {
    const clients = [
      client({ longestGapMs: 30, longestGapEndedAtMs: 5_300 }),
      client({ longestGapMs: 500, longestGapEndedAtMs: 4_900 }),
    ];
    assert.deepEqual(recoveries({ sinceMs: 0, countedToMs: 0, clients }, 5_000, 100), []);
  });
});

describe("quantile", () => {
  it("is a value of the sample with at least its share of the sample at or below it", () => {
    fc.assert(
      fc.property(fc.array(fc.integer(), { minLength: 1 }), fc.double({ min: 0, max: 1, noNaN: true }), (values, share) => {
        const found = quantile(values, share);
        assert.ok(found !== undefined && values.includes(found));
        assert.ok(values.filter((value) => value <= found).length >= share * values.length);
      }),
    );
  });

  it("is undefined for nothing", () => {
    assert.equal(quantile([], 0.5), undefined);
  });
});
