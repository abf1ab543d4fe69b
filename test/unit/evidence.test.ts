/** Evidence of a failure to come: creeping metrics, events with priors, what happens outside; and which scores are worth telling. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type Evidence, scoreEvidence } from "../../models/evidence.ts";
import { withoutSharedLosses } from "../../models/others.ts";
import type { RiskScore } from "../../models/risk.ts";
import { newsAmong, nextLookMs, scoreIntervalMs, type ToldRisk, toldAfter } from "../../models/risk-news.ts";
import { crossing, type Point, trendOf } from "../../models/trend.ts";
import { holds } from "../support/property.ts";
import { specOf } from "./fixtures.ts";

const NOW = 10_000_000;
const SPEC = specOf({ foresight: { mode: "act", windowMs: 60_000 } });

/** One value a second up to now. */
function series(value: (secondsAgo: number) => number, seconds = 90): Point[] {
  return Array.from({ length: seconds }, (_, at) => ({
    atMs: NOW - (seconds - 1 - at) * 1_000,
    value: value(seconds - 1 - at),
  }));
}

function evidenceOf(change: Partial<Evidence>): Evidence {
  return {
    endpoint: "ep-1",
    atMs: NOW,
    sessions: 50,
    series: {},
    medianRttMs: 2,
    outside: { value: 0, terms: [] },
    ...change,
  };
}

/** A noise that is the same in every run. */
function noise(at: number): number {
  return ((Math.imul(at + 1, 2654435761) >>> 0) / 2 ** 32 - 0.5) * 2;
}

describe("a trend", () => {
  test("is found through noise, and its crossing foretold", () => {
    const trend = trendOf(series((ago) => 0.8 - 0.004 * ago + 0.02 * noise(ago)));
    assert.ok(trend !== undefined);
    assert.ok(Math.abs(trend.slope * 1_000 - 0.004) < 0.0005, `${trend.slope}`);
    assert.ok(trend.slopeLow <= trend.slope && trend.slope <= trend.slopeHigh);
    const soon = crossing(trend, 0.95, 60_000);
    assert.ok(soon.probability.low > 0.9 && soon.inMs !== undefined && Math.abs(soon.inMs - 37_500) < 8_000);
    assert.ok(crossing(trend, 2, 60_000).probability.high < 0.1);
  });

  test("is not seen in noise", (context) => {
    const property = fc.property(
      fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 60, maxLength: 60 }),
      (values) => {
        const trend = trendOf(values.map((value, at) => ({ atMs: NOW + at * 1_000, value: 0.3 + value / 10 })));
        return trend === undefined || crossing(trend, 0.97, 60_000).probability.low < 0.3;
      },
    );
    holds(context, property, 300);
  });

  test("scales with the unit, is finite, and grows with nearness", (context) => {
    const values = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 12, maxLength: 90 });
    const property = fc.property(values, fc.constantFrom(0.001, 8, 1_024), (given, factor) => {
      const points = given.map((value, at) => ({ atMs: NOW + at * 1_000, value }));
      const trend = trendOf(points);
      const scaled = trendOf(points.map(({ atMs, value }) => ({ atMs, value: value * factor })));
      assert.ok(trend !== undefined && scaled !== undefined);
      const near = crossing(trend, 1e6, 60_000).probability;
      const same = crossing(scaled, 1e6 * factor, 60_000).probability;
      for (const part of ["value", "low", "high"] as const) {
        assert.ok(near[part] >= 0 && near[part] <= 1);
        assert.ok(Math.abs(near[part] - same[part]) < 1e-6, `${part}: ${near[part]} and ${same[part]}`);
      }
      assert.ok(crossing(trend, 2e6, 60_000).probability.value <= near.value + 1e-9);
      assert.ok(crossing(trend, 1e6, 30_000).probability.value <= near.value + 1e-9);
    });
    holds(context, property, 300);
  });
});

