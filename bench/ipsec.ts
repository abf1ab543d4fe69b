/** What taking an IPsec session over costs, and that it never uses a number twice or accepts a replay. */
import { seededRandom } from "../models/random.ts";
import { playCrashes } from "./ipsec-crashes.ts";

export interface IpsecOptions {
  /** Crashes played on counters alone. */
  readonly crashes: number;
  readonly seed: number;
}

/** With a factor of 1, the bound is half of what it has to be. */
const HALF_BOUND = { factor: 1, linePps: 0 };
const HALF_BOUND_CRASHES = 1_000;

export function benchIpsec(options: IpsecOptions) {
  const { seed, crashes } = options;
  const played = playCrashes(crashes, { random: seededRandom(seed) });
  const half = playCrashes(HALF_BOUND_CRASHES, { random: seededRandom(seed), bound: HALF_BOUND });
  return {
    onCounters: { seed, ...played, withHalfTheBound: { reused: half.reused, replayAccepted: half.replayAccepted } },
  };
}
