/**
 * Which endpoint takes a session over when its holder is lost: rendezvous hashing, so that each session has one answer, the shadows
 * of one holder's sessions are spread over all others, and an endpoint that comes or goes changes only its own share.
 */
import { LIMITS } from "./limits.ts";
import { type ScoredEndpoint, servedRisk } from "./risk.ts";
import type { ForesightPolicy } from "./swarm-spec.ts";

/** A session needs a holder and a shadow. */
const SHADOWS_MIN = 2;

/** The shadow of a session held by `holder`; undefined when there is no other endpoint. Order of `endpoints` does not matter. */
export function shadowOf(publicKey: string, holder: string, endpoints: Iterable<string>): string | undefined {
  let best: { endpoint: string; score: number } | undefined;
  for (const endpoint of endpoints) {
    if (endpoint === holder) continue;
    const score = mix(fnv1a(`${publicKey} ${endpoint}`));
    if (best === undefined || score > best.score || (score === best.score && endpoint < best.endpoint))
      best = { endpoint, score };
  }
  return best?.endpoint;
}

/** Where an endpoint is, as far as it is known. */
export interface Place {
  readonly region?: string | undefined;
  readonly zone?: string | undefined;
  readonly host?: string | undefined;
}

/**
 * Of the candidates those that do not fail together with the holder: in another zone or region; where those are fewer than two, on another
 * host; where those are too few as well, all but the holder: one endpoint alone is not to take a whole one over. A place that is not known
 * counts as apart from none. `least` is that two.
 */
export function apartFrom(
  holder: string,
  candidates: readonly string[],
  places: ReadonlyMap<string, Place>,
  least = SHADOWS_MIN,
): readonly string[] {
  const others = candidates.filter((endpoint) => endpoint !== holder);
  const here = places.get(holder) ?? {};
  const differs = (field: keyof Place) => (endpoint: string) => {
    const there = places.get(endpoint)?.[field];
    return there !== undefined && here[field] !== undefined && there !== here[field];
  };
  const elsewhere = others.filter((endpoint) => differs("region")(endpoint) || differs("zone")(endpoint));
  if (elsewhere.length >= least) return elsewhere;
  const otherHosts = others.filter((endpoint) => elsewhere.includes(endpoint) || differs("host")(endpoint));
  return otherHosts.length >= least ? otherHosts : others;
}

/** An endpoint that may shadow, and how many more sessions it has room for. */
export interface ShadowCandidate extends Place {
  readonly endpoint: string;
  readonly room: number;
}

/** Of one holder's sessions no shadow gets more than this share, while another has room. */
const SHARE_MOST = 0.625;

/**
 * Shadows of one holder's sessions, with the room for them reserved: none gets more than it has room for, nor more than five of eight, so
 * that no single endpoint takes a whole one over: with three sessions and two other endpoints with room, at least two get some. Apart
 * from the holder first, be it one alone; others take what finds no room there. A session without a shadow is missing in the answer.
 * `candidates`: none that is suspect (`safeShadows`). Their order and that of the keys do not matter.
 */
export function reserveShadows(
  holder: string,
  publicKeys: readonly string[],
  candidates: readonly ShadowCandidate[],
): ReadonlyMap<string, string> {
  const room = new Map(candidates.map((candidate) => [candidate.endpoint, candidate.room]));
  const names = [...room.keys()].filter((endpoint) => endpoint !== holder);
  const preferred = apartFrom(holder, names, new Map(candidates.map((candidate) => [candidate.endpoint, candidate])), 1);
  const taken = new Map<string, number>();
  const shadows = new Map<string, string>();
  for (const publicKey of [...publicKeys].sort()) {
    const most = Math.ceil(SHARE_MOST * (shadows.size + 1));
    const open = (endpoint: string) => (room.get(endpoint) ?? 0) >= 1;
    const even = (endpoint: string) => open(endpoint) && (taken.get(endpoint) ?? 0) < most;
    const choices = [preferred.filter(even), names.filter(even), names.filter(open)].find((list) => list.length > 0) ?? [];
    const shadow = shadowOf(publicKey, holder, choices);
    if (shadow === undefined) continue;
    shadows.set(publicKey, shadow);
    taken.set(shadow, (taken.get(shadow) ?? 0) + 1);
    room.set(shadow, (room.get(shadow) ?? 0) - 1);
  }
  return shadows;
}

/**
 * Of the endpoints that could take sessions over those that are not about to fail themselves, or by their ways: below the threshold of
 * an elevated risk. All of them where fewer than two are left, and where predictions may not act. `scores`: latest first.
 */
export function safeShadows(
  candidates: readonly string[],
  scores: readonly ScoredEndpoint[],
  policy: ForesightPolicy,
  now: number,
): readonly string[] {
  if (policy.mode !== "act") return candidates;
  const newest = new Map<string, ScoredEndpoint["score"]>();
  for (const { score } of scores) if (!newest.has(score.endpoint)) newest.set(score.endpoint, score);
  const isRisky = (endpoint: string) => {
    const score = newest.get(endpoint);
    if (score === undefined || now - score.atMs > policy.scoreStaleMs) return false;
    return servedRisk(score) >= policy.failureThreshold * LIMITS.foresight.elevatedShare;
  };
  const safe = candidates.filter((endpoint) => !isRisky(endpoint));
  return safe.length < SHADOWS_MIN ? candidates : safe;
}

/** FNV-1a, 32 bits (Fowler, Noll, Vo). */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return hash >>> 0;
}

/** MurmurHash3's finaliser: FNV alone leaves names that differ in their last letter close together. */
function mix(hash: number): number {
  let mixed = hash;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
