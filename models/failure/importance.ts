/** What a model looks at: each feature's share of all that its splits gained. */
import { FeatureExtractor } from "./features.ts";
import type { FailureModel } from "./model.ts";

/** Largest first; shares add up to 1. Features that no split uses are left out. */
export function importance({ plan, forests, boostings, mix }: FailureModel): { name: string; share: number }[] {
  const { names } = new FeatureExtractor(plan);
  const shares = new Float64Array(names.length);
  for (const [ensembles, weight] of [[forests, 1 - mix] as const, [boostings, mix] as const]) {
    const gains = new Float64Array(names.length);
    for (const tree of ensembles.flatMap(({ trees }) => trees)) {
      tree.feature.forEach((feature, node) => {
        if (feature >= 0) gains[feature] = (gains[feature] as number) + (tree.gain[node] as number);
      });
    }
    const whole = gains.reduce((sum, gain) => sum + gain, 0);
    if (whole > 0)
      for (let at = 0; at < names.length; at++) shares[at] = (shares[at] as number) + (weight * (gains[at] as number)) / whole;
  }
  return names
    .map((name, at) => ({ name, share: shares[at] as number }))
    .filter(({ share }) => share > 0)
    .sort((a, b) => b.share - a.share);
}
