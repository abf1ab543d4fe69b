/** What the forest knows of a moment: how the newest values, their extremes and the seasons stand to the present level. Free of units. */
import { at } from "./numeric.ts";
import type { SeriesHistory } from "./series-history.ts";

/** Steps before the decision whose value is a feature of its own. */
const LAGS = [0, 1, 2, 3, 4, 5, 7, 9, 11, 17, 23] as const;
/** Windows, in steps, whose highest and lowest value are features. */
const EXTREMES = [3, 6, 12, 36] as const;
/** The level is the mean of so many newest values. */
const LEVEL_STEPS = 6;
const ROUGHNESS_STEPS = 12;
const MEAN_STEPS = 36;
const OTHER_FEATURES = 12;

export const FEATURE_COUNT = LAGS.length + 2 * EXTREMES.length + OTHER_FEATURES;

/** Steps of history that the features of one moment reach back, over the lead. */
export function reachSteps(history: SeriesHistory): number {
  return Math.max(history.stepsPerDay + 2, MEAN_STEPS);
}

/** Level of the demand as known at `now`, the newest number that may be looked at. Always above 0. */
export function levelAt(history: SeriesHistory, now: number, offset: number): number {
  return meanOf(history, now, Math.min(LEVEL_STEPS, now - history.oldest + 1)) + offset;
}

/** Fills `features` (FEATURE_COUNT) for the target `now + lead`; reads nothing newer than `now`. `offset`: in units of the series. */
export function fillFeatures(history: SeriesHistory, now: number, lead: number, offset: number, features: Float64Array): void {
  const logLevel = Math.log(levelAt(history, now, offset));
  const relative = (value: number): number => Math.log(value + offset) - logLevel;
  let place = 0;
  const add = (value: number): void => {
    features[place] = value;
    place += 1;
  };
  for (const lag of LAGS) add(relative(history.value(now - lag)));
  for (const steps of EXTREMES) addExtremes(history, now, steps, (value) => add(relative(value)));
  const day = history.stepsPerDay;
  const target = now + lead;
  // The day before, at the target's time and beside it: known as long as the lead is shorter than a day.
  const before = target - day * Math.ceil(lead / day);
  const beforeNow = now - day;
  const next = Math.min(before + 1, now);
  add(relative(history.value(before)));
  add(relative(history.value(next)));
  add(relative(history.value(before - 1)));
  const around = history.value(before - 1) + history.value(before) + history.value(next);
  const aroundNow = history.value(beforeNow - 1) + history.value(beforeNow) + history.value(beforeNow + 1);
  add(Math.log((around + offset) / (aroundNow + offset)));
  add(relative(meanOf(history, now, day)));
  add(relative(meanOf(history, now, MEAN_STEPS)));
  const hour = Math.max(1, Math.round(day / 24));
  add(target % day);
  add(target % hour);
  add(target % (6 * hour));
  add(target % (7 * day) < 5 * day ? Math.floor((target % (7 * day)) / day) : 5);
  add(logLevel);
  add(roughness(history, now, offset));
}

function addExtremes(history: SeriesHistory, now: number, steps: number, add: (value: number) => void): void {
  let highest = 0;
  let lowest = Number.POSITIVE_INFINITY;
  for (let lag = 0; lag < steps; lag++) {
    const value = history.value(now - lag);
    highest = Math.max(highest, value);
    lowest = Math.min(lowest, value);
  }
  add(highest);
  add(lowest);
}

function meanOf(history: SeriesHistory, now: number, steps: number): number {
  let sum = 0;
  for (let lag = 0; lag < steps; lag++) sum += history.value(now - lag);
  return sum / steps;
}

function roughness(history: SeriesHistory, now: number, offset: number): number {
  let sum = 0;
  for (let lag = 0; lag < ROUGHNESS_STEPS; lag++) {
    sum += Math.abs(Math.log((history.value(now - lag) + offset) / (history.value(now - lag - 1) + offset)));
  }
  return sum;
}

/** The offset of a history: a small share of its usual low values, above 0 and in its units. */
export function offsetOf(history: SeriesHistory, from: number, to: number, share: number): number {
  const positive: number[] = [];
  for (let number = from; number < to; number++) if (history.value(number) > 0) positive.push(history.value(number));
  const sorted = Float64Array.from(positive).sort();
  return sorted.length === 0 ? 1 : at(sorted, Math.floor(sorted.length / 100)) * share;
}
