/**
 * The online forecaster of a fleet: one series of demand in five-minute steps in; forecasts 10, 15, 30 and 60 minutes ahead, the demand to
 * plan for, and a plan of the next two days out. Useful from the first value on (persistence), better with each day.
 */
import { worthwhileCapacity } from "../capacity.ts";
import { LIMITS } from "../limits.ts";
import type { DemandForecast } from "../scale.ts";
import { usualRise } from "./candidates.ts";
import { LeadModel, type LeadModelState, type LoadForecast } from "./lead-model.ts";
import { levelAt, offsetOf } from "./load-features.ts";
import { forecastPanel } from "./panel.ts";
import { HISTORY, type HistoryState, SeriesHistory } from "./series-history.ts";

export const FORECASTER = {
  stepMs: 300_000,
  /** How far ahead, in steps: 10, 15, 30 and 60 minutes. */
  leads: [2, 3, 6, 12],
  /** The plan: hours ahead, and the fewest whole days it can be made from. */
  planHours: 48,
  planDaysMin: 3,
  /** Before that many days: standard deviation of ln demand from one hour to the next, and the most it adds up to over many. */
  planDeviation: 0.2,
  planDeviationMax: 0.5,
} as const;

/** Standard deviations of a normal distribution between which 95 % lie on either side. */
const NORMAL_95 = 1.96;

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
  /** Each method's share of the mixture, by name. */
  readonly methods: Readonly<Record<string, number>>;
}

/** ln of what peers' load usually does from now to so many steps ahead; NaN where nobody knows. */
export type PeerRise = (lead: number) => number;

const NO_PEERS: PeerRise = () => Number.NaN;

/** One value for each of the next hours, in units of the series. */
export interface HourlyPlan {
  readonly expected: readonly number[];
  /** The 95 % interval. */
  readonly lower: readonly number[];
  readonly upper: readonly number[];
  /** What it is made from: days of the series' own, or while there are few the course of peers, or what is there at this moment. */
  readonly basis: "history" | "peers" | "present";
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

  /** Whether what was observed last is known: neither missing nor taken for an outage. False before anything was observed. */
  get newestIsKnown(): boolean {
    const { count } = this.history;
    return count > 0 && this.history.isKnown(count - 1);
  }

  /** One for each horizon, the nearest first; empty before anything was measured. */
  forecasts(peerRise: PeerRise = NO_PEERS): HorizonForecast[] {
    if (!this.history.hasKnown()) return [];
    const floor = this.history.value(this.history.count - 1);
    const usual = this.history.meanKnown();
    return this.models.flatMap((model) => {
      const forecast = model.forecast(peerRise(model.lead));
      return forecast === undefined ? [] : [horizonOf(forecast, model.lead, floor, usual)];
    });
  }

  /** ln of what this load usually does in `lead` steps from the time of day that was `back` steps ago; NaN before a day is known. */
  usualRise(lead: number, back = 0): number {
    const { history } = this;
    if (!history.hasKnown() || back < 0) return Number.NaN;
    return usualRise(
      history,
      history.count - 1 - back,
      lead,
      offsetOf(history, history.oldest, history.count, HISTORY.offsetShare),
    );
  }

  /** The next 48 hours by the hour; undefined before anything was measured. */
  plan(peerRise: PeerRise = NO_PEERS): HourlyPlan | undefined {
    if (!this.history.hasKnown()) return undefined;
    const hours: number[] = [];
    for (let end = this.history.count; end - HOUR_STEPS >= this.history.oldest; end -= HOUR_STEPS) {
      let sum = 0;
      for (let number = end - HOUR_STEPS; number < end; number++) sum += this.history.value(number);
      hours.unshift(sum / HOUR_STEPS);
    }
    if (hours.length < FORECASTER.planDaysMin * HOURS_PER_DAY) return this.roughPlan(peerRise);
    const [plan] = forecastPanel([Float64Array.from(hours)], { season: HOURS_PER_DAY, horizon: FORECASTER.planHours });
    if (plan === undefined) return undefined;
    const positive = (values: Float64Array): number[] => Array.from(values, (value) => Math.max(0, value));
    return { expected: positive(plan.points), lower: positive(plan.lower), upper: positive(plan.upper), basis: "history" };
  }

