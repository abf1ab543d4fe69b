/**
 * A made-up fleet under the models as they run on a fleet: sound machines are left in peace, and failing ones left in time. More hours, and
 * the figures of docs/models.md: `foreshift backtest fleet`.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { backtestFleet, type FleetReport } from "../../backtest/fleet-report.ts";
import { labSpec } from "../../lab/spec.ts";
import { beyondOthers } from "../../models/others.ts";
import type { Point } from "../../models/trend.ts";
import { specOf } from "./fixtures.ts";

const KEY = { secret: { path: "swarms/lab/wireguard", version: 1 }, publicKey: "q1nY2tZ0Kk3fC0hR5aTnGm4bqkVYb1i0Jf2x0sX8d1c=" };

function checkQuiet({ quiet }: FleetReport): void {
  const { endpointHours, falseDrains, reasons } = quiet;
  assert.ok(falseDrains.predicted <= Math.max(1, endpointHours / 50), `${endpointHours} endpoint-hours: ${reasons.join("\n")}`);
}

test("by the default policy: sound machines stay, failing ones are left while they still serve", (context) => {
  const spec = specOf({ endpoints: { count: 5 }, foresight: { mode: "act", controlShare: 0 } });
  const report = backtestFleet({ spec, endpointHours: 10, trials: 8, seed: 1 });
  context.diagnostic(JSON.stringify(report));
  checkQuiet(report);
  const { byKind } = report.faults;
  for (const kind of ["memory-leak", "incident"] as const)
    assert.equal(byKind[kind].drainedBeforeImpact, byKind[kind].trials, kind);
  assert.ok(report.faults.actedBeforeImpact >= 6, `${report.faults.actedBeforeImpact}`);
  assert.ok((report.faults.drainLeadSecondsP50 ?? 0) >= 30);
});

test("by the lab's policy, which looks a minute ahead, too", (context) => {
  const report = backtestFleet({ spec: labSpec({ endpoints: 3, ghosts: 1 }, KEY), endpointHours: 4, trials: 12, seed: 1 });
  context.diagnostic(JSON.stringify(report));
  checkQuiet(report);
  const { byKind } = report.faults;
  for (const kind of ["memory-leak", "incident"] as const) {
    assert.ok(byKind[kind].drainedBeforeImpact >= byKind[kind].trials - 1, kind);
    assert.ok((byKind[kind].drainLeadSecondsP50 ?? 0) >= 15, kind);
  }
  assert.ok(byKind["cpu-steal"].actedBeforeImpact >= 2, JSON.stringify(byKind["cpu-steal"]));
});

test("a rise that all others share is not an endpoint's own, one that none shares is", () => {
  const points = (value: (second: number) => number): Point[] =>
    Array.from({ length: 60 }, (_, second) => ({ atMs: second * 1_000, value: value(second) }));
  const rising = points((second) => 10 + second);
  const flat = points(() => 5);
  const slopeOf = (all: readonly Point[]) => (all.at(-1)?.value ?? 0) - (all[0]?.value ?? 0);
  assert.ok(Math.abs(slopeOf(beyondOthers(rising, [rising, rising]))) < 10);
  assert.equal(beyondOthers(rising, [flat, flat]), rising);
  assert.equal(beyondOthers(rising, []), rising);
  // Most of the others are flat: the one that rises with it does not excuse it.
  assert.equal(beyondOthers(rising, [flat, flat, rising]), rising);
});
