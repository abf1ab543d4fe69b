/** Cleaning of telemetry: whatever agents send, what is believed is possible, in its place in time, and taken once. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { Heartbeat } from "../../models/observation.ts";
import { counterMetric, gaugeMetric, METRICS, plausible, splitSeries } from "../../models/telemetry.ts";
import { type Cleaned, type CleanState, cleanHeartbeat, counterRate } from "../../models/telemetry-clean.ts";
import { holds } from "../support/property.ts";
import { heartbeatOf } from "../support/sessions.ts";

const T0 = 1_700_000_000_000;

/** A heartbeat `second` seconds into an agent's life, received a millisecond later unless it is said otherwise. */
function beat(second: number, over: Partial<Heartbeat> = {}, counters: Record<string, number | null> = {}): Heartbeat {
  const sample = { monotonicMs: second * 1_000, gauges: {}, counters };
  return heartbeatOf("ep-1", second, { atMs: T0 + second * 1_000, startedAtMs: T0, sample, ...over });
}

/** Cleans one after another, each received a millisecond after it was sent. */
function run(heartbeats: readonly Heartbeat[], receivedAtMs = (one: Heartbeat) => one.atMs + 1): Cleaned[] {
  let state: CleanState | undefined;
  return heartbeats.map((heartbeat) => {
    const cleaned = cleanHeartbeat(state, heartbeat, receivedAtMs(heartbeat));
    state = cleaned.state;
    return cleaned;
  });
}

const valuesOf = (cleaned: readonly Cleaned[], series: string) => cleaned.map(({ values }) => values.get(series));

describe("counters", () => {
  test("become rates; a lower reading is a reset and no rate; a gap is no rate", () => {
    const cleaned = run([
      beat(1, {}, { udpInErrors: 10 }),
      beat(2, {}, { udpInErrors: 15 }),
      beat(3, {}, { udpInErrors: 2 }),
      beat(4, {}, { udpInErrors: 3 }),
      beat(14, {}, { udpInErrors: 1_000 }),
      beat(15, {}, { udpInErrors: 1_001 }),
    ]);
    assert.deepEqual(valuesOf(cleaned, "udpInErrorsPerS"), [undefined, 5, undefined, 1, undefined, 1]);
    assert.equal(cleaned[2]?.faults.reset, 1);
    assert.equal(cleaned[4]?.faults.gap, 1);
  });

  test("a counter that was not there for a while has a gap of its own", () => {
    const cleaned = run([0, 1, 2, 3, 4, 5].map((s) => beat(s, {}, s > 0 && s < 5 ? {} : { udpInErrors: s })));
    assert.equal(cleaned[5]?.values.get("udpInErrorsPerS"), undefined);
    const back = run([beat(0, {}, { udpInErrors: 0 }), beat(1), beat(2, {}, { udpInErrors: 4 })]);
    assert.equal(back[2]?.values.get("udpInErrorsPerS"), undefined);
  });

  test("an agent that starts anew is a restart, not a rate", () => {
    const again = beat(1, { startedAtMs: T0 + 5_000, atMs: T0 + 6_000 }, { udpInErrors: 90 });
    const cleaned = run([beat(4, {}, { udpInErrors: 50 }), beat(5, {}, { udpInErrors: 60 }), again]);
    assert.deepEqual(valuesOf(cleaned, "restarts"), [0, 0, 1]);
    assert.equal(cleaned[2]?.restarted, true);
    assert.equal(cleaned[2]?.values.get("udpInErrorsPerS"), undefined);
    const old = cleanHeartbeat(cleaned[2]?.state, beat(6), T0 + 6_001);
    assert.deepEqual([old.faults, old.atMs], [{ late: 1 }, undefined]);
  });

  test("rates of any readings are finite, not negative, and of nothing but these two", (context) => {
    const reading = fc.record({ value: fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }), atMs: fc.nat() });
    holds(
      context,
      fc.property(reading, reading, (before, now) => {
        const rate = counterRate(before, now);
        if (now.value < before.value) assert.deepEqual(rate, { fault: "reset" });
        if (typeof rate !== "object" || !("perS" in rate)) return;
        assert.ok(rate.perS >= 0);
        const back = rate.perS * ((now.atMs - before.atMs) / 1_000);
        assert.ok(Math.abs(back - (now.value - before.value)) <= 1e-9 * now.value + 1e-9 || !Number.isFinite(back));
      }),
      2_000,
    );
  });

  test("resets and duplicates anywhere leave the sum of what was counted at most what really grew", (context) => {
    const step = fc.record({ growth: fc.nat(1_000), reset: fc.integer({ min: 0, max: 9 }), twice: fc.boolean() });
    holds(
      context,
      fc.property(fc.array(step, { minLength: 2, maxLength: 40 }), (steps) => {
        let value = 0;
        let grown = 0;
        const sent = steps.flatMap(({ growth, reset, twice }, index) => {
          value = reset === 0 ? growth : value + growth;
          grown += growth;
          const one = beat(index + 1, {}, { udpInErrors: value });
          return twice ? [one, one] : [one];
        });
        const cleaned = run(sent);
        const counted = valuesOf(cleaned, "udpInErrorsPerS").reduce<number>((sum, rate) => sum + (rate ?? 0), 0);
        assert.ok(counted <= grown + 1e-6, `${counted} of ${grown}`);
        const duplicates = cleaned.filter(({ faults }) => faults.duplicate === 1).length;
        assert.equal(duplicates, steps.filter(({ twice }) => twice).length);
      }),
      300,
    );
  });
});