  /** The present level, carried along by what its own days did, else by what those of peers do, else as it is. */
  private roughPlan(peerRise: PeerRise): HourlyPlan {
    const level = levelAt(this.history, this.history.count - 1, 0);
    const leads = Array.from({ length: FORECASTER.planHours }, (_, hour) => hour * HOUR_STEPS + HOUR_STEPS / 2);
    const own = leads.map((lead) => this.usualRise(lead));
    const peers = leads.map(peerRise);
    const basis = own.every(Number.isFinite) ? "history" : peers.every(Number.isFinite) ? "peers" : "present";
    const rises = basis === "history" ? own : basis === "peers" ? peers : leads.map(() => 0);
    const expected = rises.map((rise) => level * Math.exp(rise));
    const factors = rises.map((_, hour) => {
      const { planDeviation, planDeviationMax } = FORECASTER;
      return Math.exp(NORMAL_95 * Math.min(planDeviationMax, planDeviation * Math.sqrt(hour + 1)));
    });
    return {
      expected,
      lower: expected.map((value, hour) => value / (factors[hour] ?? 1)),
      upper: expected.map((value, hour) => value * (factors[hour] ?? 1)),
      basis,
    };
  }

  toState(): ForecasterState {
    return { history: this.history.toState(), models: this.models.map((model) => model.toState()) };
  }
}

function horizonOf(forecast: LoadForecast, lead: number, floor: number, usual: number): HorizonForecast {
  const { median, lower, upper, distribution, methods } = forecast;
  const demand = worthwhileCapacity(distribution, floor, usual);
  return { horizonMs: lead * FORECASTER.stepMs, median, lower, upper, demand, methods };
}

/**
 * The demand to plan for until a machine that is asked for *after the next forecast* would serve: what is asked for on this one has to
 * last until then. `atMs`: end of the newest step; `launchMs`: measured time of a launch or a ghost's wake. Undefined without forecasts.
 */
export function demandForecast(
  all: readonly HorizonForecast[],
  atMs: number,
  launchMs: number,
  days: number,
): DemandForecast | undefined {
  const enough = all.findIndex(({ horizonMs }) => horizonMs >= launchMs + FORECAST_AGE_MS_MAX);
  const reached = enough < 0 ? all : all.slice(0, enough + 1);
  const last = reached.at(-1);
  if (last === undefined) return undefined;
  const source = `from ${days.toFixed(1)} days in steps of five minutes, most by ${leaderOf(last.methods)}`;
  const launch = enough < 0 ? `; a launch takes ${Math.round(launchMs / 60_000)} min, longer than is forecast` : "";
  return {
    atMs,
    horizonMs: last.horizonMs,
    sessionsP50: Math.max(...reached.map(({ median }) => median)),
    sessionsUpper: Math.max(...reached.map(({ demand }) => demand)),
    sessionsUpperLongest: Math.max(...all.map(({ demand }) => demand)),
    text: `${Math.round(last.lower)} to ${Math.round(last.upper)} at 90 %, ${source}${launch}`,
  };
}

/** How old a forecast is at most when the next one takes its place: a step, the wait until it was written, and the watch's pause. */
const FORECAST_AGE_MS_MAX = FORECASTER.stepMs + LIMITS.foresight.demandDelayMs + LIMITS.foresight.scoreIntervalMsMax;

/** The method with the largest share. */
export function leaderOf(methods: Readonly<Record<string, number>>): string {
  const [leader] = Object.entries(methods).toSorted(([, one], [, other]) => other - one);
  return leader?.[0] ?? "none";
}
