/**
 * A trained model asked about the fleet: whether it may be, what it says within the policy's window, and which columns made it say so.
 * Pure; its state of each endpoint is kept by the caller.
 */
import { LIMITS } from "../limits.ts";
import { type Estimate, orderly } from "../risk.ts";
import { FeatureExtractor, type UnitState } from "./features.ts";
import { FLEET_COLUMNS, metricsOf } from "./fleet-columns.ts";
import { FLEET_MINUTE_MS, type FleetRow } from "./fleet-table.ts";
import { importance } from "./importance.ts";
import { type FailureModel, predict } from "./model.ts";

/** What a model says of one endpoint. */
export interface LearnedRisk {
  readonly model: string;
  /** That it fails within the policy's window. */
  readonly failure: Estimate;
  /** The strongest columns, in words. */
  readonly text: string;
  /** Metrics whose meaning the model has learned: what was stated of them before gives way. */
  readonly knows: ReadonlySet<string>;
}

/**
 * A model follows endpoints from a day back, minute by minute, and knows their usual values from eight days back, hour by hour: as long as
 * the slowest of the columns' baselines. Stored minutes and hours are read in such stretches.
 */
export const FOLLOW = {
  catchUpMs: 86_400_000,
  stretchMs: 1_800_000,
  usualMs: 8 * 86_400_000,
  usualStepMs: 3_600_000,
  usualStretchMs: 43_200_000,
} as const;

/** A model is asked about windows up to so many times longer or shorter than its own. */
const WINDOW_FACTOR_MAX = 4;
/** Columns that are tried as reasons, the most important first, and those that are named. */
const COLUMNS_TRIED = 12;
const COLUMNS_NAMED = 3;
/** A reason takes at least this share of the score's distance from the usual away. */
const REASON_SHARE_MIN = 0.1;
/** Below this nobody asks why. */
const REASON_PROBABILITY_MIN = 0.1;

/** Why a model is no model of the fleet; undefined where it is one. */
export function whyForeign({ plan }: FailureModel): string | undefined {
  const wanted = FLEET_COLUMNS.map(({ name }) => name);
  const missing = wanted.filter((name) => !plan.columns.includes(name));
  const unknown = plan.columns.filter((name) => !wanted.includes(name));
  if (missing.length > 0 || unknown.length > 0) {
    const shown = (names: readonly string[]) => (names.length === 0 ? "none" : names.slice(0, 3).join(", "));
    return `it was trained on other columns than the fleet has (unknown: ${shown(unknown)}; missing: ${shown(missing)})`;
  }
  return wanted.every((name, at) => plan.columns[at] === name)
    ? undefined
    : "its columns are in another order than the fleet's";
}

/** Why a model of the fleet is not asked at present; undefined where it is. */
export function whyUnasked({ metrics, window }: FailureModel, windowMs: number): string | undefined {
  if (!metrics.carriesSignal) return "the telemetry that it was trained on does not tell failures from the rest";
  const ratio = windowMs / (window * FLEET_MINUTE_MS);
  if (ratio <= WINDOW_FACTOR_MAX && ratio >= 1 / WINDOW_FACTOR_MAX) return undefined;
  return `it looks ${window} min ahead and the policy asks for ${Number((windowMs / FLEET_MINUTE_MS).toFixed(2))} min, more than ${WINDOW_FACTOR_MAX} times off`;
}

/**
 * The same danger, as lasting as it is, over another window: 1 - (1-p)^(to/from). Monotone; the identity where the windows agree.
 */
export function overWindow({ value, low, high }: Estimate, fromMs: number, toMs: number): Estimate {
  const converted = (probability: number) => -Math.expm1(Math.log1p(-Math.min(1, Math.max(0, probability))) * (toMs / fromMs));
  return orderly({ value: converted(value), low: converted(low), high: converted(high) });
}

/**
 * What a model remembers of one endpoint. Units of its training are pieces of a life of at most so long: so another memory is begun half
 * way, and takes over at the end.
 */
export interface FleetUnit {
  readonly state: UnitState;
  /** Minutes since 1970. */
  readonly sinceTime: number;
  readonly heir?: { readonly state: UnitState; readonly sinceTime: number } | undefined;
}

const LIFE_MINUTES = LIMITS.training.pieceMs / FLEET_MINUTE_MS;

export class FleetModel {
  readonly id: string;
  readonly #model: FailureModel;
  readonly #extractor: FeatureExtractor;
  readonly #knows: ReadonlySet<string>;
  readonly #reasons: readonly Reason[];
  /** Features of an endpoint at which nothing is unusual. */
  readonly #usual: Float32Array;

  /** Only for a model that is not foreign. */
  constructor(id: string, model: FailureModel) {
    this.id = id;
    this.#model = model;
    this.#extractor = new FeatureExtractor(model.plan);
    this.#knows = new Set(FLEET_COLUMNS.flatMap(({ name }, at) => (model.plan.kinds[at] === "ignored" ? [] : metricsOf(name))));
    this.#usual = usualRow(this.#extractor);
    this.#reasons = reasonsOf(model, this.#extractor);
  }

