// Where the swarm's sessions are heading: seen while they grow, and not where they only come and go.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { leadTimeMs } from "../../models/lead-time.ts";
import { seededRandom } from "../../models/random.ts";
import { greaterDemand, sessionsAhead, sessionTrend, sumOfSessions } from "../../models/session-trend.ts";
import { holds } from "../support/property.ts";

const WINDOW_MS = 60_000;
const points = (value: (second: number) => number, seconds = 60) =>
  Array.from({ length: seconds }, (_, second) => ({ atMs: second * 1_000, value: value(second) }));

test("a steady growth is continued to the moment at which a machine would serve", () => {
  const trend = sessionTrend(
    points((second) => 6 + Math.floor(second / 5)),
    WINDOW_MS,
    20_000,
  );
  assert.ok(trend !== undefined);
  assert.equal(trend.atMs, 59_000);
  assert.equal(trend.horizonMs, 20_000);
  // One in five seconds: 17 at the end, 21 twenty seconds later.
  assert.ok(Math.abs(trend.sessionsP50 - 21) <= 1, `${trend.sessionsP50}`);
  assert.ok(trend.sessionsUpper >= trend.sessionsP50 && trend.sessionsUpper < 25, `${trend.sessionsUpper}`);
  const straight = sessionTrend(
    points((second) => 6 + second / 5),
    WINDOW_MS,
    20_000,
  );
  assert.match(straight?.text ?? "", /grow by 12(\.0)? a minute/);
});

test("a rush that began a moment ago is seen in the latest past", () => {
  const trend = sessionTrend(
    points((second) => (second < 45 ? 6 : 6 + (second - 45))),
    WINDOW_MS,
    10_000,
  );
  assert.ok(trend !== undefined && trend.sessionsP50 > 22, `${trend?.sessionsP50}`);
});

test("what has stopped growing is not continued", () => {
  assert.equal(
    sessionTrend(
      points((second) => Math.min(12, second)),
      WINDOW_MS,
      20_000,
    ),
    undefined,
  );
});

test("nothing is foreseen of sessions that stand still, come and go, or fall", () => {
  for (const value of [() => 6, (second: number) => 6 + (second % 2), (second: number) => 66 - second])
    assert.equal(sessionTrend(points(value), WINDOW_MS, 20_000), undefined);
  assert.equal(sessionTrend([], WINDOW_MS, 20_000), undefined);
});

test("less is never foreseen than there is, and no number that is none", (context) => {
  holds(
    context,
    fc.property(fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 60 }), (values) => {
      const series = values.map((value, second) => ({ atMs: second * 1_000, value }));
      const trend = sessionTrend(series, WINDOW_MS, 30_000);
      if (trend === undefined) return;
      assert.ok(trend.sessionsP50 >= (values.at(-1) ?? 0));
      assert.ok(Number.isFinite(trend.sessionsUpper) && trend.sessionsUpper >= trend.sessionsP50);
    }),
    300,
  );
});

test("sessions that move from one endpoint to another, which came meanwhile, are no growth", () => {
  const leaving = points((second) => Math.max(0, 10 - Math.max(0, second - 30)), 42);
  const coming = points((second) => Math.min(10, Math.max(0, second - 30))).filter(({ atMs }) => atMs >= 30_000);
  const sum = sumOfSessions([leaving, coming]);
  assert.deepEqual(new Set(sum.map(({ value }) => value)), new Set([10]));
  assert.equal(sessionTrend(sum, WINDOW_MS, 20_000), undefined);
});

test("an endpoint that is silent for a moment keeps what it said, one that is gone does not", () => {
  const steady = points(() => 5);
  const gap = points(() => 3).filter(({ atMs }) => atMs < 20_000 || (atMs >= 22_000 && atMs < 40_000));
  const sum = sumOfSessions([steady, gap]);
  assert.equal(sum.find(({ atMs }) => atMs === 21_000)?.value, 8);
  assert.equal(sum.at(-1)?.value, 5);
});

test("of two forecasts the one that asks for more counts, as of the newer moment", () => {
  const days = { atMs: 1_000, horizonMs: 600_000, sessionsP50: 8, sessionsUpper: 10, text: "days" };
  const minutes = { atMs: 2_000, horizonMs: 20_000, sessionsP50: 11, sessionsUpper: 12, text: "minutes" };
  assert.deepEqual(greaterDemand(days, minutes), minutes);
  assert.deepEqual(greaterDemand({ ...days, sessionsUpper: 20 }, minutes), { ...days, sessionsUpper: 20, atMs: 2_000 });
  assert.deepEqual(greaterDemand(days, undefined), days);
  assert.equal(greaterDemand(undefined, undefined), undefined);
});

