/**
 * Features of a unit from its observations so far, one row at a time and without looking ahead: the same code makes them from a
 * table for training and from a fleet's telemetry. What is derived: levels, averages over three time scales, the distance from
 * the unit's own beginning, trends, variability, counts and recency of events, age.
 */
import { type Regimes, regimeOf } from "./regimes.ts";

/** A sensor varies; an event column counts rare events; a level stays, or goes with time itself, so that its value says all. */
export type ColumnKind = "sensor" | "event" | "level" | "condition" | "ignored";

/** What training decided about the columns, and all that making features needs. */
export interface FeaturePlan {
  readonly columns: readonly string[];
  readonly kinds: readonly ColumnKind[];
  readonly regimes: Regimes;
  /** Fast, middle and slow, in the table's unit of time. */
  readonly timeScales: readonly [number, number, number];
  /** Whether `time` itself is the unit's age; else the age counts from its first observation. */
  readonly timeIsAge: boolean;
  /** Nothing is known of the units' age: there is no such feature. */
  readonly withoutAge?: boolean | undefined;
}

/** Features that one sensor gives. */
const SENSOR_FEATURES = ["now", "fast", "middle", "slow", "drift", "trend", "turn", "spread"] as const;
const EVENT_FEATURES = ["now", "fast", "middle", "slow", "since"] as const;
/** A z-score farther out says no more than this; it keeps one absurd value from filling the averages. */
const Z_MAX = 8;
/** Observations of a unit that make its own baseline, and how many of the population's mean they are weighed against. */
const BASELINE_OBSERVATIONS = 15;
const BASELINE_PRIOR_OBSERVATIONS = 3;
/** Of one observation: more say no more, and every sum stays within single precision. */
const EVENTS_MAX = 1e6;
const LEVEL_MAX = 1e30;
/** "No event so far" as a time since the last one, in slow time scales. */
const NEVER = 20;

/** Running state of one followed value of one unit. */
interface Followed {
  seen: number;
  last: number;
  fast: number;
  middle: number;
  slow: number;
  square: number;
  baseline: number;
}

interface EventState {
  last: number;
  fast: number;
  middle: number;
  slow: number;
  sinceAt: number;
}

/** What must be remembered of one unit between two of its observations. */
export interface UnitState {
  readonly sensors: readonly Followed[];
  readonly events: readonly EventState[];
  readonly levels: Float64Array;
  startedAt: number | undefined;
  lastAt: number;
}

export class FeatureExtractor {
  readonly plan: FeaturePlan;
  readonly names: readonly string[];
  readonly #sensors: readonly number[];
  readonly #events: readonly number[];
  readonly #levels: readonly number[];
  readonly #z: Float64Array;

  constructor(plan: FeaturePlan) {
    this.plan = plan;
    this.#sensors = columnsOf(plan, "sensor");
    this.#events = columnsOf(plan, "event");
    this.#levels = [...columnsOf(plan, "level"), ...columnsOf(plan, "condition")];
    this.#z = new Float64Array(this.#sensors.length);
    const name = (column: number) => plan.columns[column] as string;
    this.names = [
      ...(plan.withoutAge === true ? [] : ["age"]),
      ...this.#levels.map(name),
      ...this.#events.flatMap((column) => EVENT_FEATURES.map((feature) => `${name(column)}.${feature}`)),
      ...this.#sensors.flatMap((column) => SENSOR_FEATURES.map((feature) => `${name(column)}.${feature}`)),
    ];
  }