describe("a score", () => {
  test("names the resource that runs out, and when", () => {
    const memoryShare = series((ago) => 0.8 - 0.005 * ago);
    const score = scoreEvidence(evidenceOf({ series: { memoryShare } }), SPEC);
    assert.ok(score.failure.low > 0.7, JSON.stringify(score.failure));
    assert.equal(score.terms[0]?.name, "memory");
    assert.match(score.terms[0]?.text ?? "", /memory is 7\d.* % and rising; at this rate it reaches 97 % in \d+ s/);
  });

  test("is low for an endpoint that is merely busy, or unsteady", () => {
    const busy = series((ago) => 0.7 + 0.1 * noise(ago));
    const score = scoreEvidence(evidenceOf({ series: { cpuShare: busy, memoryShare: series(() => 0.9) } }), SPEC);
    assert.ok(score.failure.value < 0.1, JSON.stringify(score));
    assert.equal(score.carriesSignal, true);
  });

  test("takes no delay for one on its way while all are as far apart", () => {
    const rising = { innerRttMsP75: series((ago) => 9 - 0.06 * ago) };
    const alone = scoreEvidence(evidenceOf({ series: rising, medianRttMs: 2 }), SPEC);
    const among = scoreEvidence(evidenceOf({ series: rising, medianRttMs: 2, rttSpreadMs: 3 }), SPEC);
    assert.ok(alone.failure.value > 0.5, `${alone.failure.value}`);
    assert.ok(among.failure.value < 0.1, `${among.failure.value}`);
  });

  test("counts rising loss from its first traces", () => {
    const innerLossShare = series((ago) => Math.max(0, 0.012 * (1 - ago / 40)));
    assert.ok(scoreEvidence(evidenceOf({ series: { innerLossShare } }), SPEC).failure.value > 0.7);
  });

  test("blames nobody for probes lost in an episode that met the others too, in whatever they lost", () => {
    // One probe in four over the last 24 s; the share is over the last thirty.
    const lost = series((ago) => Math.floor(Math.max(0, 24 - ago) / 4) / 30);
    const episode = (fromAgo: number, untilAgo: number) => series((ago) => (ago < fromAgo && ago >= untilAgo ? 0.2 : 0));
    const calm = series(() => 0);
    const score = (others: Readonly<Record<string, readonly Point[][]>>) =>
      scoreEvidence(
        evidenceOf({ series: { "pathLossShare:balancer": lost }, others: (name) => others[name] ?? [calm, calm] }),
        SPEC,
      ).failure.value;
    const now = episode(25, 0);
    assert.ok(score({}) > 0.7, "alone it is its own");
    assert.ok(score({ carriedLossShare: [now, now] }) < 0.1);
    assert.ok(score({ innerLossShare: [now, now, calm], carriedLossShare: [] }) < 0.1);
    assert.ok(score({ carriedLossShare: [now, calm] }) > 0.7, "one of two others is not everybody");
    assert.ok(score({ carriedLossShare: [episode(60, 40), episode(60, 40)] }) > 0.7, "what is over excuses nothing");
  });

  test("takes packets that everybody lost for seconds for no growth, neither then nor afterwards", () => {
    const quiet = (ago: number) => (ago % 3 === 0 ? 2e-4 : 0);
    const lossOf = (endedAgo: number) => series((ago) => (ago >= endedAgo && ago < endedAgo + 4 ? 0.055 : quiet(ago)), 400);
    const spec = specOf({ foresight: { mode: "act", windowMs: 600_000 } });
    const score = (own: Point[], all: Point[]) =>
      scoreEvidence(
        evidenceOf({
          series: { carriedLossShare: own },
          others: (name) => (name === "carriedLossShare" ? [all, all, all] : []),
        }),
        spec,
      ).failure.value;
    for (const endedAgo of [0, 1, 2, 5, 10, 20, 40])
      assert.ok(score(lossOf(endedAgo), lossOf(endedAgo)) < 0.1, `${endedAgo} s after`);
    const growing = series((ago) => 0.015 * 1.1 ** -ago, 400);
    assert.ok(score(growing, series(quiet, 400)) > 0.7, "what grows on one alone is its own");
  });

  test("takes no more off for what others lost than was lost, and nothing where they lost nothing", (context) => {
    const shares = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 90, maxLength: 90 });
    const property = fc.property(shares, shares, shares, (mine, one, other) => {
      const pointsOf = (values: readonly number[]) => series((ago) => values[89 - ago] ?? 0);
      const own = pointsOf(mine);
      const less = withoutSharedLosses(own, [[pointsOf(one), pointsOf(other)]], 0.4, 30_000);
      for (const [at, { value }] of less.entries()) assert.ok(value >= 0 && value <= (own[at]?.value ?? 0));
      const moments = withoutSharedLosses(own, [[pointsOf(one), pointsOf(other)]], 0.4, 0);
      assert.ok(moments.every((point) => own.includes(point)));
      assert.equal(withoutSharedLosses(own, [[pointsOf(one), series(() => 0)], []], 0.4, 30_000), own);
    });
    holds(context, property, 200);
  });

  test("says that it cannot tell without telemetry, or with old telemetry", () => {
    assert.equal(scoreEvidence(evidenceOf({}), SPEC).carriesSignal, false);
    const old = series(() => 0.1).map(({ atMs, value }) => ({ atMs: atMs - 100_000, value }));
    assert.equal(scoreEvidence(evidenceOf({ series: { cpuShare: old } }), SPEC).carriesSignal, false);
  });

  test("takes in what happens outside, with its own sentence", () => {
    const terms = [{ id: "1", kind: "provider-incident" as const, value: 0.9, text: "power maintenance in zone a" }];
    const score = scoreEvidence(evidenceOf({ outside: { value: 0.9, terms } }), SPEC);
    assert.ok(score.failure.low > 0.7);
    assert.equal(score.terms[0]?.text, "power maintenance in zone a");
  });

  test("sees an overload coming, and one that is there", () => {
    const sessions = series((ago) => 480 - 2 * ago);
    const growing = scoreEvidence(evidenceOf({ sessions: 480, series: { sessions } }), SPEC);
    assert.ok(growing.overload.value > 0.8 && growing.failure.value < 0.1);
    assert.equal(scoreEvidence(evidenceOf({ sessions: 500 }), SPEC).overload.low, 1);
  });

  test("is finite and in order for whatever is measured", (context) => {
    const value = fc.oneof(fc.double(), fc.double({ min: 0, max: 1, noNaN: true }));
    const anySeries = fc.dictionary(
      fc.constantFrom("innerLossShare", "innerRttMsP75", "cpuShare", "memoryShare", "sessions", "oomKillsPerS"),
      fc.array(value, { maxLength: 40 }),
    );
    const property = fc.property(anySeries, fc.nat({ max: 1_000 }), (given, sessions) => {
      const points = Object.entries(given).map(([name, values]) => [
        name,
        values.map((one, at) => ({ atMs: NOW - (values.length - at) * 1_000, value: one })),
      ]);
      const score = scoreEvidence(evidenceOf({ sessions, series: Object.fromEntries(points) }), SPEC);
      for (const estimate of [score.failure, score.overload]) {
        assert.ok(estimate.low >= 0 && estimate.low <= estimate.value && estimate.value <= estimate.high && estimate.high <= 1);
      }
      for (const term of score.terms) assert.ok(Number.isFinite(term.value) && !term.text.includes("NaN"), term.text);
    });
    holds(context, property, 300);
  });
});