test("a rush is told within a twelfth of the window, as early as four or five more sessions let it", () => {
  const calm = 50;
  const rush = (seconds: number) => points((second) => 12 + Math.round(1.2 * Math.max(0, second - calm)), calm + seconds);
  const told = Array.from({ length: 12 }, (_, seconds) => sessionTrend(rush(seconds), WINDOW_MS, 10_000));
  const first = told.findIndex((trend) => trend !== undefined);
  assert.ok(first >= 4 && first <= 6, `after ${first} s`);
  assert.ok(
    told.slice(first).every((trend) => trend !== undefined),
    "and goes on to be told",
  );
  // 12 a second after ten more, and no less.
  const [, , , , , , , , last] = told;
  assert.ok(last !== undefined && last.sessionsP50 >= 28 && last.sessionsUpper <= 60, JSON.stringify(last));
});

test("a step is no rush: sessions that two endpoints report while they move, or a crowd that came at once", () => {
  for (let ago = 0; ago <= 12; ago += 1) {
    const stepped = points((second) => (second < 59 - ago ? 12 : 18));
    const surge = sessionTrend(stepped, WINDOW_MS, 10_000);
    assert.ok((surge?.sessionsUpper ?? 0) <= 30, `${ago} s ago: ${JSON.stringify(surge)}`);
  }
});

test("sessions that come and go by chance make no rush: an hour each of thirty swarms", () => {
  const random = seededRandom(4);
  let asked = 0;
  for (let swarm = 0; swarm < 30; swarm += 1) {
    const usual = 10 + swarm * 10;
    // Each lives ten minutes in the mean.
    const rate = usual / 600;
    const series: { atMs: number; value: number }[] = [];
    let value = usual;
    for (let second = 0; second < 3_600; second += 1) {
      if (random() < rate) value += 1;
      if (random() < value / 600) value -= 1;
      series.push({ atMs: second * 1_000, value });
      const trend = second < 60 || second % 5 > 0 ? undefined : sessionTrend(series.slice(-60), WINDOW_MS, 20_000);
      if (trend !== undefined && trend.sessionsUpper > 1.25 * Math.max(value, usual)) asked += 1;
    }
  }
  assert.ok(asked <= 30 * 720 * 0.01, `${asked} of ${30 * 720} looks`);
});

test("what is planned for reaches until those serve that can be asked for next: a ghost is quick, once", () => {
  const times = { wakeMs: 2_000, launchMs: 9_000 };
  assert.equal(leadTimeMs(1, 3, times), 4_000);
  assert.equal(leadTimeMs(1, 1, times), 11_000);
  assert.equal(leadTimeMs(2, 1, times), 18_000);
  assert.equal(leadTimeMs(1, 0, times), 18_000);
  const series = points((second) => 12 + Math.max(0, second - 40));
  const ahead = (ghosts: number) =>
    sessionsAhead(series, WINDOW_MS, (sessions) => leadTimeMs(Math.ceil(sessions / 8) - 4, ghosts, times));
  assert.equal(ahead(9)?.horizonMs, 4_000);
  assert.equal(ahead(1)?.horizonMs, 18_000);
  assert.ok((ahead(1)?.sessionsUpper ?? 0) > (ahead(9)?.sessionsUpper ?? 0));
  assert.equal(
    sessionsAhead(
      points(() => 12),
      WINDOW_MS,
      () => 1_000,
    ),
    undefined,
  );
});

test("a rush is told although a crowd went, or was moved, within the window before", () => {
  const rushing = (before: (second: number) => number) =>
    sessionTrend(
      points((second) => before(second) + Math.floor(1.2 * Math.max(0, second - 49)), 56),
      WINDOW_MS,
      10_000,
    );
  assert.ok(rushing((second) => (second < 20 ? 36 : 12)) !== undefined, "24 left at once");
  assert.ok(rushing((second) => (second >= 20 && second < 23 ? 18 : 12)) !== undefined, "six were counted twice");
});

test("a swarm that comes up, and sessions that were not told for a while and are again, foretell nothing", () => {
  const foretold = (value: (second: number) => number) => {
    const series = points(value);
    return series.filter((_, at) => sessionTrend(series.slice(0, at + 1), WINDOW_MS, 20_000) !== undefined).length;
  };
  const comesUp = (second: number) => Math.min(6, Math.max(0, second - 3));
  assert.equal(foretold(comesUp), 0);
  assert.equal(
    foretold((second) => comesUp(second) * 100),
    0,
  );
  assert.equal(
    foretold((second) => (second >= 30 && second < 34 ? 2 : second === 34 ? 4 : 6)),
    0,
    "an endpoint's word was late",
  );
  assert.ok(foretold((second) => comesUp(second) + Math.max(0, second - 40)) > 10, "a rush is seen all the same");
});