  /** What is known of an endpoint after a minute that is over; of one that was not known, or begins anew, from that minute on. */
  follow(known: FleetUnit | undefined, row: FleetRow): FleetUnit {
    const unit = row.isFirst ? undefined : known;
    const { state, sinceTime, heir } = unit ?? { state: this.#extractor.start(), sinceTime: row.time };
    this.#take(state, row);
    if (heir !== undefined) {
      this.#take(heir.state, row);
      return row.time - sinceTime < LIFE_MINUTES ? { state, sinceTime, heir } : heir;
    }
    if (row.time - sinceTime < LIFE_MINUTES / 2) return { state, sinceTime };
    const begun = this.#extractor.start();
    this.#take(begun, row);
    return { state, sinceTime, heir: { state: begun, sinceTime: row.time } };
  }

  /** What it says after one more row, of a minute that may not be over; nothing of that is kept. */
  risk(known: FleetUnit | undefined, row: FleetRow, windowMs: number): LearnedRisk {
    const state = row.isFirst || known === undefined ? this.#extractor.start() : this.#extractor.copy(known.state);
    return this.#riskOf(this.#take(state, row), windowMs);
  }

  #take(state: UnitState, { time, cells }: FleetRow): Float32Array {
    const row = new Float32Array(this.#extractor.names.length);
    this.#extractor.push(state, time, cells, 0, row, 0);
    return row;
  }

  #riskOf(row: Float32Array, windowMs: number): LearnedRisk {
    const { probability, low, high } = predict(this.#model, row, 0);
    const failure = overWindow({ value: probability, low, high }, this.#model.window * FLEET_MINUTE_MS, windowMs);
    const because = probability < REASON_PROBABILITY_MIN ? [] : this.#because(row, probability);
    const text = `model ${this.id} says so${because.length === 0 ? "" : ` by ${because.join(", ")}`}`;
    return { model: this.id, failure, text, knows: this.#knows };
  }

  /** Columns without which it would say less: each in turn is given its usual features. */
  #because(row: Float32Array, probability: number): readonly string[] {
    const logOdds = (value: number) => Math.log(value / (1 - value));
    const clamped = (value: number) => Math.min(1 - 1e-9, Math.max(1e-9, value));
    const whole = logOdds(clamped(probability)) - logOdds(clamped(predict(this.#model, this.#usual, 0).probability));
    if (!(whole > 0)) return [];
    return this.#reasons
      .map((reason) => {
        const without = row.slice();
        for (const at of reason.features) without[at] = this.#usual[at] as number;
        const fall = logOdds(clamped(probability)) - logOdds(clamped(predict(this.#model, without, 0).probability));
        return { share: fall / whole, text: shown(reason, row) };
      })
      .filter(({ share }) => share >= REASON_SHARE_MIN)
      .toSorted((a, b) => b.share - a.share)
      .slice(0, COLUMNS_NAMED)
      .map(({ text }) => text);
  }
}

interface Reason {
  readonly label: string;
  readonly kind: "sensor" | "event" | "level";
  /** Numbers of the column's features, the one at once and the fast one first where there are such. */
  readonly features: readonly number[];
}

function reasonsOf(model: FailureModel, { names }: FeatureExtractor): readonly Reason[] {
  const columnOf = (feature: string) => feature.split(".", 1)[0] as string;
  const shares = new Map<string, number>();
  for (const { name, share } of importance(model)) shares.set(columnOf(name), (shares.get(columnOf(name)) ?? 0) + share);
  return [...shares]
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, COLUMNS_TRIED)
    .map(([column]) => {
      const at = FLEET_COLUMNS.findIndex(({ name }) => name === column);
      const kind = model.plan.kinds[at];
      const features = names.flatMap((name, feature) => (columnOf(name) === column ? [feature] : []));
      return {
        label: FLEET_COLUMNS[at]?.label ?? column,
        kind: kind === "sensor" || kind === "event" ? kind : "level",
        features,
      };
    });
}

function shown({ label, kind, features }: Reason, row: Float32Array): string {
  const [now = 0, fast = 0] = features.map((at) => row[at] as number);
  if (kind === "level") return `${label} (${Number(now.toPrecision(3))})`;
  if (kind === "event") return `${label} (${Math.round(fast)} of late)`;
  return `${label} (${Math.abs(fast).toFixed(1)} deviations ${fast < 0 ? "below" : "above"} the usual)`;
}

function usualRow(extractor: FeatureExtractor): Float32Array {
  const { plan } = extractor;
  const cells = plan.columns.map((_, column) =>
    plan.kinds[column] === "event" ? 0 : (plan.regimes.means[0]?.[column] as number),
  );
  const row = new Float32Array(extractor.names.length);
  extractor.push(extractor.start(), 0, cells, 0, row, 0);
  return row;
}
