/**
 * The forecast of one series at one lead, online: a distribution mixed from the simple candidates and a quantile forest, each weighed by its
 * pinball loss of late, and an interval that is calibrated on how earlier forecasts turned out. Persistence never leaves the race.
 */
import { type Autoregression, CANDIDATES, fitAutoregression, pointForecasts } from "./candidates.ts";
import { FEATURE_COUNT, fillFeatures, levelAt, offsetOf, reachSteps } from "./load-features.ts";
import { at, quantileOfSorted, SortedWindow } from "./numeric.ts";
import { QuantileForest } from "./quantile-forest.ts";
import { HISTORY, type SeriesHistory } from "./series-history.ts";

const MODEL = {
  /** Edges of the grid that distributions are counted on: quantiles of the past ratios of value to level. */
  gridEdges: 200,
  /** A forest learns from this many rows on, and anew after so many days. */
  forestRowsMin: 144,
  refitDays: 2,
  forest: { trees: 40, rowsPerLeafMin: 20, depthMax: 12, featuresPerSplit: 10, rowShare: 0.5, seed: 7 },
  /** Past errors that make a candidate's distribution. */
  residualsKept: 400,
  /** Fewer say nothing of the 5 % at either end. */
  residualsMin: 20,
  /** Before there are residuals: a load changes by so much (relative, one standard deviation) a step. */
  priorDeviation: 0.15,
  /** Losses of the candidates halve in weight after so many days; weights go with the loss to this power. */
  lossHalfLifeDays: 1,
  lossPower: 6,
  persistenceWeightMin: 0.02,
  /** Forecasts whose outcome calibrates the interval. */
  calibrationSteps: 1_000,
  calibrationMin: 60,
  /** Drift: of the newest forecasts so many outside the 90 % interval (5 % do so once in 10,000 steps); then only these count. */
  /**
   * Each end of the interval aims at missing 5 %. When it misses more or less, what it asks of past outcomes moves by this share of the
   * difference (adaptive conformal inference, Gibbs and Candes 2021), within bounds.
   */
  tailRate: 0.005,
  tailMin: 0.02,
  tailMax: 0.1,
  driftSteps: 48,
  driftMissesMax: 16,
} as const;

/** Levels that the pinball loss is taken at: capacity cares for the upper ones. */
const LOSS_LEVELS = [0.1, 0.5, 0.75, 0.9, 0.95] as const;
/** Levels that a pending forecast is remembered by, for its calibration. */
const KEPT_LEVELS = [
  0.001, 0.003, 0.006, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92,
  0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.994, 0.997, 0.999,
] as const;
/** Whose distributions are mixed, in this order. */
const RACERS = [...CANDIDATES, "forest"] as const;
const PERSISTENCE = 0;
/** Loss of a racer that has not been scored yet. */
const UNSCORED = -1;
/** Half of what lies outside the 90 % interval. */
const TAIL = 0.05;

/** A distribution of demand: P(demand <= edges[i]) = cumulative[i]; edges in units of the series, ascending. */
export interface LoadDistribution {
  readonly edges: Float64Array;
  readonly cumulative: Float64Array;
}

export interface LoadForecast {
  /** The observation that it is for (numbered from 0), and the newest one that it knows of. */
  readonly target: number;
  readonly now: number;
  readonly distribution: LoadDistribution;
  /** Median and calibrated 90 % interval, in units of the series. */
  readonly median: number;
  readonly lower: number;
  readonly upper: number;
  /** Each method's share of the mixture, by name; those with none are left out. */
  readonly methods: Readonly<Record<string, number>>;
}

interface Pending {
  readonly target: number;
  /** For each candidate, in logarithms; null where it could not say. */
  readonly points: readonly (number | null)[];
  /** For each racer, its values at LOSS_LEVELS; empty where it could not say. */
  readonly quantiles: readonly (readonly number[])[];
  readonly mixed: readonly number[];
  readonly lower: number;
  readonly upper: number;
}

