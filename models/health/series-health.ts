/**
 * One metric of one endpoint: how unlike its own past a value is (at seconds and at minutes, with the time of day), and how unlike
 * its usual standing among its peers.
 */

import { splitSeries } from "../telemetry.ts";
import { type DetectorLengths, type DetectorState, SeriesDetector } from "./detector.ts";
import { Expectation, type ExpectationState, type ScalePrior, unwarp, warp } from "./expectation.ts";
import { materialDifference, priorRange, scalePrior } from "./prior.ts";
import { Recent } from "./recent.ts";
import { MedianView, type ViewState } from "./views.ts";

export const GRAINS = { fastMs: 5_000, slowMs: 300_000 } as const;

/** Values of one fast grain: levels over half a minute against five, judged by half an hour that ended two minutes ago. */
const FAST = {
  history: 360,
  learnAfter: 24,
  shift: { length: 6, referenceMin: 12, referenceMax: 60 },
  median: 36,
} as const satisfies DetectorLengths;
/** Values of one slow grain: levels over an hour against a day, times of day over three, judged by three and a half days. */
const SLOW: DetectorLengths = {
  history: 1_000,
  learnAfter: 24,
  shift: { length: 12, referenceMin: 24, referenceMax: 288 },
  median: 48,
  season: { timesOfDay: 24, valuesMax: 36 },
};
const SERIES = {
  recentKept: 60,
  /** Share of the past that the expected range covers. */
  expectedShare: 0.95,
  /** Outside of a prior range, while there is no history: one in ten thousand. */
  priorSurprise: 4,
  /** Median absolute deviation to standard deviation, of a normal distribution. */
  madToDeviation: 1.4826,
  /** Grains after which its own past and its peers are believed alike. */
  trustedGrains: 6,
  /** Deviations of the first values that make the range they let expect. */
  firstDeviations: 2.5,
  /** Of what is believed of a series, the most that its past decides; the rest is what metrics of its kind do. */
  pastShareMax: 0.5,
  /** Peers' deviations within which an endpoint without history is expected. */
  peerDeviations: 3,
  surpriseMax: 8,
} as const;

/** The same metric on the other endpoints at the same moment. */
export interface Peers {
  readonly count: number;
  readonly median: number;
  /** Median absolute deviation. */
  readonly deviation: number;
}

export interface Evidence {
  readonly value: number;
  /** Powers of ten of improbability, 0..8. `peers` is undefined without peers. */
  readonly own: number;
  readonly peers: number | undefined;
  /** How much each of the two knows, 0..1: what they say counts in this proportion. */
  readonly ownWeight: number;
  readonly peersWeight: number;
  readonly expected: { readonly low: number; readonly high: number } | undefined;
  readonly peerMedian: number | undefined;
  /** In units of the usual scatter; undefined while that is not known. */
  readonly score: number | undefined;
}

export interface SeriesState {
  readonly fast: DetectorState;
  readonly slow: DetectorState;
  readonly standing: ViewState;
  /** Of the values, and of the distance to the peers; absent where nothing is known of the metric's unit. */
  readonly first?: ExpectationState | undefined;
  readonly firstStanding?: ExpectationState | undefined;
  readonly recent: readonly number[];
  readonly bucket: { readonly index: number; readonly sum: number; readonly count: number };
  readonly slowSurprise: number;
}

/** What holds for the next value: from the series' past, or from what was expected of it at first. */
interface Usual {
  readonly middle: number;
  readonly reach: number;
}

export class SeriesHealth {
  readonly #name: string;
  readonly #unit: string;
  readonly #prior: { readonly low: number; readonly high: number } | undefined;
  readonly #scale: ScalePrior | undefined;
  readonly #fast = new SeriesDetector(FAST);
  readonly #slow = new SeriesDetector(SLOW);
  readonly #first: Expectation | undefined;
  /** Of the difference to the peers' median, as a ratio where the metric's unit is known. */
  readonly #standing = new MedianView(FAST.median, FAST.history, FAST.learnAfter);
  readonly #firstStanding: Expectation | undefined;
  readonly #recent = new Recent(SERIES.recentKept);
  #bucket = { index: Number.NEGATIVE_INFINITY, sum: 0, count: 0 };
  #slowSurprise = 0;

