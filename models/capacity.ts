/**
 * How much capacity a forecast asks for: never under the reactive floor, and above it as long as a further unit is worth its price. So where
 * demand is calm nearly all of it is covered, and no fortune is spent on the tip of a rare burst.
 */
import { type LoadDistribution, quantile } from "./forecast/lead-model.ts";
import { at } from "./forecast/numeric.ts";

export interface CapacityPolicy {
  /** The probability of being short that a further usual demand's worth of capacity has to take away. Higher: cheaper, and short more often. */
  readonly price: number;
  /** Levels between which the forecast's quantile is chosen, whatever the price. */
  readonly levelMin: number;
  readonly levelMax: number;
}

export const DEFAULT_CAPACITY_POLICY: CapacityPolicy = { price: 0.2, levelMin: 0.5, levelMax: 0.995 };

/**
 * The capacity that is worth its price, in the units of the series: of all c it has the greatest P(demand <= c) - price x c / usual.
 * `floor`: what is demanded already; `usual`: the mean demand of the past.
 */
export function worthwhileCapacity(
  distribution: LoadDistribution,
  floor: number,
  usual: number,
  policy: CapacityPolicy = DEFAULT_CAPACITY_POLICY,
): number {
  const { edges, cumulative } = distribution;
  const unitPrice = usual > 0 ? policy.price / usual : 0;
  let best = Math.max(floor, quantile(distribution, policy.levelMin));
  const highest = Math.max(best, quantile(distribution, policy.levelMax));
  let bestWorth = Number.NEGATIVE_INFINITY;
  const lowest = best;
  for (let cell = 0; cell < edges.length; cell++) {
    const capacity = Math.min(highest, Math.max(lowest, at(edges, cell)));
    const worth = at(cumulative, cell) - unitPrice * capacity;
    if (worth <= bestWorth) continue;
    bestWorth = worth;
    best = capacity;
  }
  return best;
}