export interface LeadModelState {
  readonly lead: number;
  readonly fittedAt: number;
  readonly residuals: readonly (readonly number[])[];
  readonly losses: readonly number[];
  readonly scored: readonly number[];
  readonly outcomes: readonly number[];
  readonly misses: readonly number[];
  readonly tails: readonly [number, number];
  readonly pending: readonly Pending[];
}

interface Fit {
  readonly offset: number;
  /** ln of the ratios of value to level where the grid's cells end. */
  readonly logEdges: Float64Array;
  readonly forest: QuantileForest | undefined;
  readonly autoregression: Autoregression | undefined;
}

/** What the methods said of one target. */
interface Race {
  /** For each candidate, in logarithms; NaN where it cannot say. */
  readonly points: Float64Array;
  /** For each racer its cumulative distribution on the grid. */
  readonly shares: readonly (Float64Array | undefined)[];
  readonly weights: readonly number[];
}

export class LeadModel {
  readonly lead: number;
  private readonly history: SeriesHistory;
  /** Observations known when the forest was grown; 0 before the first. */
  private fittedAt = 0;
  private fit: Fit;
  private residuals: SortedWindow[];
  private losses: number[];
  /** Times that each was scored. */
  private scored: number[];
  private outcomes: SortedWindow;
  private misses: number[] = [];
  /** Shares of past outcomes left outside, below and above. */
  private tails: [number, number] = [TAIL, TAIL];
  private pending: Pending[] = [];

  /** `lead`: steps from the newest observation to the one that is forecast. The history is shared and pushed to by its owner. */
  constructor(history: SeriesHistory, lead: number) {
    this.history = history;
    this.lead = lead;
    this.fit = { offset: 1, logEdges: defaultEdges(), forest: undefined, autoregression: undefined };
    this.residuals = CANDIDATES.map(() => new SortedWindow(MODEL.residualsKept));
    this.losses = RACERS.map(() => UNSCORED);
    this.scored = RACERS.map(() => 0);
    this.outcomes = new SortedWindow(MODEL.calibrationSteps);
  }

  /** Scores what was forecast for the newest observation. To be called after each push to the history. */
  observed(): void {
    const number = this.history.count - 1;
    const due = this.pending.filter((one) => one.target === number);
    this.pending = this.pending.filter((one) => one.target > number);
    if (this.history.isKnown(number)) for (const one of due) this.score(one, this.history.value(number));
  }

  /**
   * The forecast from what is known; undefined before anything is. `peerRise`: ln of what peers' load usually does from now to the target,
   * NaN where there are none.
   */
  forecast(peerRise = Number.NaN): LoadForecast | undefined {
    const now = this.history.count - 1;
    if (now < 0 || this.history.oldest > now) return undefined;
    if (this.hasReach(now)) this.refitIfDue();
    else this.fit = { ...this.fit, offset: this.offsetSoFar() };
    const { offset, logEdges } = this.fit;
    const logLevel = Math.log(levelAt(this.history, now, offset));
    const edges = logEdges.map((edge) => Math.max(0, Math.exp(logLevel + edge) - offset));
    const points = pointForecasts(this.history, now, this.lead, offset, { autoregression: this.fit.autoregression, peerRise });
    const shares = this.distributions(now, points, logLevel);
    const weights = this.weights(shares);
    return this.remember(now, { edges, cumulative: this.mix(shares, weights) }, { points, shares, weights });
  }

  private hasReach(now: number): boolean {
    return now - this.history.oldest >= reachSteps(this.history) + this.lead;
  }

  private offsetSoFar(): number {
    return offsetOf(this.history, this.history.oldest, this.history.count, HISTORY.offsetShare);
  }

  private distributions(now: number, points: Float64Array, logLevel: number): (Float64Array | undefined)[] {
    const { logEdges } = this.fit;
    const simple = CANDIDATES.map((_, index) => {
      const residuals = this.residuals[index] as SortedWindow;
      const point = at(points, index) - logLevel;
      if (Number.isNaN(point)) return undefined;
      if (residuals.length >= MODEL.residualsMin) return shiftedShares(logEdges, point, residuals);
      const spread = MODEL.priorDeviation * Math.sqrt(this.lead);
      return logEdges.map((edge) => 1 / (1 + Math.exp((-1.7 * (edge - point)) / spread)));
    });
    return [...simple, this.forestShares(now)];
  }

