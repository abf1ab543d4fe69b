/** The risk of ways: what the legs show, what happens at their ends, and who is blamed. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { OutsideEvent } from "../../models/outside-events.ts";
import { type PathEvidence, pathRisks } from "../../models/path-risk.ts";
import { initialState, plan, takeScores } from "../../models/plan.ts";
import { NO_RISK, type PathRisk, type RiskScore, servedRisk } from "../../models/risk.ts";
import { SwarmSpec } from "../../models/swarm-spec.ts";
import { holds } from "../support/property.ts";
import { observationOf, specOf, swarmOf } from "./fixtures.ts";

const NOW = 1_790_000_000_000;
const spec = SwarmSpec.parse({
  ...specOf(),
  paths: { clientRegions: ["north", "south"], upstreams: [{ name: "saas", region: "west" }] },
});
const HOME = { region: "local" };

type Shape = (secondsAgo: number) => number;
const still =
  (value: number): Shape =>
  () =>
    value;

/** An endpoint with these series, one value a second over ten minutes. */
function endpointOf(endpoint: string, shapes: Readonly<Record<string, Shape>>): PathEvidence {
  const calm = {
    "pathRttMs:balancer": still(2),
    "pathJitterMs:balancer": still(0.2),
    "pathLossShare:balancer": still(0),
    ...Object.fromEntries(["ep-7", "ep-8", "ep-9"].map((end) => [`pathLossShare:${end}`, still(0)])),
  };
  const series = Object.fromEntries(
    Object.entries({ ...calm, ...shapes }).map(([name, shape]) => [
      name,
      Array.from({ length: 600 }, (_, at) => ({ atMs: NOW - (600 - at) * 1_000, value: shape(600 - at) })),
    ]),
  );
  return { endpoint, atMs: NOW, place: HOME, series };
}

function eventIn(region: string, severity = 0.8): OutsideEvent {
  return {
    id: region,
    source: "feed",
    kind: "provider-incident",
    region,
    zone: undefined,
    startsAtMs: NOW - 1_000,
    endsAtMs: NOW + 60_000,
    severity,
    confidence: 1,
    text: `trouble in ${region}`,
  };
}

const risksOf = (shapes: Readonly<Record<string, Shape>>, events: readonly OutsideEvent[] = [], of = spec) =>
  pathRisks([endpointOf("ep-1", shapes), endpointOf("ep-2", {}), endpointOf("ep-3", {})], events, of);
const ofFirst = (paths: readonly PathRisk[]) => paths.filter(({ endpoint }) => endpoint === "ep-1");

describe("a way", () => {
  test("there is one for each region of clients and each upstream; none named, where the swarm is", () => {
    const names = (paths: readonly PathRisk[]) => ofFirst(paths).map(({ clients, upstream }) => `${clients} ${upstream}`);
    assert.deepEqual(names(risksOf({})), ["north saas", "south saas"]);
    assert.deepEqual(names(risksOf({}, [], specOf())), ["local internet"]);
    assert.ok(risksOf({}).every(({ risk }) => risk.value < 0.05));
  });

  test("loss towards the balancer is the endpoint's, and so is loss towards most of the others", () => {
    const near = ofFirst(risksOf({ "pathLossShare:balancer": (ago) => 0.06 * (1 - ago / 600) }))[0];
    assert.ok(near !== undefined && near.risk.value > 0.7, JSON.stringify(near));
    assert.match(near.terms[0]?.text ?? "", /the way to the balancer: the loss is .*%, and 2 % is degraded/);
    const one = risksOf({ "pathLossShare:ep-9": still(0.5) });
    assert.ok(
      one.every(({ risk }) => risk.value < 0.05),
      "one far end alone is its own trouble",
    );
    const most = ofFirst(risksOf({ "pathLossShare:ep-8": still(0.5), "pathLossShare:ep-9": still(0.5) }))[0];
    assert.ok((most?.risk.value ?? 0) > 0.7);
    assert.equal(most?.terms[0]?.name, "upstream");
  });

  test("jitter and a round trip far from the others' count too", () => {
    assert.ok((ofFirst(risksOf({ "pathJitterMs:balancer": still(25) }))[0]?.risk.value ?? 0) > 0.7);
    assert.ok((ofFirst(risksOf({ "pathRttMs:balancer": still(40) }))[0]?.risk.value ?? 0) > 0.7);
  });

  test("where everybody's way is slow, or they are far apart, nobody stands out", () => {
    const slow = (tripMs: number, jitterMs: number) => ({
      "pathRttMs:balancer": still(tripMs),
      "pathJitterMs:balancer": still(jitterMs),
    });
    const all = [40, 45, 60].map((ms, at) => endpointOf(`ep-${at + 1}`, slow(ms, ms / 2)));
    for (const { risk } of pathRisks(all, [], spec)) assert.ok(risk.value < 0.05, JSON.stringify(risk));
  });

  test("an event reaches the ways from its region, and those to it; one at home is the endpoint's own", () => {
    const value = (events: readonly OutsideEvent[]) =>
      ofFirst(risksOf({}, events)).map(({ risk }) => Math.round(risk.value * 10));
    assert.deepEqual(value([eventIn("north")]), [8, 0]);
    assert.deepEqual(value([eventIn("west")]), [8, 8]);
    assert.deepEqual(value([eventIn("local")]), [0, 0]);
    assert.match(
      ofFirst(risksOf({}, [eventIn("north")]))[0]?.terms[0]?.text ?? "",
      /the clients' region north: trouble in north/,
    );
  });
});