  constructor(series: string, unit: string) {
    this.#name = splitSeries(series).name;
    this.#unit = unit;
    this.#prior = priorRange(series);
    this.#scale = scalePrior(this.#name, unit);
    if (this.#scale === undefined) return;
    this.#first = new Expectation(this.#scale);
    this.#firstStanding = new Expectation(this.#scale, this.#scale.spread);
  }

  /** Takes the value (finite) of one fast grain. */
  observe(value: number, peers: Peers | undefined, atMs: number): Evidence {
    const usual = this.#fast.usual(SERIES.expectedShare);
    const first = this.#expected();
    const material = this.#material(usual?.middle ?? first?.middle ?? peers?.median ?? 0);
    const isFar = (middle: number) => Math.abs(value - middle) > this.#material(middle);
    const seen = this.#first?.seen ?? 0;
    const fast = this.#fast.observe(value, atMs);
    const early = this.#first?.observe(this.#warped(value));
    this.#observeSlow(value, atMs);
    this.#recent.push(value);
    const outside = usual === undefined ? this.#byPrior(value) : 0;
    const own = blend(
      usual === undefined ? undefined : isFar(usual.middle) ? fast : 0,
      first === undefined ? undefined : isFar(first.middle) ? early : 0,
      seen,
    );
    const reach = usual === undefined ? undefined : Math.max(usual.reach, material);
    const range = usual ?? first;
    return {
      value,
      own: Math.max(own, outside, this.#slowSurprise),
      peers: peers === undefined ? undefined : this.#amongPeers(value, peers, material),
      ownWeight: usual !== undefined || outside > 0 ? 1 : seen / (seen + SERIES.trustedGrains),
      peersWeight: peers === undefined ? 0 : peers.count / (peers.count + 1),
      expected: range === undefined ? this.#atFirst(peers, material, value) : around(range, material, value),
      peerMedian: peers?.median,
      score: usual === undefined || reach === undefined || reach === 0 ? undefined : (value - usual.middle) / reach,
    };
  }

  /** The newest values, oldest first. */
  recent(): readonly number[] {
    return this.#recent.values();
  }

  #material(middle: number): number {
    return materialDifference(this.#name, this.#unit, middle);
  }

  #warped(value: number): number {
    return this.#scale === undefined ? value : warp(value, this.#scale.unit);
  }

  #unwarped(value: number): number {
    return this.#scale === undefined ? value : unwarp(value, this.#scale.unit);
  }

