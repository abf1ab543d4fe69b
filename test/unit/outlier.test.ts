/** Ejection: never too many, never on the word of a broken prober, and longer for those that flap. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  afterAnswer,
  afterMiss,
  decideEjection,
  effectiveWeight,
  ejected,
  ejectionMs,
  mayReturn,
  newRecord,
  type OutlierRecord,
  returned,
} from "../../models/outlier.ts";
import { OutlierPolicy } from "../../models/steering.ts";
import { holds } from "../support/property.ts";

const DEFAULTS = OutlierPolicy.parse({});

const anyPolicy = fc
  .record({
    missesToEject: fc.integer({ min: 1, max: 5 }),
    answersToReturn: fc.integer({ min: 1, max: 6 }),
    ejectedShareMaxPercent: fc.integer({ min: 0, max: 100 }),
    panicThresholdPercent: fc.integer({ min: 0, max: 100 }),
    ejectionBaseMs: fc.integer({ min: 100, max: 5_000 }),
    ejectionLongestMs: fc.integer({ min: 5_000, max: 60_000 }),
  })
  .map((policy) => OutlierPolicy.parse(policy));

/** One probe after another, as the reflex does it: decided upon right after each. */
class Fleet {
  readonly records = new Map<string, OutlierRecord>();
  readonly policy: OutlierPolicy;
  now = 0;

  constructor(size: number, policy: OutlierPolicy, proven: boolean) {
    this.policy = policy;
    for (let made = 1; made <= size; made += 1) {
      const record = newRecord(`ep-${made}`);
      this.records.set(record.endpoint, proven ? afterAnswer(record) : record);
    }
  }

  probe(endpoint: string, answers: boolean): ReturnType<typeof decideEjection>["kind"] {
    this.now += 100;
    const record = this.records.get(endpoint) ?? newRecord(endpoint);
    const probed = answers ? afterAnswer(record) : afterMiss(record);
    this.records.set(endpoint, mayReturn(probed, this.policy, this.now) ? returned(probed, this.now) : probed);
    const { kind } = decideEjection(endpoint, this.all(), this.policy);
    if (kind === "eject") this.records.set(endpoint, ejected(probed, this.policy, this.now));
    return kind;
  }

  all(): OutlierRecord[] {
    return [...this.records.values()];
  }

  out(): number {
    return this.all().filter((record) => record.ejectedAtMs !== undefined).length;
  }

  outMax(): number {
    return Math.max(1, Math.floor((this.records.size * this.policy.ejectedShareMaxPercent) / 100));
  }
}

const anyProbes = fc.array(fc.tuple(fc.nat(19), fc.boolean()), { minLength: 1, maxLength: 400, size: "max" });

test("no more are ejected than the policy allows, and at each ejection enough others answer", (context) => {
  let ejections = 0;
  const property = fc.property(anyPolicy, fc.integer({ min: 1, max: 20 }), anyProbes, (policy, size, probes) => {
    const fleet = new Fleet(size, policy, true);
    for (const [which, answers] of probes) {
      const name = `ep-${(which % size) + 1}`;
      const kind = fleet.probe(name, answers);
      assert.ok(fleet.out() <= fleet.outMax(), `${fleet.out()} of ${size} ejected`);
      if (kind !== "eject") continue;
      ejections += 1;
      assert.ok(!answers, "somebody who answers is not ejected");
      const answering = fleet.all().filter((one) => one.ejectedAtMs === undefined && one.missesInARow < policy.missesToEject);
      assert.ok(answering.length > 0, "the last one that answers stays");
      assert.ok(answering.length * 100 >= size * policy.panicThresholdPercent, "not below the panic threshold");
    }
  });
  holds(context, property, 200);
  assert.ok(ejections > 100, `only ${ejections} ejections: this has shown nothing`);
});

test("a prober that is broken empties nobody's swarm", (context) => {
  const property = fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 3, max: 200 }), (size, rounds) => {
    const fleet = new Fleet(size, DEFAULTS, true);
    for (let round = 0; round < rounds; round += 1) for (const name of fleet.records.keys()) fleet.probe(name, false);
    assert.ok(fleet.out() <= fleet.outMax());
    assert.ok(size - fleet.out() >= size / 2, `${fleet.out()} of ${size} ejected`);
  });
  holds(context, property, 60);
});