test("risks are finite and in order for any measurement, and more loss or a graver event is never less risk", (context) => {
  const any = fc.oneof(fc.double(), fc.double({ min: 0, max: 1, noNaN: true }));
  const share = fc.double({ min: 0, max: 0.1, noNaN: true });
  const property = fc.property(any, any, share, share, (odd, jitter, loss, more) => {
    const shapes = { "pathRttMs:balancer": still(odd), "pathJitterMs:ep-8": still(jitter) };
    for (const { risk } of risksOf(shapes, [eventIn("north", 1)])) {
      assert.ok(0 <= risk.low && risk.low <= risk.value && risk.value <= risk.high && risk.high <= 1, JSON.stringify(risk));
    }
    const of = (level: number, severity: number) =>
      ofFirst(risksOf({ "pathLossShare:balancer": still(level) }, [eventIn("north", severity)]))[0]?.risk.value ?? Number.NaN;
    assert.ok(of(loss, loss) <= of(loss + more, loss) + 1e-9);
    assert.ok(of(loss, loss) <= of(loss, loss + more) + 1e-9);
  });
  holds(context, property, 25);
});

describe("the decision", () => {
  const policy = { mode: "act", controlShare: 0 };
  const scoreOf = (endpoint: string, atMs: number, failure: number, path: number): RiskScore => ({
    endpoint,
    atMs,
    failure: { value: failure, low: Math.max(0, failure - 0.1), high: Math.min(1, failure + 0.1) },
    overload: NO_RISK,
    carriesSignal: true,
    terms: [],
    paths: [{ clients: "north", endpoint, upstream: "saas", risk: { value: path, low: path, high: path }, terms: [] }],
  });

  test("sessions are not led to endpoints whose ways fail as likely", () => {
    const moves = (path: number) => {
      const seen = observationOf(swarmOf(4, { "ep-1": { sessions: 100 } }));
      let state = plan(initialState(specOf({ endpoints: { count: 4 }, foresight: policy })), seen, NOW).state;
      for (const atMs of [NOW, NOW + 5_000]) {
        const others = ["ep-2", "ep-3", "ep-4"].map((endpoint) => scoreOf(endpoint, atMs, 0.01, path));
        const scores = [scoreOf("ep-1", atMs, 0.9, 0), ...others];
        state = takeScores(
          state,
          scores.map((score) => ({ score, sessions: 100 })),
          atMs,
        );
      }
      return plan(state, seen, NOW + 5_000).steps.some(({ kind }) => kind === "drain-and-replace");
    };
    assert.equal(moves(0.1), true);
    assert.equal(moves(0.95), false);
  });

  test("a way counts as what its sessions are in for", () => {
    assert.equal(servedRisk(scoreOf("ep-1", NOW, 0.2, 0.6)), 0.6);
    assert.equal(servedRisk(scoreOf("ep-1", NOW, 0.7, 0.6)), 0.7);
    assert.equal(servedRisk({ ...scoreOf("ep-1", NOW, 0.7, 0.6), paths: undefined }), 0.7);
  });
});