  /** From the first values, however few. */
  #expected(): Usual | undefined {
    const next = this.#first?.next();
    if (next === undefined) return undefined;
    const middle = this.#unwarped(next.mean);
    const high = this.#unwarped(next.mean + SERIES.firstDeviations * next.deviation);
    return { middle, reach: high - middle };
  }

  /** The range expected while there is no history. */
  #atFirst(peers: Peers | undefined, material: number, value: number): { low: number; high: number } | undefined {
    if (this.#prior !== undefined || peers === undefined) return this.#prior;
    const reach = SERIES.peerDeviations * SERIES.madToDeviation * peers.deviation;
    return around({ middle: peers.median, reach }, material, value);
  }

  #byPrior(value: number): number {
    const range = this.#prior;
    return range !== undefined && (value < range.low || value > range.high) ? SERIES.priorSurprise : 0;
  }

  /** At first by the distance to the others, later by how that differs from where the endpoint usually stands among them. */
  #amongPeers(value: number, peers: Peers, material: number): number {
    const median = this.#warped(peers.median);
    const difference = this.#warped(value) - median;
    const isFar = (from: number) => Math.abs(value - this.#unwarped(median + from)) > material;
    const usual = this.#standing.usual(SERIES.expectedShare);
    const surprise = this.#standing.observe(difference) ?? 0;
    const first = this.#firstStanding;
    if (first === undefined) {
      if (usual !== undefined) return isFar(usual.middle) ? surprise : 0;
      const deviation = Math.max(SERIES.madToDeviation * peers.deviation, material, Number.MIN_VALUE);
      return isFar(0) ? fewPeers(difference / deviation) : 0;
    }
    const { seen } = first;
    const middle = first.next()?.mean ?? 0;
    const early = first.observe(difference);
    const full = usual === undefined ? undefined : isFar(usual.middle) ? surprise : 0;
    return blend(full, isFar(middle) ? early : 0, seen);
  }

  #observeSlow(value: number, atMs: number): void {
    const index = Math.floor(atMs / GRAINS.slowMs);
    const bucket = this.#bucket;
    if (index <= bucket.index) {
      this.#bucket = { index: bucket.index, sum: bucket.sum + value, count: bucket.count + 1 };
      return;
    }
    this.#bucket = { index, sum: value, count: 1 };
    if (bucket.count === 0) return;
    const mean = bucket.sum / bucket.count;
    const usual = this.#slow.usual(SERIES.expectedShare);
    const surprise = this.#slow.observe(mean, bucket.index * GRAINS.slowMs);
    const isMaterial =
      usual !== undefined && Math.abs(mean - usual.middle) > materialDifference(this.#name, this.#unit, usual.middle);
    this.#slowSurprise = isMaterial ? surprise : 0;
  }

  snapshot(): SeriesState {
    return {
      fast: this.#fast.snapshot(),
      slow: this.#slow.snapshot(),
      standing: this.#standing.snapshot(),
      first: this.#first?.snapshot(),
      firstStanding: this.#firstStanding?.snapshot(),
      recent: this.#recent.values(),
      bucket: { ...this.#bucket, index: Number.isFinite(this.#bucket.index) ? this.#bucket.index : -1 },
      slowSurprise: this.#slowSurprise,
    };
  }

  restore(state: SeriesState): void {
    this.#fast.restore(state.fast);
    this.#slow.restore(state.slow);
    this.#standing.restore(state.standing);
    if (state.first !== undefined) this.#first?.restore(state.first);
    if (state.firstStanding !== undefined) this.#firstStanding?.restore(state.firstStanding);
    for (const value of state.recent) this.#recent.push(value);
    this.#bucket = { ...state.bucket };
    this.#slowSurprise = state.slowSurprise;
  }
}

/** The range around the middle; a metric that is never negative is not expected to be. */
function around({ middle, reach }: Usual, material: number, value: number): { low: number; high: number } {
  const wide = Math.max(reach, material);
  const low = middle - wide;
  return { low: low < 0 && middle >= 0 && value >= 0 ? 0 : low, high: middle + wide };
}

/** What the series' past says and what was expected at first, the former as much as there is of it. */
function blend(full: number | undefined, first: number | undefined, seen: number): number {
  if (full === undefined || first === undefined) return full ?? first ?? 0;
  const share = Math.min(SERIES.pastShareMax, seen / FAST.history);
  return share * full + (1 - share) * first;
}

/** Surprise of a distance in deviations by a t distribution with two degrees of freedom: few peers say little of its tails. */
function fewPeers(deviations: number): number {
  const square = deviations * deviations;
  const root = Math.sqrt(2 + square);
  // 1 - |t| / sqrt(2 + t²), written so that it does not cancel.
  const probability = 2 / (root * (root + Math.abs(deviations)));
  return Number.isFinite(root) ? Math.min(SERIES.surpriseMax, -Math.log10(probability)) : SERIES.surpriseMax;
}