  /** State of a unit of which nothing was seen yet. */
  start(): UnitState {
    const followed = (): Followed => ({
      seen: 0,
      last: 0,
      fast: 0,
      middle: 0,
      slow: 0,
      square: 1,
      baseline: 0,
    });
    return {
      sensors: this.#sensors.map(followed),
      events: this.#events.map(() => ({ last: 0, fast: 0, middle: 0, slow: 0, sinceAt: Number.NEGATIVE_INFINITY })),
      levels: Float64Array.from(this.#levels, (column) => this.plan.regimes.means[0]?.[column] as number),
      startedAt: undefined,
      lastAt: 0,
    };
  }

  copy({ sensors, events, levels, startedAt, lastAt }: UnitState): UnitState {
    return {
      sensors: sensors.map((one) => ({ ...one })),
      events: events.map((one) => ({ ...one })),
      levels: levels.slice(),
      startedAt,
      lastAt,
    };
  }

  /** Takes the observation at `offset` of `cells` in, and writes the row of features at `outOffset` of `out`. */
  push(state: UnitState, time: number, cells: ArrayLike<number>, offset: number, out: Float32Array, outOffset: number): void {
    state.startedAt ??= time;
    const elapsed = Math.max(0, time - state.lastAt);
    state.lastAt = time;
    let at = outOffset;
    if (this.plan.withoutAge !== true) out[at++] = this.plan.timeIsAge ? time : time - state.startedAt;
    for (const [i, column] of this.#levels.entries()) {
      const value = cells[offset + column] as number;
      if (Number.isFinite(value)) state.levels[i] = Math.max(-LEVEL_MAX, Math.min(LEVEL_MAX, value));
      out[at++] = state.levels[i] as number;
    }
    const rates = this.plan.timeScales.map((scale) => 1 - Math.exp(-elapsed / scale)) as [number, number, number];
    for (const [i, column] of this.#events.entries()) {
      at = this.#pushEvent(state.events[i] as EventState, cells[offset + column] as number, time, elapsed, out, at);
    }
    this.#standardise(state, cells, offset);
    for (const [i, followed] of state.sensors.entries()) at = pushFollowed(followed, this.#z[i] as number, rates, out, at);
  }

  #standardise(state: UnitState, cells: ArrayLike<number>, offset: number): void {
    const { regimes } = this.plan;
    const regime = regimeOf(regimes, cells, offset);
    const means = regimes.means[regime] as readonly number[];
    const deviations = regimes.deviations[regime] as readonly number[];
    for (const [i, column] of this.#sensors.entries()) {
      const value = cells[offset + column] as number;
      const deviation = deviations[column] as number;
      if (!Number.isFinite(value) || deviation <= 0) this.#z[i] = Number.NaN;
      else this.#z[i] = Math.max(-Z_MAX, Math.min(Z_MAX, (value - (means[column] as number)) / deviation));
    }
  }

  #pushEvent(state: EventState, value: number, time: number, elapsed: number, out: Float32Array, at: number): number {
    const [fast, middle, slow] = this.plan.timeScales;
    const count = Number.isFinite(value) ? Math.max(0, Math.min(EVENTS_MAX, value)) : 0;
    state.last = count;
    state.fast = state.fast * Math.exp(-elapsed / fast) + count;
    state.middle = state.middle * Math.exp(-elapsed / middle) + count;
    state.slow = state.slow * Math.exp(-elapsed / slow) + count;
    if (count > 0) state.sinceAt = time;
    out[at] = state.last;
    out[at + 1] = state.fast;
    out[at + 2] = state.middle;
    out[at + 3] = state.slow;
    out[at + 4] = Math.min(NEVER, (time - state.sinceAt) / slow);
    return at + EVENT_FEATURES.length;
  }
}

function columnsOf(plan: FeaturePlan, kind: ColumnKind): number[] {
  return plan.kinds.map((one, at) => (one === kind ? at : -1)).filter((at) => at >= 0);
}

/** Averages start as plain means (rate 1/n) and forget only once they hold as much as their time scale does. */
function pushFollowed(
  state: Followed,
  z: number,
  [fast, middle, slow]: readonly [number, number, number],
  out: Float32Array,
  at: number,
): number {
  if (!Number.isNaN(z)) {
    state.seen++;
    const least = 1 / state.seen;
    state.last = z;
    state.fast += Math.max(fast, least) * (z - state.fast);
    state.middle += Math.max(middle, least) * (z - state.middle);
    state.slow += Math.max(slow, least) * (z - state.slow);
    state.square += Math.max(middle, least * 0.5) * ((z - state.middle) ** 2 - state.square);
    if (state.seen <= BASELINE_OBSERVATIONS)
      state.baseline += (z - state.baseline) / (state.seen + BASELINE_PRIOR_OBSERVATIONS);
  }
  out[at] = state.last;
  out[at + 1] = state.fast;
  out[at + 2] = state.middle;
  out[at + 3] = state.slow;
  out[at + 4] = state.middle - state.baseline;
  out[at + 5] = state.middle - state.slow;
  out[at + 6] = state.fast - state.middle;
  out[at + 7] = Math.sqrt(Math.max(0, state.square));
  return at + SENSOR_FEATURES.length;
}
