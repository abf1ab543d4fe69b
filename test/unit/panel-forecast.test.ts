/** The panel forecast: beats repeating the past where there is a season, follows the units, and stays finite whatever the series. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { forecastPanel, seasonalScale } from "../../models/forecast/panel.ts";
import { seededRandom } from "../../models/random.ts";

const OPTIONS = { season: 6, horizon: 12 };

/** A level that drifts, a season, a longer season, and noise. */
function series(length: number, seed: number, scale = 1): Float64Array {
  const random = seededRandom(seed);
  let level = 50;
  return Float64Array.from({ length }, (_, step) => {
    level += random() - 0.5;
    const seasons = 10 * Math.sin((step / 6) * 2 * Math.PI) + 5 * Math.sin((step / 42) * 2 * Math.PI);
    return scale * (level + seasons + 2 * random());
  });
}

test("it errs less than the last season repeated, and its interval holds most of what comes", () => {
  const whole = Array.from({ length: 12 }, (_, index) => series(400, index + 1));
  const pasts = whole.map((one) => one.slice(0, -12));
  const forecasts = forecastPanel(pasts, OPTIONS);
  let ours = 0;
  let repeated = 0;
  let inside = 0;
  whole.forEach((values, index) => {
    const forecast = forecasts[index];
    assert.ok(forecast !== undefined);
    for (let step = 0; step < 12; step++) {
      const value = values[388 + step] ?? Number.NaN;
      const { [step]: point = Number.NaN } = forecast.points;
      ours += Math.abs(value - point);
      repeated += Math.abs(value - (values[388 - 6 + (step % 6)] ?? Number.NaN));
      if (value >= (forecast.lower[step] ?? 0) && value <= (forecast.upper[step] ?? 0)) inside += 1;
    }
  });
  assert.ok(ours < 0.8 * repeated, `${ours} against ${repeated}`);
  assert.ok(inside / (12 * 12) > 0.85, `${inside} of 144`);
});

test("it scales with the units of a series, and not with those of its neighbours", () => {
  const neighbours = [series(300, 2), series(300, 3)];
  const [once] = forecastPanel([series(300, 1), ...neighbours], OPTIONS);
  const [thousandfold] = forecastPanel([series(300, 1, 1_000), ...neighbours], OPTIONS);
  assert.ok(once !== undefined && thousandfold !== undefined);
  once.points.forEach((point, step) => {
    assert.ok(Math.abs((thousandfold.points[step] ?? 0) / 1_000 - point) < 1e-6 * Math.abs(point));
  });
});

test("it is finite and ordered for any series, however short, flat or wild", () => {
  const value = fc.oneof(fc.double({ min: -1e9, max: 1e9, noNaN: true }), fc.constant(0), fc.constant(7));
  const one = fc.array(value, { minLength: 13, maxLength: 120 }).map((values) => Float64Array.from(values));
  fc.assert(
    fc.property(fc.array(one, { minLength: 1, maxLength: 3 }), (panel) => {
      for (const { points, lower, upper } of forecastPanel(panel, OPTIONS)) {
        for (let step = 0; step < OPTIONS.horizon; step++) {
          assert.ok([points[step], lower[step], upper[step]].every(Number.isFinite));
          assert.ok((lower[step] ?? 0) <= (points[step] ?? 0) && (points[step] ?? 0) <= (upper[step] ?? 0));
        }
      }
    }),
    { numRuns: 100 },
  );
});

test("the seasonal scale is the mean change from season to season", () => {
  assert.equal(seasonalScale(Float64Array.from([1, 2, 3, 5, 1, 4]), 3), (4 + 1 + 1) / 3);
});
