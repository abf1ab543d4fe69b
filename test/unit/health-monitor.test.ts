/** The health monitor on a simulated fleet: what it tells, how soon, of whom, and what it does not tell. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { changePoint } from "../../models/health/change-point.ts";
import { JointOutlier } from "../../models/health/joint-outlier.ts";
import { type HealthAnomaly, HealthMonitor } from "../../models/health/monitor.ts";
import { LIMITS } from "../../models/limits.ts";
import { holds } from "../support/property.ts";

const START_MS = 1_700_000_000_000;
type Values = Record<string, number | null>;
type Fault = (second: number, endpoint: string, values: Values) => void;

/** Four endpoints, one value a second of five metrics, with noise from a seed. */
class Fleet {
  readonly #random: () => number;
  readonly #fault: Fault;

  constructor(seed: number, fault: Fault = () => undefined) {
    let state = seed >>> 0;
    this.#random = () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state / 2 ** 32;
    };
    this.#fault = fault;
  }

  at(second: number): Record<string, Values> {
    const noise = () => this.#random() + this.#random() + this.#random() - 1.5;
    const names = ["ep-1", "ep-2", "ep-3", "ep-4"];
    const endpoints = names.map((endpoint) => {
      const load = 0.3 + 0.05 * noise();
      const values = {
        cpuShare: load,
        rxBytesPerS: 1e6 * load * (1 + 0.05 * noise()),
        innerRttMsP75: 10 + noise(),
        innerLossShare: 0,
        memoryShare: 0.4 + 0.002 * noise(),
      };
      this.#fault(second, endpoint, values);
      return [endpoint, values] as const;
    });
    return Object.fromEntries(endpoints);
  }
}

interface Told {
  readonly second: number;
  readonly anomaly: HealthAnomaly;
}

/** The first telling of each anomaly. */
function run(fleet: Fleet, seconds: number, monitor = new HealthMonitor(), from = 0): readonly Told[] {
  const told = new Map<string, Told>();
  for (let second = from; second < seconds; second++) {
    for (const anomaly of monitor.observe(START_MS + second * 1000, fleet.at(second))) {
      const key = `${anomaly.endpoint} ${anomaly.scope} ${anomaly.sinceMs}`;
      if (!told.has(key)) told.set(key, { second, anomaly });
    }
  }
  return [...told.values()];
}

const slower: Fault = (second, endpoint, values) => {
  if (endpoint === "ep-2" && second >= 1800) values["innerRttMsP75"] = (values["innerRttMsP75"] ?? 0) + 15;
};

test("a quiet fleet has nothing to tell", () => {
  assert.deepEqual(run(new Fleet(1), 3600), []);
});

test("one endpoint that becomes slower is told within 30 s, with value, expectation and peers", () => {
  const [first, ...others] = run(new Fleet(2, slower), 2400);
  assert.ok(first !== undefined && first.second >= 1800 && first.second <= 1830, `${first?.second}`);
  assert.equal(others.length, 0);
  const { endpoint, metrics, scope, severity, sinceMs, explanation } = first.anomaly;
  assert.deepEqual([endpoint, metrics, scope], ["ep-2", ["innerRttMsP75"], "endpoint"]);
  assert.ok(severity > 0.5 && severity <= 1);
  assert.ok(Math.abs(sinceMs - (START_MS + 1_800_000)) <= 15_000);
  assert.match(
    explanation,
    /^innerRttMsP75 is 2\d(\.\d)? ms, expected [\d.]+ to 1\d(\.\d)? ms; its peers are at (9|10)(\.\d+)? ms$/,
  );
});

test("what builds up is told while it builds up", () => {
  const leak: Fault = (second, endpoint, values) => {
    if (endpoint === "ep-3" && second >= 1800) values["memoryShare"] = 0.4 + Math.min(0.5, (second - 1800) * 0.0005);
  };
  const [first] = run(new Fleet(3, leak), 2400);
  assert.ok(first !== undefined && first.second > 1800 && first.second <= 1950, `${first?.second}`);
  assert.deepEqual([first.anomaly.endpoint, first.anomaly.metrics], ["ep-3", ["memoryShare"]]);
});

test("what happens to everybody is not held against an endpoint", () => {
  const outside: Fault = (second, _endpoint, values) => {
    if (second >= 1800) values["innerRttMsP75"] = (values["innerRttMsP75"] ?? 0) + 30;
  };
  const told = run(new Fleet(4, outside), 2100);
  assert.equal(told.length, 4);
  for (const { anomaly } of told) {
    assert.equal(anomaly.scope, "everybody");
    assert.ok(anomaly.severity <= 0.5);
    assert.match(anomaly.explanation, /4 of 4 endpoints show the same/);
  }
});

test("the first minutes: peers and what is known of a metric tell the odd one, without any history", () => {
  const hot: Fault = (second, endpoint, values) => {
    if (endpoint === "ep-4" && second >= 30) values["cpuShare"] = 0.99;
  };
  const told = run(new Fleet(5, hot), 90);
  assert.deepEqual(
    told.map(({ anomaly }) => [anomaly.endpoint, anomaly.metrics]),
    [["ep-4", ["cpuShare"]]],
  );
});