describe("time", () => {
  test("a duplicate changes nothing, however often it comes", () => {
    const first = cleanHeartbeat(undefined, beat(1), T0 + 1_001);
    const second = cleanHeartbeat(first.state, beat(1), T0 + 5_000);
    assert.deepEqual([second.faults, second.atMs, second.values.size], [{ duplicate: 1 }, undefined, 0]);
    assert.equal(second.state, first.state);
  });

  test("an overtaken heartbeat, and one that was under way too long, are late", () => {
    const cleaned = run([beat(1), beat(3), beat(2)]);
    assert.deepEqual(cleaned[2]?.faults, { late: 1 });
    const held = run([beat(1), beat(2)], (one) => one.atMs + (one.sequence === 2 ? 10_100 : 1));
    assert.deepEqual([held[1]?.faults, held[1]?.atMs], [{ late: 1 }, undefined]);
    const inTime = run([beat(1), beat(2)], (one) => one.atMs + (one.sequence === 2 ? 9_000 : 1));
    assert.deepEqual([inTime[1]?.faults, Math.round(inTime[1]?.atMs ?? 0)], [{}, T0 + 2_003]);
  });

  test("a clock that is wrong is no lateness; one that is set is counted once and believed after a while", () => {
    const behind = 3_600_000;
    const wrong = run(
      [1, 2, 3].map((s) => beat(s, { atMs: T0 + s * 1_000 - behind })),
      (one) => one.atMs + behind + 1,
    );
    assert.deepEqual(
      wrong.map(({ faults }) => faults),
      [{}, {}, {}],
    );
    assert.ok(wrong.every(({ atMs }, index) => Math.abs((atMs ?? 0) - (T0 + (index + 1) * 1_000)) < 5));
    const set = Array.from({ length: 20 }, (_, s) => beat(s + 1, { atMs: T0 + (s + 1) * 1_000 - (s >= 10 ? behind : 0) }));
    const after = run(set, (one) => T0 + one.sequence * 1_000 + 1);
    const steps = after.map(({ faults }) => faults["clock-step"] ?? 0);
    assert.equal(
      steps.reduce((sum, count) => sum + count),
      1,
    );
    assert.equal(after.filter(({ faults }) => faults.late === 1).length, 5);
    assert.ok(after.slice(15).every(({ atMs }, index) => Math.abs((atMs ?? 0) - (T0 + (index + 16) * 1_000)) < 20));
  });

  test("what is believed is never of the future, and never older than the limit", (context) => {
    const sent = fc.record({ way: fc.integer({ min: 0, max: 30_000 }), clock: fc.constantFrom(0, 0, 0, -7e6, 5e8) });
    holds(
      context,
      fc.property(fc.array(sent, { maxLength: 60 }), (beats) => {
        let state: CleanState | undefined;
        for (const [index, { way, clock }] of beats.entries()) {
          const receivedAtMs = T0 + (index + 1) * 1_000 + way;
          const cleaned = cleanHeartbeat(state, beat(index + 1, { atMs: T0 + (index + 1) * 1_000 + clock }), receivedAtMs);
          state = cleaned.state;
          if (cleaned.atMs === undefined) continue;
          assert.ok(cleaned.atMs <= receivedAtMs + 1 && cleaned.atMs >= receivedAtMs - 10_001);
        }
      }),
      500,
    );
  });
});