describe("news", () => {
  const policy = SPEC.foresight;
  const scored = (value: number, atMs: number): { score: RiskScore; sessions: number } => ({
    score: {
      endpoint: "ep-1",
      atMs,
      failure: { value, low: value, high: value },
      overload: { value: 0, low: 0, high: 0 },
      carriesSignal: true,
      terms: [],
    },
    sessions: 1,
  });

  /** What is told of a value that is scored each second. */
  function tellings(value: (second: number) => number, seconds: number): number[] {
    let told: readonly ToldRisk[] = [];
    const at: number[] = [];
    for (let second = 0; second < seconds; second += 1) {
      const news = newsAmong([scored(value(second), NOW + second * 1_000)], told, policy);
      if (news.length > 0) at.push(second);
      told = toldAfter(told, news);
    }
    return at;
  }

  test("is looked for as soon as it can confirm what is grave, else at its interval", () => {
    const intervalMs = scoreIntervalMs(policy);
    const grave = toldAfter([], [scored(0.9, NOW)]);
    for (const lateMs of [0, 120, intervalMs / 2]) {
      const atMs = NOW + lateMs + nextLookMs(grave, policy, NOW + lateMs);
      assert.ok(atMs < NOW + intervalMs, `${lateMs}`);
      assert.equal(newsAmong([scored(0.9, atMs)], grave, policy).length, 1, "it is news then");
      assert.equal(newsAmong([scored(0.9, atMs - 2)], grave, policy).length, 0, "and was none before");
    }
    assert.equal(nextLookMs(grave, policy, NOW + intervalMs), intervalMs, "that look has just been");
    const calm = toldAfter([], [scored(0.1, NOW)]);
    const twice = toldAfter(grave, [scored(0.9, NOW + intervalMs)]);
    const known = toldAfter(twice, [scored(0.9, NOW + 2 * intervalMs)]);
    for (const told of [[], calm, known]) assert.equal(nextLookMs(told, policy, NOW + 1), intervalMs);
  });

  test("is nothing while nothing is to fear", () => {
    assert.deepEqual(
      tellings(() => 0.05, 600),
      [],
    );
  });

  test("is told often enough to be confirmed, then now and then, and its end is told too", () => {
    const at = tellings((second) => (second < 10 || second >= 100 ? 0.02 : 0.9), 300);
    assert.deepEqual(at.slice(0, 3), [10, 11, 12]);
    assert.ok(at.filter((second) => second > 12 && second < 100).length <= 5);
    assert.ok(at.filter((second) => second >= 100).length >= policy.confirmations);
    assert.ok(
      at.every((second) => second < 105),
      "and then it is quiet",
    );
  });
});
