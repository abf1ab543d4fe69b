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
