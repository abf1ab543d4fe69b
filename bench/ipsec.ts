/** What must never be when IPsec sessions are taken over, counted: a number used twice, a replay, a gateway's sessions on one other alone. */
import { seededRandom } from "../models/random.ts";
import { reserveShadows } from "../models/shadow.ts";
import { playCrashes } from "./ipsec-crashes.ts";

export interface IpsecOptions {
  /** Crashes played on counters alone. */
  readonly crashes: number;
  readonly seed: number;
}

/** With a factor of 1, the bound is half of what it has to be. */
const HALF_BOUND = { factor: 1, linePps: 0 };
const HALF_BOUND_CRASHES = 1_000;
const GATEWAYS = ["gw-1", "gw-2", "gw-3"];
const SESSIONS = 60;

export function benchIpsec({ crashes, seed }: IpsecOptions) {
  const played = playCrashes(crashes, { random: seededRandom(seed) });
  const half = playCrashes(HALF_BOUND_CRASHES, { random: seededRandom(seed), bound: HALF_BOUND });
  return {
    onCounters: { seed, ...played, withHalfTheBound: { reused: half.reused, replayAccepted: half.replayAccepted } },
    shadows: GATEWAYS.map(shadowsOf),
  };
}

/** Where the sessions of one of three gateways land, each with room for half of them and one more. */
function shadowsOf(lost: string) {
  const sessions = Array.from({ length: SESSIONS }, (_, n) => `${lost}/${n}`);
  const candidates = GATEWAYS.map((endpoint, at) => ({ endpoint, zone: `zone-${at % 2}`, room: SESSIONS / 2 + 1 }));
  const shadows = reserveShadows(lost, sessions, candidates);
  return { lost, sessions: SESSIONS, ...Object.fromEntries(countBy(shadows.values())) };
}

function countBy(names: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return new Map([...counts].sort(([a], [b]) => (a < b ? -1 : 1)));
}
