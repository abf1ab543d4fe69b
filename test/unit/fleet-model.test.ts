/** A trained model asked about the fleet: what it knows that stated evidence does not, and when it is not asked. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import fc from "fast-check";
import { type Evidence, scoreEvidence } from "../../models/evidence.ts";
import { FLEET_COLUMNS } from "../../models/failure/fleet-columns.ts";
import {
  FleetModel,
  type FleetUnit,
  type LearnedRisk,
  overWindow,
  whyForeign,
  whyUnasked,
} from "../../models/failure/fleet-model.ts";
import { FleetRows } from "../../models/failure/fleet-table.ts";
import type { FailureModel } from "../../models/failure/model.ts";
import { fromModelFile } from "../../models/failure/model-file.ts";
import { trainFailureModel } from "../../models/failure/train.ts";
import { LIMITS } from "../../models/limits.ts";
import { type Estimate, orderly } from "../../models/risk.ts";
import { FLEET_WINDOW_MINUTES, fleetMinutes, fleetModel } from "../support/fleet.ts";
import { holds } from "../support/property.ts";
import { WEAR_WINDOW, wearTable } from "../support/wear.ts";
import { specOf } from "./fixtures.ts";

const WINDOW_MS = FLEET_WINDOW_MINUTES * 60_000;
const NOW = 1_790_000_000_000;
const spec = specOf();
let model: FailureModel;

before(async () => {
  // As it comes back from where it is stored.
  const { file } = await fleetModel(3);
  model = fromModelFile(JSON.parse(JSON.stringify(file))).model;
});

const QUIET: Evidence = {
  endpoint: "ep-1",
  atMs: NOW,
  sessions: 20,
  series: {},
  medianRttMs: 2,
  outside: { value: 0, terms: [] },
};
const learnedOf = (failure: Estimate, knows: readonly string[] = []): LearnedRisk => ({
  model: "abc",
  failure,
  text: "model abc says so",
  knows: new Set(knows),
});

/** What a model says of each endpoint of another fleet, minute after minute. */
function saidBy(fleet: FleetModel, scale = 1) {
  const rows = new FleetRows();
  const units = new Map<string, FleetUnit>();
  const { minutes, lives } = fleetMinutes(8, 60, 77, scale);
  const said = new Map<string, LearnedRisk[]>();
  for (const minute of minutes) {
    for (const row of rows.push(minute)) {
      const unit = units.get(row.endpoint);
      const before = structuredClone(unit);
      said.set(row.endpoint, [...(said.get(row.endpoint) ?? []), fleet.risk(unit, row, WINDOW_MS)]);
      assert.deepEqual(unit, before, "asking changes nothing");
      units.set(row.endpoint, fleet.follow(unit, row));
    }
  }
  return { said, lives };
}

test("it foresees failures of a fleet that it has not seen, and names the columns that say so", () => {
  assert.equal(model.metrics.carriesSignal, true);
  const { said, lives } = saidBy(new FleetModel("abc", model));
  for (const { endpoint, failedAtMs } of lives) {
    const all = said.get(endpoint) ?? [];
    const last = all.at(-1);
    assert.ok(last !== undefined);
    if (failedAtMs === undefined) assert.ok(last.failure.value < 0.2, `${endpoint} lasts: ${JSON.stringify(last)}`);
    else {
      assert.ok(last.failure.value > 0.8, `${endpoint} fails: ${JSON.stringify(last)}`);
      assert.match(last.text, /^model abc says so by .*(TCP retransmits|age of handshakes)/);
      assert.ok((all[10]?.failure.value ?? 1) < 0.2, "long before there was nothing to see");
    }
  }
});

test("the unit of a metric does not matter", async () => {
  const { model: inOtherUnits } = await fleetModel(3, 1_024);
  const [one, other] = [saidBy(new FleetModel("abc", model)), saidBy(new FleetModel("abc", inOtherUnits), 1_024)];
  for (const [endpoint, risks] of one.said) {
    const others = other.said.get(endpoint) ?? [];
    for (const [at, { failure }] of risks.entries()) {
      assert.ok(Math.abs(failure.value - (others[at]?.failure.value ?? Number.NaN)) < 1e-6, `${endpoint} at ${at}`);
    }
  }
});

test("what it remembers of an endpoint is never older than the pieces that it was trained on", () => {
  const fleet = new FleetModel("abc", model);
  const cells = new Float64Array(FLEET_COLUMNS.length).fill(Number.NaN);
  const lifeMinutes = LIMITS.training.pieceMs / 60_000;
  let unit: FleetUnit | undefined;
  const ages: number[] = [];
  for (let time = 1_000; time < 1_000 + 3 * lifeMinutes; time += 1) {
    unit = fleet.follow(unit, { endpoint: "ep-1", time, cells, isFirst: time === 1_000 });
    ages.push(time - unit.sinceTime);
  }
  assert.ok(ages.every((age) => age < lifeMinutes));
  assert.ok(
    ages.slice(lifeMinutes).every((age) => age >= lifeMinutes / 2 - 1),
    "it never begins from nothing again",
  );
});