  private forestShares(now: number): Float64Array | undefined {
    const { forest, logEdges, offset } = this.fit;
    if (forest === undefined) return undefined;
    const features = new Float64Array(FEATURE_COUNT);
    fillFeatures(this.history, now, this.lead, offset, features);
    const shares = new Float64Array(logEdges.length);
    forest.addShares(features, shares);
    let sum = 0;
    return shares.map((share) => (sum += share));
  }

  /** Shares of the mixture; they add up to 1. */
  private weights(shares: readonly (Float64Array | undefined)[]): number[] {
    const losses = shares.map((one, index) => (one === undefined ? Number.NaN : at(this.losses, index)));
    const known = losses.filter((loss) => loss > 0);
    const best = Math.min(...known);
    const typical = Math.max(...known);
    const raw = losses.map((loss, index) => {
      if (shares[index] === undefined) return 0;
      if (known.length === 0) return 1;
      const weight = (best / (loss >= 0 ? Math.max(loss, best) : typical)) ** MODEL.lossPower;
      return index === PERSISTENCE ? Math.max(weight, MODEL.persistenceWeightMin) : weight;
    });
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return raw.map((weight) => weight / total);
  }

  private mix(shares: readonly (Float64Array | undefined)[], weights: readonly number[]): Float64Array {
    const mixed = new Float64Array(this.fit.logEdges.length);
    shares.forEach((one, index) => {
      const weight = at(weights, index);
      if (one !== undefined && weight > 0)
        for (let cell = 0; cell < mixed.length; cell++) mixed[cell] = at(mixed, cell) + weight * at(one, cell);
    });
    return smoothed(mixed);
  }

  private remember(now: number, distribution: LoadDistribution, { points, shares, weights }: Race): LoadForecast {
    const quantiles = shares.map((one) =>
      one === undefined ? [] : LOSS_LEVELS.map((level) => quantile({ edges: distribution.edges, cumulative: one }, level)),
    );
    const mixed = KEPT_LEVELS.map((level) => quantile(distribution, level));
    const median = quantile(distribution, 0.5);
    const [lower, upper] = this.interval(distribution, median);
    const known = Array.from(points, (point) => (Number.isFinite(point) ? point : null));
    const target = now + this.lead;
    if (!this.pending.some((one) => one.target === target))
      this.pending.push({ target, points: known, quantiles, mixed, lower, upper });
    const methods = Object.fromEntries(
      RACERS.map((name, index) => [name, at(weights, index)] as const).filter(([, share]) => share > 0),
    );
    return { target, now, distribution, median, lower, upper, methods };
  }

  /** Rolling conformal: the levels between which 90 % of the outcomes lay of late. The median is always inside. */
  private interval(distribution: LoadDistribution, median: number): [number, number] {
    const { sorted, length } = this.outcomes;
    if (length < MODEL.calibrationMin) return [quantile(distribution, TAIL), quantile(distribution, 1 - TAIL)];
    const beyond = 1 / (length + 1);
    const [below, above] = this.tails;
    const low = quantileOfSorted(sorted, length, Math.max(0, below - beyond));
    const high = quantileOfSorted(sorted, length, Math.min(1, 1 - above + beyond));
    return [Math.min(median, quantile(distribution, low)), Math.max(median, quantile(distribution, high))];
  }

