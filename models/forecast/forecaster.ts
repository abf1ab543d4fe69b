/**
 * The online forecaster of a fleet: one series of demand in five-minute steps in; forecasts 10, 15, 30 and 60 minutes ahead, the demand to
 * plan for, and a plan of the next two days out. Useful from the first value on (persistence), better with each day.
 */
import { worthwhileCapacity } from "../capacity.ts";
import type { DemandForecast } from "../scale.ts";
import { LeadModel, type LeadModelState, type LoadForecast } from "./lead-model.ts";
import { forecastPanel } from "./panel.ts";
import { type HistoryState, SeriesHistory } from "./series-history.ts";

export const FORECASTER = {
  stepMs: 300_000,
  /** How far ahead, in steps: 10, 15, 30 and 60 minutes. */
  leads: [2, 3, 6, 12],
  /** The plan: hours ahead, and the fewest whole days it can be made from. */
  planHours: 48,
  planDaysMin: 3,
} as const;

const HOUR_STEPS = 12;
const HOURS_PER_DAY = 24;

export interface HorizonForecast {
  readonly horizonMs: number;
  readonly median: number;
  /** The calibrated 90 % interval. */
  readonly lower: number;
  readonly upper: number;
  /** What to have capacity for; never under the newest demand. */
  readonly demand: number;
}

/** One value for each of the next hours, in units of the series. */
export interface HourlyPlan {
  readonly expected: readonly number[];
  /** The 95 % interval. */
  readonly lower: readonly number[];
  readonly upper: readonly number[];
}

/** Bounded by the history's window. JSON. */
export interface ForecasterState {
  readonly history: HistoryState;
  readonly models: readonly LeadModelState[];
}

export class LoadForecaster {
  private readonly history: SeriesHistory;
  private readonly models: readonly LeadModel[];

  constructor(state?: ForecasterState) {
    this.history = state === undefined ? new SeriesHistory(FORECASTER.stepMs / 1_000) : SeriesHistory.fromState(state.history);
    this.models =
      state === undefined
        ? FORECASTER.leads.map((lead) => new LeadModel(this.history, lead))
        : state.models.map((one) => LeadModel.fromState(this.history, one));
  }

  /** Steps ever observed. */
  get observations(): number {
    return this.history.count;
  }

  /** The next step's demand; NaN where nobody could measure it. Units are the caller's. */
  observe(demand: number): void {
    this.history.push(demand);
    for (const model of this.models) model.observed();
  }

  /** One for each horizon, the nearest first; empty before anything was measured. */
  forecasts(): HorizonForecast[] {
    if (!this.history.hasKnown()) return [];
    const floor = this.history.value(this.history.count - 1);
    const usual = this.history.meanKnown();
    return this.models.flatMap((model) => {
      const forecast = model.forecast();
      return forecast === undefined ? [] : [horizonOf(forecast, model.lead, floor, usual)];
    });
  }

  /** The next 48 hours by the hour; undefined while there is too little past to see a day's course. */
  plan(): HourlyPlan | undefined {
    const hours: number[] = [];
    for (let end = this.history.count; end - HOUR_STEPS >= this.history.oldest; end -= HOUR_STEPS) {
      let sum = 0;
      for (let number = end - HOUR_STEPS; number < end; number++) sum += this.history.value(number);
      hours.unshift(sum / HOUR_STEPS);
    }
    if (hours.length < FORECASTER.planDaysMin * HOURS_PER_DAY) return undefined;
    const [plan] = forecastPanel([Float64Array.from(hours)], { season: HOURS_PER_DAY, horizon: FORECASTER.planHours });
    if (plan === undefined) return undefined;
    const positive = (values: Float64Array): number[] => Array.from(values, (value) => Math.max(0, value));
    return { expected: positive(plan.points), lower: positive(plan.lower), upper: positive(plan.upper) };
  }

  toState(): ForecasterState {
    return { history: this.history.toState(), models: this.models.map((model) => model.toState()) };
  }
}

function horizonOf(forecast: LoadForecast, lead: number, floor: number, usual: number): HorizonForecast {
  const { median, lower, upper, distribution } = forecast;
  const demand = worthwhileCapacity(distribution, floor, usual);
  return { horizonMs: lead * FORECASTER.stepMs, median, lower, upper, demand };
}

/**
 * The demand to plan for up to the time in which a machine that is asked for at once would serve. `atMs`: end of the newest step;
 * `launchMs`: measured time of a launch or a ghost's wake. Undefined before anything was measured.
 */
export function demandForecast(forecaster: LoadForecaster, atMs: number, launchMs: number): DemandForecast | undefined {
  const all = forecaster.forecasts();
  const enough = all.findIndex(({ horizonMs }) => horizonMs >= launchMs + FORECASTER.stepMs);
  const reached = enough < 0 ? all : all.slice(0, enough + 1);
  const last = reached.at(-1);
  if (last === undefined) return undefined;
  const days = (forecaster.observations * FORECASTER.stepMs) / 86_400_000;
  const text = `${Math.round(last.lower)} to ${Math.round(last.upper)} at 90 %, from ${days.toFixed(1)} days in steps of five minutes`;
  return {
    atMs,
    horizonMs: last.horizonMs,
    sessionsP50: Math.max(...reached.map(({ median }) => median)),
    sessionsUpper: Math.max(...reached.map(({ demand }) => demand)),
    text,
  };
}
