/**
 * One metric of one endpoint: how unlike its own past a value is (at seconds and at minutes, with the time of day), and how unlike
 * its usual standing among its peers.
 */

import { splitSeries } from "../telemetry.ts";
import { type DetectorLengths, type DetectorState, SeriesDetector } from "./detector.ts";
import { materialDifference, priorRange } from "./prior.ts";
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
  readonly expected: { readonly low: number; readonly high: number } | undefined;
  readonly peerMedian: number | undefined;
  /** In units of the usual scatter; undefined while that is not known. */
  readonly score: number | undefined;
}

export interface SeriesState {
  readonly fast: DetectorState;
  readonly slow: DetectorState;
  readonly standing: ViewState;
  readonly recent: readonly number[];
  readonly bucket: { readonly index: number; readonly sum: number; readonly count: number };
  readonly slowSurprise: number;
}

export class SeriesHealth {
  readonly #name: string;
  readonly #unit: string;
  readonly #prior: { readonly low: number; readonly high: number } | undefined;
  readonly #fast = new SeriesDetector(FAST);
  readonly #slow = new SeriesDetector(SLOW);
  /** Of the difference to the peers' median. */
  readonly #standing = new MedianView(FAST.median, FAST.history, FAST.learnAfter);
  readonly #recent = new Recent(SERIES.recentKept);
  #bucket = { index: Number.NEGATIVE_INFINITY, sum: 0, count: 0 };
  #slowSurprise = 0;

  constructor(series: string, unit: string) {
    this.#name = splitSeries(series).name;
    this.#unit = unit;
    this.#prior = priorRange(series);
  }

  /** Takes the value (finite) of one fast grain. */
  observe(value: number, peers: Peers | undefined, atMs: number): Evidence {
    const usual = this.#fast.usual(SERIES.expectedShare);
    const material = materialDifference(this.#name, this.#unit, usual?.middle ?? peers?.median ?? 0);
    const fast = this.#fast.observe(value, atMs);
    this.#observeSlow(value, atMs);
    this.#recent.push(value);
    const reach = usual === undefined ? undefined : Math.max(usual.reach, material);
    const isMaterial = usual === undefined || Math.abs(value - usual.middle) > material;
    return {
      value,
      own: usual === undefined ? this.#byPrior(value) : Math.max(isMaterial ? fast : 0, this.#slowSurprise),
      peers: peers === undefined ? undefined : this.#amongPeers(value - peers.median, peers, material, atMs),
      expected:
        usual !== undefined && reach !== undefined ? around(usual.middle, reach, value) : this.#atFirst(peers, material, value),
      peerMedian: peers?.median,
      score: usual === undefined || reach === undefined || reach === 0 ? undefined : (value - usual.middle) / reach,
    };
  }

  /** The newest values, oldest first. */
  recent(): readonly number[] {
    return this.#recent.values();
  }

  /** The range expected while there is no history. */
  #atFirst(peers: Peers | undefined, material: number, value: number): { low: number; high: number } | undefined {
    if (this.#prior !== undefined || peers === undefined) return this.#prior;
    return around(peers.median, Math.max(SERIES.peerDeviations * SERIES.madToDeviation * peers.deviation, material), value);
  }

  #byPrior(value: number): number {
    const range = this.#prior;
    return range !== undefined && (value < range.low || value > range.high) ? SERIES.priorSurprise : 0;
  }

  /** At first by the distance to the others, later by how that differs from where the endpoint usually stands among them. */
  #amongPeers(difference: number, peers: Peers, material: number, atMs: number): number {
    const usual = this.#standing.usual(SERIES.expectedShare);
    const surprise = this.#standing.observe(difference);
    const isMaterial = Math.abs(difference - (usual?.middle ?? 0)) > material;
    if (!isMaterial || !Number.isFinite(atMs)) return 0;
    if (usual !== undefined && surprise !== undefined) return surprise;
    return fewPeers(difference / Math.max(SERIES.madToDeviation * peers.deviation, material, Number.MIN_VALUE));
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
      recent: this.#recent.values(),
      bucket: { ...this.#bucket, index: Number.isFinite(this.#bucket.index) ? this.#bucket.index : -1 },
      slowSurprise: this.#slowSurprise,
    };
  }

  restore(state: SeriesState): void {
    this.#fast.restore(state.fast);
    this.#slow.restore(state.slow);
    this.#standing.restore(state.standing);
    for (const value of state.recent) this.#recent.push(value);
    this.#bucket = { ...state.bucket };
    this.#slowSurprise = state.slowSurprise;
  }
}

/** The range around the middle; a metric that is never negative is not expected to be. */
function around(middle: number, reach: number, value: number): { low: number; high: number } {
  const low = middle - reach;
  return { low: low < 0 && middle >= 0 && value >= 0 ? 0 : low, high: middle + reach };
}

/** Surprise of a distance in deviations by a t distribution with two degrees of freedom: few peers say little of its tails. */
function fewPeers(deviations: number): number {
  const square = deviations * deviations;
  const root = Math.sqrt(2 + square);
  // 1 - |t| / sqrt(2 + t²), written so that it does not cancel.
  const probability = 2 / (root * (root + Math.abs(deviations)));
  return Number.isFinite(root) ? Math.min(SERIES.surpriseMax, -Math.log10(probability)) : SERIES.surpriseMax;
}