describe("values", () => {
  test("those that cannot be true are counted and left out; unknown names too", () => {
    const gauges = { memoryBytes: -1, innerLossShare: 1.2, pathRttMs: 3, "pathRttMs:ep-2": 3, nonsense: 1, agentUptimeS: null };
    const sample = { monotonicMs: 0, gauges: { ...gauges, restarts: 1 }, counters: { cpuUserS: -4, toString: 1 } };
    const { values, faults } = cleanHeartbeat(undefined, beat(1, { sample }), T0 + 1_001);
    assert.deepEqual(faults, { impossible: 4, unknown: 4 });
    assert.deepEqual([values.get("pathRttMs:ep-2"), values.get("restarts"), values.has("memoryBytes")], [3, 0, false]);
  });

  test("a rate no link can have is impossible; a share a little above one is one", () => {
    const cleaned = run([
      beat(1, {}, { cpuUserS: 1, "interfaceRxBytes:up0": 0 }),
      beat(2, {}, { cpuUserS: 2.1, "interfaceRxBytes:up0": 1e15 }),
      beat(3, {}, { cpuUserS: 9, "interfaceRxBytes:up0": 1e15 + 5 }),
    ]);
    assert.deepEqual(valuesOf(cleaned, "cpuUserShare"), [undefined, 1, undefined]);
    assert.deepEqual(valuesOf(cleaned, "interfaceRxBytesPerS:up0"), [undefined, undefined, 5]);
    assert.deepEqual(
      cleaned.map(({ faults }) => faults.impossible),
      [undefined, 1, 1],
    );
  });

  test("an agent that sends no sample has the series of its own fields", () => {
    const old = [1, 2].map((s) => heartbeatOf("ep-1", s, { atMs: T0 + s * 1_000, rxBytes: s * 100 }));
    const [, second] = run(old);
    assert.deepEqual(second?.faults, {});
    assert.deepEqual(Object.fromEntries(second?.values ?? []), {
      cpuShare: 0.25,
      memoryShare: 0.5,
      tunnelUp: 1,
      sessions: 3,
      rxBytesPerS: 100,
      txBytesPerS: 0,
      rxDropsPerS: 0,
      txDropsPerS: 0,
      restarts: 0,
    });
  });

  test("whatever comes, what is believed lies within its metric's bounds", (context) => {
    const name = fc.constantFrom(...Object.keys(METRICS), "cpuUserS", "rxBytes", "interfaceRxBytes:a", "x", "pathRttMs:b");
    const readings = fc.dictionary(name, fc.option(fc.double()));
    holds(
      context,
      fc.property(fc.array(fc.record({ gauges: readings, counters: readings }), { maxLength: 12 }), (samples) => {
        const beats = samples.map((sample, index) => beat(index + 1, { sample: { ...sample, monotonicMs: index * 1_000 } }));
        for (const { values } of run(beats)) {
          for (const [series, value] of values) {
            const metric = METRICS[splitSeries(series).name as keyof typeof METRICS];
            assert.equal(plausible(metric, value), value, series);
          }
        }
      }),
      500,
    );
  });

  test("names on the wire and names of series are told apart, and labels checked", () => {
    assert.equal(gaugeMetric("cpuUserShare"), undefined);
    assert.equal(counterMetric("cpuUserS")?.series, "cpuUserShare");
    assert.equal(counterMetric("interfaceRxDrops:eth0.100")?.series, "interfaceRxDropsPerS:eth0.100");
    for (const name of ["interfaceRxDrops", "interfaceRxDrops:", "interfaceRxDrops:a b", "cpuUserS:x", "__proto__"])
      assert.equal(counterMetric(name), undefined, name);
    for (const name of ["pathRttMs", "memoryShare:x", "constructor"]) assert.equal(gaugeMetric(name), undefined, name);
  });
});