test("an only member stays, whatever its probes say", () => {
  const fleet = new Fleet(1, OutlierPolicy.parse({ panicThresholdPercent: 0, ejectedShareMaxPercent: 100 }), true);
  for (let round = 0; round < 10; round += 1) assert.notEqual(fleet.probe("ep-1", false), "eject");
});

test("a member that has never answered is not ejected: it has nothing to lose", () => {
  const fleet = new Fleet(3, DEFAULTS, false);
  for (const name of ["ep-2", "ep-3"]) fleet.probe(name, true);
  for (let round = 0; round < 10; round += 1) assert.equal(fleet.probe("ep-1", false), "none");
});

test("one answer clears the misses, and only misses in a row count", () => {
  const fleet = new Fleet(3, DEFAULTS, true);
  for (const answers of [false, false, true, false, false]) assert.equal(fleet.probe("ep-1", answers), "none");
  assert.equal(fleet.probe("ep-1", false), "eject");
});

test("ejections grow while a member flaps, up to the longest, and start anew after a long quiet time", (context) => {
  const property = fc.property(
    anyPolicy,
    fc.array(fc.integer({ min: 0, max: 120_000 }), { minLength: 1, maxLength: 20 }),
    (policy, quiet) => {
      let record = newRecord("ep-1");
      let now = 0;
      let last = 0;
      for (const quietMs of quiet) {
        const isFlapping = record.returnedAtMs !== undefined && quietMs < policy.ejectionLongestMs;
        now += quietMs;
        record = ejected(record, policy, now);
        const lasts = ejectionMs(record, policy);
        assert.equal(
          lasts,
          isFlapping ? Math.min(last * 2, policy.ejectionLongestMs) : Math.min(policy.ejectionBaseMs, policy.ejectionLongestMs),
        );
        for (let answer = 0; answer < policy.answersToReturn; answer += 1) {
          assert.equal(mayReturn(record, policy, now + lasts), false, "not before it has answered often enough");
          record = afterAnswer(record);
        }
        assert.equal(mayReturn(record, policy, now + lasts - 1), false, "not before its time");
        assert.equal(mayReturn(record, policy, now + lasts), true);
        now += lasts;
        record = returned(record, now);
        last = lasts;
      }
      assert.equal(record.ejections, quiet.length);
    },
  );
  holds(context, property, 200);
});

test("a returning member starts with a tenth of its weight and rises to all of it", (context) => {
  const property = fc.property(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 60_000 }), (weight, slowStartMs) => {
    const policy = OutlierPolicy.parse({ slowStartMs });
    const record = returned(ejected(newRecord("ep-1"), policy, 0), 1_000);
    const at = (share: number) => effectiveWeight(weight, false, record, policy, 1_000 + Math.ceil(slowStartMs * share));
    assert.equal(effectiveWeight(weight, false, record, policy, 1_000), Math.max(1, Math.round(weight / 10)));
    const rising = [0, 0.2, 0.4, 0.6, 0.8, 1].map(at);
    assert.deepEqual(
      rising,
      rising.toSorted((a, b) => a - b),
    );
    assert.equal(at(1), weight);
    assert.equal(effectiveWeight(weight, true, record, policy, 1_000_000), 0, "draining");
    assert.equal(effectiveWeight(weight, false, ejected(record, policy, 2_000), policy, 1_000_000), 0, "ejected");
  });
  holds(context, property, 200);
});

test("members that fall silent together are given longer, one that falls silent alone is not", () => {
  const patient = { ...DEFAULTS, panicThresholdPercent: 20, ejectedShareMaxPercent: 67 };
  const together = new Fleet(3, patient, true);
  const rounds = (fleet: Fleet, count: number) => {
    const seen: string[] = [];
    for (let round = 0; round < count; round += 1) {
      seen.push(fleet.probe("ep-1", false), fleet.probe("ep-2", false), fleet.probe("ep-3", true));
    }
    return seen;
  };
  assert.ok(
    rounds(together, DEFAULTS.missesToEject).every((kind) => kind === "none"),
    "as long as another is silent as well",
  );
  assert.equal(together.probe("ep-2", true), "none");
  assert.equal(together.probe("ep-1", false), "eject", "the next miss once the others answer");

  const dead = new Fleet(3, patient, true);
  assert.ok(rounds(dead, DEFAULTS.missesToEject * 2).includes("eject"), "a silence that lasts is believed");
});
