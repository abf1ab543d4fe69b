/**
 * The simple candidates of the load forecast, each a point forecast in logarithms: persistence, yesterday with its level shifted, seasonal
 * smoothing (the ETS class), an autoregression (the ARIMA class), and what the load of peers usually does at this time. How far each has been wrong of late makes its distribution.
 */
import { levelAt } from "./load-features.ts";
import { at, factor, solveFactored } from "./numeric.ts";
import type { SeriesHistory } from "./series-history.ts";

export const CANDIDATES = ["persistence", "yesterday", "season", "autoregression", "peers"] as const;
type CandidateName = (typeof CANDIDATES)[number];

const CANDIDATE = {
  /** Steps over which today's level is held against yesterday's. */
  shiftSteps: 6,
  /** Days of the seasonal profile; each older day counts by so much less (simple smoothing of each time of day). */
  seasonDays: 7,
  seasonDecay: 0.7,
  /** Newest values that the autoregression reads, besides the day before. */
  autoregressionLags: 6,
  /** Ridge on standardised columns, as a share of the rows. */
  ridge: 1e-3,
  rowsMin: 48,
} as const;

/** Coefficients of the autoregression: on the lags relative to the level, the day before, and 1. */
export type Autoregression = Float64Array;

/** The forecast of ln(value + offset) at `now + lead` by each candidate, in the order of CANDIDATES; NaN where it cannot say. */
export function pointForecasts(
  history: SeriesHistory,
  now: number,
  lead: number,
  offset: number,
  { autoregression, peerRise }: { autoregression: Autoregression | undefined; peerRise: number },
): Float64Array {
  const level = Math.log(levelAt(history, now, offset));
  const { seasonDays, seasonDecay } = CANDIDATE;
  const by: Record<CandidateName, number> = {
    persistence: Math.log(history.value(now) + offset),
    yesterday: level + riseOfDays(history, now, lead, offset, 1, 1),
    season: level + riseOfDays(history, now, lead, offset, seasonDays, seasonDecay),
    autoregression: autoregressive(history, now, lead, offset, autoregression),
    peers: level + peerRise,
  };
  return Float64Array.from(CANDIDATES, (name) => by[name]);
}

/** ln of what the load usually does from `now` to `now + lead` at this time of day; NaN before a day is known. Free of units. */
export function usualRise(history: SeriesHistory, now: number, lead: number, offset: number): number {
  return riseOfDays(history, now, lead, offset, CANDIDATE.seasonDays, CANDIDATE.seasonDecay);
}

/** How former days went from this time to the target's, each in relation to its own level; older ones count less by `decay`. */
function riseOfDays(history: SeriesHistory, now: number, lead: number, offset: number, days: number, decay: number): number {
  const day = history.stepsPerDay;
  const ahead = ((lead - 1) % day) + 1;
  let sum = 0;
  let weights = 0;
  let weight = 1;
  for (let back = 1; back <= days; back++) {
    const then = now - back * day;
    if (then - CANDIDATE.shiftSteps < history.oldest) break;
    const rise = Math.log(history.value(then + ahead) + offset) - Math.log(levelAt(history, then, offset));
    sum += weight * rise;
    weights += weight;
    weight *= decay;
  }
  return weights === 0 ? Number.NaN : sum / weights;
}

function fillLags(history: SeriesHistory, now: number, lead: number, offset: number, row: Float64Array): number {
  const level = Math.log(levelAt(history, now, offset));
  const lags = CANDIDATE.autoregressionLags;
  for (let lag = 0; lag < lags; lag++) row[lag] = Math.log(history.value(now - lag) + offset) - level;
  const day = history.stepsPerDay;
  const then = now - day;
  row[lags] = Math.log(history.value(then + ((lead - 1) % day) + 1) + offset) - Math.log(levelAt(history, then, offset));
  row[lags + 1] = 1;
  return level;
}

function autoregressive(
  history: SeriesHistory,
  now: number,
  lead: number,
  offset: number,
  coefficients: Autoregression | undefined,
): number {
  if (coefficients === undefined) return Number.NaN;
  const row = new Float64Array(coefficients.length);
  const level = fillLags(history, now, lead, offset, row);
  return row.reduce((sum, value, index) => sum + value * at(coefficients, index), level);
}

/** Fits the autoregression on the targets `from <= number < to` that are known; undefined while there are too few. */
export function fitAutoregression(
  history: SeriesHistory,
  from: number,
  to: number,
  lead: number,
  offset: number,
): Autoregression | undefined {
  const size = CANDIDATE.autoregressionLags + 2;
  const matrix = new Float64Array(size * size);
  const right = new Float64Array(size);
  const row = new Float64Array(size);
  let rows = 0;
  for (let target = from; target < to; target++) {
    if (!history.isKnown(target)) continue;
    const wanted = Math.log(history.value(target) + offset) - fillLags(history, target - lead, lead, offset, row);
    rows += 1;
    for (let one = 0; one < size; one++) {
      right[one] = at(right, one) + at(row, one) * wanted;
      for (let other = 0; other < size; other++) {
        matrix[one * size + other] = at(matrix, one * size + other) + at(row, one) * at(row, other);
      }
    }
  }
  if (rows < CANDIDATE.rowsMin) return undefined;
  for (let one = 0; one < size; one++) {
    const diagonal = one * size + one;
    matrix[diagonal] = at(matrix, diagonal) * (1 + CANDIDATE.ridge) + CANDIDATE.ridge;
  }
  const lower = factor(matrix, size);
  if (lower === undefined) return undefined;
  solveFactored(lower, size, right, 1);
  return right;
}