test("an anomaly that lasts is told once, ends when it ends, and a lasting level becomes the usual one", () => {
  const monitor = new HealthMonitor();
  const passing: Fault = (second, endpoint, values) => {
    if (endpoint === "ep-1" && second >= 1800 && second < 2100) values["cpuShare"] = 0.9;
  };
  assert.equal(run(new Fleet(6, passing), 2700, monitor).length, 1);
  assert.deepEqual(monitor.anomalies(), []);
  const lasting = new HealthMonitor();
  const adoptedAfterS = LIMITS.health.adoptAfterMs / 1000;
  assert.equal(run(new Fleet(2, slower), 1860 + adoptedAfterS, lasting).length, 1);
  assert.deepEqual(lasting.anomalies(), []);
});

test("more demand and less load are unusual but no harm; ages that only grow are not looked at", () => {
  const severity = (fault: Fault) => run(new Fleet(7, fault), 1860).map(({ anomaly }) => anomaly.severity);
  const changed = (metric: string, change: (value: number) => number): Fault => {
    return (second, endpoint, values) => {
      if (endpoint === "ep-2" && second >= 1800) values[metric] = change(values[metric] ?? 0);
    };
  };
  const [busy = 0] = severity(changed("rxBytesPerS", (value) => value * 5));
  const [faster = 0] = severity(changed("innerRttMsP75", (value) => value / 5));
  const [slow = 0] = severity(changed("innerRttMsP75", (value) => value * 5));
  assert.ok(busy > 0 && busy <= 0.25 && faster > 0 && faster <= 0.25 && slow > 0.5, `${busy} ${faster} ${slow}`);
  const restarted: Fault = (second, endpoint, values) => {
    values["agentUptimeS"] = endpoint === "ep-2" && second >= 1800 ? second - 1800 : second;
  };
  assert.deepEqual(severity(restarted), []);
});

test("metrics that cease to go together are an anomaly though each is as usual", () => {
  const joint = new JointOutlier();
  let state = 1;
  const noise = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state / 2 ** 32 - 0.5) * 2;
  };
  const usual = Array.from({ length: 600 }, () => {
    const load = noise();
    return joint.observe(
      new Map([
        ["cpu", load],
        ["bytes", load + 0.05 * noise()],
        ["other", noise()],
      ]),
    ).surprise;
  });
  const { surprise, contributions } = joint.observe(
    new Map([
      ["cpu", 0.9],
      ["bytes", -0.9],
      ["other", 0],
    ]),
  );
  assert.ok(surprise > Math.max(...usual.slice(300)), `${surprise}`);
  assert.deepEqual(
    contributions
      .slice(0, 2)
      .map(({ metric }) => metric)
      .sort(),
    ["bytes", "cpu"],
  );
});

test("a change of level is found where it is, and none in noise", (context) => {
  holds(
    context,
    fc.property(fc.integer({ min: 5, max: 50 }), fc.double({ min: 1, max: 1e6, noNaN: true }), (index, scale) => {
      const wiggle = (row: number) => ((row * 7919) % 13) / 13;
      const level = Array.from({ length: 60 }, (_, row) => scale * (wiggle(row) + (row >= index ? 8 : 0)));
      assert.equal(changePoint(level)?.index, index);
      assert.equal(changePoint(Array.from({ length: 60 }, (_, row) => scale * wiggle(row))), undefined);
    }),
    100,
  );
});

test("a restored monitor tells what the first would have told", () => {
  const first = new HealthMonitor();
  run(new Fleet(2, slower), 1200, first);
  const text = JSON.stringify(first.snapshot());
  const perSeries = text.length / 20;
  assert.ok(perSeries < 64 * 1024, `${perSeries} bytes a series`);
  const second = HealthMonitor.restore(JSON.parse(text));
  const summary = (told: readonly Told[]) =>
    told.map(({ second: at, anomaly }) => [at, anomaly.endpoint, anomaly.metrics, anomaly.kind]);
  const onwards = summary(run(new Fleet(9, slower), 2400, first, 1200));
  assert.deepEqual(summary(run(new Fleet(9, slower), 2400, second, 1200)), onwards);
  assert.equal(onwards.length, 1);
  assert.throws(() => HealthMonitor.restore({ version: 1 }), /version/);
});

test("any input: severities between 0 and 1, finite snapshots, no more than the limits", (context) => {
  const value = fc.oneof(fc.double(), fc.constantFrom(null, 0, 1e308, -1e308, Number.NaN));
  const samples = fc.dictionary(
    fc.constantFrom("a", "b", "c", "__proto__"),
    fc.dictionary(fc.constantFrom("cpuShare", "x", "constructor"), value),
  );
  holds(
    context,
    fc.property(fc.array(samples, { minLength: 50, maxLength: 150 }), (moments) => {
      const monitor = new HealthMonitor();
      moments.forEach((moment, index) => {
        for (const { severity, explanation } of monitor.observe(START_MS + index * 5000, moment)) {
          assert.ok(severity >= 0 && severity <= 1, `${severity}`);
          assert.doesNotMatch(explanation, /NaN|undefined|Infinity/);
        }
      });
      HealthMonitor.restore(JSON.parse(JSON.stringify(monitor.snapshot())));
    }),
    40,
  );
  const monitor = new HealthMonitor();
  const many = Object.fromEntries(
    Array.from({ length: LIMITS.health.seriesPerEndpointMax + 9 }, (_, index) => [`m${index}`, index]),
  );
  for (let second = 0; second < 12; second++) monitor.observe(START_MS + second * 1000, { one: many });
  assert.equal(monitor.snapshot().endpoints[0]?.series.length, LIMITS.health.seriesPerEndpointMax);
});