  private score(pending: Pending, value: number): void {
    const decay = 0.5 ** (1 / (MODEL.lossHalfLifeDays * this.history.stepsPerDay));
    pending.quantiles.forEach((quantiles, racer) => {
      if (quantiles.length === 0) return;
      const loss = quantiles.reduce((sum, one, index) => sum + pinball(value, one, LOSS_LEVELS[index] as number), 0);
      const before = at(this.losses, racer);
      const scored = at(this.scored, racer) + 1;
      // The plain mean at first: otherwise the very first loss would weigh for a day.
      const share = Math.max(1 - decay, 1 / scored);
      this.scored[racer] = scored;
      this.losses[racer] = before === UNSCORED ? loss : (1 - share) * before + share * loss;
    });
    const logValue = Math.log(value + this.fit.offset);
    pending.points.forEach((point, index) => {
      if (point !== null) this.residuals[index]?.push(logValue - point);
    });
    this.outcomes.push(placeAmong(pending.mixed, value));
    const { tailRate, tailMin, tailMax } = MODEL;
    const [missedLow, missedHigh] = [value < pending.lower, value > pending.upper];
    const moved = (tail: number, missed: boolean): number =>
      Math.min(tailMax, Math.max(tailMin, tail + tailRate * (TAIL - (missed ? 1 : 0))));
    this.tails = [moved(this.tails[0], missedLow), moved(this.tails[1], missedHigh)];
    this.watchDrift(missedLow || missedHigh);
  }

  private watchDrift(isMiss: boolean): void {
    this.misses.push(isMiss ? 1 : 0);
    if (this.misses.length > MODEL.driftSteps) this.misses.shift();
    if (this.misses.reduce((sum, miss) => sum + miss, 0) <= MODEL.driftMissesMax) return;
    this.outcomes.keepNewest(MODEL.driftSteps + MODEL.calibrationMin);
    this.misses = [];
  }

  private refitIfDue(): void {
    const { history } = this;
    const due = this.fittedAt + MODEL.refitDays * history.stepsPerDay;
    if (this.fittedAt > 0 && history.count < due && this.fit.forest !== undefined) return;
    if (this.fittedAt > 0 && history.count < Math.min(due, this.fittedAt * 1.25)) return;
    this.refit(history.count);
  }

  /** Fits on what was known when `count` observations were, so that a restored model fits the same. */
  private refit(count: number): void {
    const { history, lead } = this;
    this.fittedAt = count;
    const from = Math.max(history.oldest + reachSteps(history) + lead + 1, count - history.windowSteps);
    const known: number[] = [];
    for (let target = from; target < count; target++) if (history.isKnown(target)) known.push(target);
    const offset = offsetOf(history, Math.max(history.oldest, from - reachSteps(history)), count, HISTORY.offsetShare);
    if (known.length === 0) {
      this.fit = { ...this.fit, offset };
      return;
    }
    const target = Float64Array.from(known, (one) => {
      return Math.log(history.value(one) + offset) - Math.log(levelAt(history, one - lead, offset));
    });
    const logEdges = edgesOf(target);
    const autoregression = fitAutoregression(history, from, count, lead, offset);
    const forest = known.length < MODEL.forestRowsMin ? undefined : this.growForest(known, target, logEdges, offset);
    this.fit = { offset, logEdges, autoregression, forest };
  }

  private growForest(known: readonly number[], target: Float64Array, logEdges: Float64Array, offset: number): QuantileForest {
    const columns = Array.from({ length: FEATURE_COUNT }, () => new Float64Array(known.length));
    const features = new Float64Array(FEATURE_COUNT);
    known.forEach((one, row) => {
      fillFeatures(this.history, one - this.lead, this.lead, offset, features);
      columns.forEach((column, index) => (column[row] = at(features, index)));
    });
    const last = logEdges.length - 1;
    const bins = Uint16Array.from(target, (value) => Math.min(last, lowerBound(logEdges, value)));
    const sorted = target.toSorted();
    const [low, high] = [0.001, 0.999].map((level) => quantileOfSorted(sorted, sorted.length, level)) as [number, number];
    const clipped = target.map((value) => Math.min(high, Math.max(low, value)));
    return new QuantileForest(columns, clipped, bins, MODEL.forest);
  }

  toState(): LeadModelState {
    return {
      lead: this.lead,
      fittedAt: this.fittedAt,
      residuals: this.residuals.map((one) => one.values()),
      losses: [...this.losses],
      scored: [...this.scored],
      outcomes: this.outcomes.values(),
      misses: [...this.misses],
      tails: [...this.tails],
      pending: this.pending,
    };
  }

