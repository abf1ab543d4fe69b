/** What all endpoints sent within one grain of time, and how each compares with the others. */
import { LIMITS } from "../limits.ts";
import { isWatched } from "./prior.ts";
import type { Peers } from "./series-health.ts";

/** Of each endpoint the values of its series; what is missing or not finite is passed over. */
export type HealthSamples = Readonly<Record<string, Readonly<Record<string, number | null | undefined>>>>;

/** By endpoint and series, finite. */
export type Means = ReadonlyMap<string, ReadonlyMap<string, number>>;

/** Larger magnitudes are taken as this, so that sums and differences stay finite. */
const MAGNITUDE_MAX = 1e150;
/** With more values than this a single one does not move the median: it is not taken out before it is compared. */
const LEAVE_OUT_MAX = 16;

export class Grain {
  readonly #sums = new Map<string, Map<string, { sum: number; count: number }>>();

  get isEmpty(): boolean {
    return this.#sums.size === 0;
  }

  /** Endpoints and series beyond the limits are left aside. */
  take(samples: HealthSamples): void {
    for (const [endpoint, values] of Object.entries(samples)) {
      const known = this.#sums.get(endpoint);
      if (known === undefined && this.#sums.size >= LIMITS.health.endpointsMax) continue;
      const sums = known ?? new Map<string, { sum: number; count: number }>();
      this.#sums.set(endpoint, sums);
      for (const [series, value] of Object.entries(values)) {
        if (typeof value !== "number" || !Number.isFinite(value) || !isWatched(series)) continue;
        const before = sums.get(series);
        if (before === undefined && sums.size >= LIMITS.health.seriesPerEndpointMax) continue;
        const bounded = Math.max(-MAGNITUDE_MAX, Math.min(MAGNITUDE_MAX, value));
        sums.set(series, { sum: (before?.sum ?? 0) + bounded, count: (before?.count ?? 0) + 1 });
      }
    }
  }

  means(): Means {
    const meansOf = (sums: ReadonlyMap<string, { sum: number; count: number }>) =>
      new Map([...sums].map(([series, { sum, count }]) => [series, sum / count]));
    return new Map([...this.#sums].map(([endpoint, sums]) => [endpoint, meansOf(sums)]));
  }
}

/** The values of each series over all endpoints. */
export class PeerTable {
  readonly #sorted: ReadonlyMap<string, readonly number[]>;
  readonly #all = new Map<string, Peers | undefined>();

  constructor(means: Means) {
    const lists = new Map<string, number[]>();
    for (const values of means.values()) {
      for (const [series, value] of values) {
        const list = lists.get(series) ?? [];
        list.push(value);
        lists.set(series, list);
      }
    }
    this.#sorted = new Map([...lists].map(([series, values]) => [series, values.toSorted((one, other) => one - other)]));
  }

  /** How many endpoints have this series. */
  reporting(series: string): number {
    return this.#sorted.get(series)?.length ?? 0;
  }

  /** What the endpoints other than the one with `own` show; undefined where they are too few. */
  of(series: string, own: number): Peers | undefined {
    const values = this.#sorted.get(series) ?? [];
    if (values.length <= LEAVE_OUT_MAX) return summaryOf(values.toSpliced(values.indexOf(own), 1));
    if (!this.#all.has(series)) this.#all.set(series, summaryOf(values));
    return this.#all.get(series);
  }
}

function summaryOf(sorted: readonly number[]): Peers | undefined {
  if (sorted.length === 0) return undefined;
  const median = middleOf(sorted);
  const deviation = middleOf(sorted.map((value) => Math.abs(value - median)).sort((one, other) => one - other));
  return { count: sorted.length, median, deviation };
}

/** Of sorted values: the middle one, or the mean of the middle two. */
function middleOf(sorted: readonly number[]): number {
  const upper = sorted[sorted.length >> 1] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[(sorted.length >> 1) - 1] ?? upper)) / 2;
}
