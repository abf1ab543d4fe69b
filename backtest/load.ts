/** `backtest load`: how often each way of choosing capacity ahead would have been short on recorded demand, all at the same mean slack. */
import { worthwhileCapacity } from "../models/capacity.ts";
import { LeadModel } from "../models/forecast/lead-model.ts";
import { SeriesHistory } from "../models/forecast/series-history.ts";
import { LIMITS } from "../models/limits.ts";
import { badFile, numberOf, readTable, type Table } from "./table.ts";

export interface LoadBacktestOptions {
  readonly data: string;
  readonly stepS: number;
  /** Steps from the newest observation to the interval that is decided on. */
  readonly lead: number;
  /** Mean capacity over mean demand, less 1. */
  readonly slack: number;
}

/** Shares of intervals, 0..1. */
interface SeriesScore {
  /** Intervals under capacity, by who chose it. */
  readonly ours: number;
  readonly reactive: number;
  readonly dayNaive: number;
  readonly oracle: number;
  /** Intervals whose demand lay inside the 90 % interval. */
  readonly coverage90: number;
}

export interface LoadReport {
  readonly average: SeriesScore;
  readonly series: Readonly<Record<string, SeriesScore>>;
}

/** The last 30 % are the test. */
const TRAINED_SHARE = 0.7;

/** Throws INVALID_FIELD for a table that cannot be read as series. */
export async function backtestLoad(options: LoadBacktestOptions): Promise<LoadReport> {
  const table = await readTable(options.data);
  checkTable(table, options);
  const from = Math.floor(table.rows.length * TRAINED_SHARE);
  const entries = table.columns.slice(1).flatMap((name, index): [string, SeriesScore][] => {
    const values = Float64Array.from(table.rows, (_, row) => numberOf(table, row, index + 1));
    // A series that nobody measured in the tested part says nothing.
    return values.subarray(from).every(Number.isNaN) ? [] : [[name, scoreSeries(values, options)]];
  });
  if (entries.length === 0) throw badFile(table.file, "its last 30 % have no value; expected some in one series at least");
  return { average: averageOf(entries.map(([, score]) => score)), series: Object.fromEntries(entries) };
}

function checkTable(table: Table, { stepS, lead }: LoadBacktestOptions): void {
  if (table.columns.length < 2) throw badFile(table.file, "it has no series; expected a timestamp and one column a series");
  if (new Set(table.columns).size !== table.columns.length) throw badFile(table.file, "it names a column twice");
  const stepsNeeded = Math.ceil((LIMITS.backtest.loadDaysMin * 86_400) / stepS) + lead;
  if (table.rows.length * TRAINED_SHARE < stepsNeeded) {
    throw badFile(table.file, `it has ${table.rows.length} rows; the first 70 % have to be ${stepsNeeded} or more`);
  }
}

/** Capacities chosen for each interval, by the same name as their score. */
type Capacities = Record<"ours" | "reactive" | "dayNaive" | "oracle", Float64Array>;

function scoreSeries(values: Float64Array, { stepS, lead, slack }: LoadBacktestOptions): SeriesScore {
  const from = Math.floor(values.length * TRAINED_SHARE);
  const { capacities, coverage90 } = decide(values, from, stepS, lead);
  const short = (capacity: Float64Array): number => shareShort(values, capacity, from, slack);
  return {
    ours: short(capacities.ours),
    reactive: short(capacities.reactive),
    dayNaive: short(capacities.dayNaive),
    oracle: short(capacities.oracle),
    coverage90,
  };
}

/** Walks through the series once; what is chosen for an interval is chosen when only values up to `lead` steps before it are known. */
function decide(
  values: Float64Array,
  from: number,
  stepS: number,
  lead: number,
): { capacities: Capacities; coverage90: number } {
  const history = new SeriesHistory(stepS);
  const model = new LeadModel(history, lead);
  const empty = (): Float64Array => new Float64Array(values.length);
  const capacities: Capacities = { ours: empty(), reactive: empty(), dayNaive: empty(), oracle: values };
  const warmUp = from - LIMITS.backtest.loadWarmUpDays * history.stepsPerDay;
  let inside = 0;
  let tested = 0;
  for (let now = 0; now < values.length - lead; now++) {
    history.push(values[now] as number);
    model.observed();
    const target = now + lead;
    if (target < warmUp) continue;
    const forecast = model.forecast();
    if (forecast === undefined) continue;
    const value = values[target] as number;
    capacities.ours[target] = worthwhileCapacity(forecast.distribution, history.value(now), history.meanKnown());
    capacities.reactive[target] = Math.max(history.value(now), history.value(now - 1));
    capacities.dayNaive[target] = history.value(target - history.stepsPerDay * Math.ceil(lead / history.stepsPerDay));
    if (target < from || Number.isNaN(value)) continue;
    tested += 1;
    if (value >= forecast.lower && value <= forecast.upper) inside += 1;
  }
  return { capacities, coverage90: inside / Math.max(1, tested) };
}

/**
 * The share of the tested intervals whose demand exceeds the capacity, once the capacities are scaled so that their mean is (1 + slack)
 * times the mean demand. Intervals without a measurement count nowhere.
 */
export function shareShort(demand: Float64Array, capacity: Float64Array, from: number, slack: number): number {
  let demandSum = 0;
  let capacitySum = 0;
  let tested = 0;
  for (let step = from; step < demand.length; step++) {
    if (Number.isNaN(demand[step])) continue;
    tested += 1;
    demandSum += demand[step] as number;
    capacitySum += capacity[step] as number;
  }
  const scale = capacitySum > 0 ? ((1 + slack) * demandSum) / capacitySum : 0;
  let short = 0;
  for (let step = from; step < demand.length; step++) {
    if ((demand[step] as number) > scale * (capacity[step] as number)) short += 1;
  }
  return short / Math.max(1, tested);
}

function averageOf(scores: readonly SeriesScore[]): SeriesScore {
  const mean = (name: keyof SeriesScore): number => scores.reduce((sum, score) => sum + score[name], 0) / scores.length;
  return {
    ours: mean("ours"),
    reactive: mean("reactive"),
    dayNaive: mean("dayNaive"),
    oracle: mean("oracle"),
    coverage90: mean("coverage90"),
  };
}