  static fromState(history: SeriesHistory, state: LeadModelState): LeadModel {
    const model = new LeadModel(history, state.lead);
    model.residuals = state.residuals.map((values) => new SortedWindow(MODEL.residualsKept, values));
    model.losses = [...state.losses];
    model.scored = [...state.scored];
    model.outcomes = new SortedWindow(MODEL.calibrationSteps, state.outcomes);
    model.misses = [...state.misses];
    model.tails = [...state.tails];
    model.pending = [...state.pending];
    if (state.fittedAt > 0) model.refit(state.fittedAt);
    else if (history.count > 0) model.fit = { ...model.fit, offset: model.offsetSoFar() };
    return model;
  }
}

/** The value that is not exceeded with a probability of `level`, in the units of the distribution. */
export function quantile({ edges, cumulative }: LoadDistribution, level: number): number {
  const cell = Math.min(lowerBound(cumulative, level), edges.length - 1);
  const high = at(edges, cell);
  if (cell === 0) return high;
  const low = at(edges, cell - 1);
  const below = at(cumulative, cell - 1);
  const step = at(cumulative, cell) - below;
  return step > 0 ? low + (high - low) * Math.min(1, (level - below) / step) : high;
}

/** The first place whose value is at least `wanted`. */
function lowerBound(sorted: ArrayLike<number>, wanted: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at(sorted, middle) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

function pinball(value: number, forecast: number, level: number): number {
  return value >= forecast ? level * (value - forecast) : (1 - level) * (forecast - value);
}

/** The level of a value among the remembered quantiles of its forecast. */
function placeAmong(quantiles: readonly number[], value: number): number {
  const below = lowerBound(quantiles, value);
  if (below === 0) return 0;
  if (below === quantiles.length) return 1;
  const low = at(quantiles, below - 1);
  const share = (value - low) / Math.max(at(quantiles, below) - low, Number.MIN_VALUE);
  return at(KEPT_LEVELS, below - 1) + Math.min(1, share) * (at(KEPT_LEVELS, below) - at(KEPT_LEVELS, below - 1));
}

function defaultEdges(): Float64Array {
  return Float64Array.from({ length: MODEL.gridEdges }, (_, index) => (6 * index) / (MODEL.gridEdges - 1) - 3);
}

/** Quantiles of what happened, and room beyond the extremes as wide as between the median and them. */
function edgesOf(target: Float64Array): Float64Array {
  const sorted = target.toSorted();
  const inner = MODEL.gridEdges - 6;
  const edges = Float64Array.from({ length: inner }, (_, index) =>
    quantileOfSorted(sorted, sorted.length, index / (inner - 1)),
  );
  const median = quantileOfSorted(sorted, sorted.length, 0.5);
  const down = Math.max(median - at(sorted, 0), 0.01);
  const up = Math.max(at(sorted, sorted.length - 1) - median, 0.01);
  const low = [0.3, 0.2, 0.1].map((share) => at(edges, 0) - share * down);
  const high = [0.1, 0.2, 0.3].map((share) => at(edges, inner - 1) + share * up);
  return Float64Array.from([...low, ...edges, ...high]);
}

function shiftedShares(logEdges: Float64Array, point: number, residuals: SortedWindow): Float64Array {
  const { sorted, length } = residuals;
  const shares = new Float64Array(logEdges.length);
  let count = 0;
  for (let cell = 0; cell < shares.length; cell++) {
    const most = (logEdges[cell] as number) - point;
    while (count < length && (sorted[count] as number) <= most) count += 1;
    shares[cell] = count / (length + 1);
  }
  return shares;
}

/** A cumulative distribution made of few observations has steps where the real one has a slope: mean of each place and its neighbours. */
function smoothed(cumulative: Float64Array): Float64Array {
  const last = cumulative.length - 1;
  const of = (place: number): number => (place < 0 ? 0 : (cumulative[Math.min(place, last)] as number));
  return cumulative.map((_, cell) => (of(cell - 2) + 2 * of(cell - 1) + 3 * of(cell) + 2 * of(cell + 1) + of(cell + 2)) / 9);
}