describe("a model is not asked", () => {
  test("where it was trained on other columns, or on the same in another order", async () => {
    const wear = await trainFailureModel(wearTable({ units: 12, seed: 3 }), { window: WEAR_WINDOW, seed: 1 });
    assert.match(whyForeign(wear) ?? "", /other columns than the fleet has \(unknown: op1.*missing: cpu, cpuPeak/);
    const turned = { ...model, plan: { ...model.plan, columns: model.plan.columns.toReversed() } };
    assert.match(whyForeign(turned) ?? "", /another order/);
    assert.equal(whyForeign(model), undefined);
  });

  test("where it carries no signal, or looks at another time", () => {
    assert.equal(whyUnasked(model, WINDOW_MS), undefined);
    assert.match(
      whyUnasked({ ...model, metrics: { ...model.metrics, carriesSignal: false } }, WINDOW_MS) ?? "",
      /does not tell/,
    );
    assert.match(whyUnasked(model, 10 * WINDOW_MS) ?? "", /10 min ahead and the policy asks for 100 min/);
  });
});

const share = fc.double({ min: 0, max: 1, noNaN: true });
const estimate = fc.tuple(share, share, share).map((all) => {
  const [low = 0, value = 0, high = 0] = all.toSorted((a, b) => a - b);
  return { value, low, high };
});

describe("arithmetic", () => {
  test("another window: the same where they agree, more over a longer one, finite for anything", (context) => {
    const property = fc.property(estimate, fc.double({ min: 0.25, max: 4, noNaN: true }), fc.double(), (said, factor, odd) => {
      const same = overWindow(said, WINDOW_MS, WINDOW_MS);
      assert.ok(Math.abs(same.value - said.value) < 1e-9);
      const [shorter, longer] = [
        overWindow(said, WINDOW_MS, WINDOW_MS * factor),
        overWindow(said, WINDOW_MS, WINDOW_MS * factor * 2),
      ];
      assert.ok(shorter.value <= longer.value && shorter.low <= shorter.value && shorter.value <= shorter.high);
      const { value, low, high } = overWindow({ value: odd, low: odd, high: odd }, WINDOW_MS, WINDOW_MS);
      assert.ok([value, low, high].every((part) => part >= 0 && part <= 1));
    });
    holds(context, property, 300);
  });

  test("a model that says more never leads to a lower score, and trends, anomalies and outside events can raise it", (context) => {
    const outside = share.map((value) => ({ value, terms: [] }));
    const property = fc.property(estimate, estimate, share, outside, (a, b, severity, around) => {
      const evidence = { ...QUIET, outside: around, anomaly: { severity, text: "odd" } };
      const of = (failure: Estimate) => scoreEvidence({ ...evidence, learned: learnedOf(failure) }, spec).failure;
      const above = orderly({ value: Math.max(a.value, b.value), low: Math.max(a.low, b.low), high: Math.max(a.high, b.high) });
      const [less, more] = [of(a), of(above)];
      assert.ok(less.value <= more.value + 1e-12 && less.low <= more.low + 1e-12 && less.high <= more.high + 1e-12);
      const without = scoreEvidence(evidence, spec).failure;
      assert.ok(less.value >= without.value - 1e-12 && less.value >= a.value - 1e-12);
      assert.ok([less.value, less.low, less.high].every((part) => part >= 0 && part <= 1));
    });
    holds(context, property, 300);
  });

  test("the stated prior of what a model has learned gives way to it, that of what it has not stays", () => {
    const series = { diskErrorsPerS: [{ atMs: NOW - 1_000, value: 1 }] };
    const of = (knows: readonly string[]) =>
      scoreEvidence({ ...QUIET, series, learned: learnedOf({ value: 0.05, low: 0.02, high: 0.1 }, knows) }, spec).failure.value;
    assert.ok(Math.abs(of(["diskErrorsPerS"]) - 0.05) < 1e-9);
    assert.ok(of([]) > 0.2);
    const ignored = FLEET_COLUMNS.findIndex(({ name }) => name === "diskErrors");
    assert.equal(model.plan.kinds[ignored], "ignored", "there were none in its training");
  });

  test("what it says is among the terms", () => {
    const learned = learnedOf({ value: 0.9, low: 0.8, high: 0.95 });
    const { terms, failure } = scoreEvidence({ ...QUIET, learned }, spec);
    assert.deepEqual(terms[0], { name: "model", value: 0.9, text: "model abc says so" });
    assert.deepEqual(failure, learned.failure);
  });
});
