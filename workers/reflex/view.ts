/** From what is desired and what is known of the members to what the packet path must do. Pure. */
import { hashTable, leastConnectionShares, type Share, turnTable } from "../../models/hash-table.ts";
import { effectiveWeight } from "../../models/outlier.ts";
import type { SteeringState } from "../../models/steering.ts";
import { clientKey, type View } from "./dataplane.ts";
import type { ReflexState } from "./state.ts";

/** Weight in force of each member. */
export function weightsInForce(state: ReflexState, desired: SteeringState, nowMs: number): ReadonlyMap<string, number> {
  return new Map(
    desired.members.map(({ endpoint, weight, draining }) => [
      endpoint,
      effectiveWeight(weight, draining || state.isRevoked(endpoint), state.record(endpoint), desired.outlier, nowMs),
    ]),
  );
}

/** The table for the weights in force; the very same one when nothing changes. */
export function bucketsFor(
  state: ReflexState,
  desired: SteeringState,
  weights: ReadonlyMap<string, number>,
  sessions: ReadonlyMap<string, number>,
): readonly number[] {
  const shares: Share[] = desired.members.flatMap(({ endpoint }) => {
    const slot = state.slots.get(endpoint);
    return slot === undefined ? [] : [{ slot, weight: weights.get(endpoint) ?? 0 }];
  });
  const next = tableFor(desired, state, shares, sessions);
  return next.length === state.buckets.length && next.every((slot, at) => slot === state.buckets[at]) ? state.buckets : next;
}

function tableFor(
  desired: SteeringState,
  state: ReflexState,
  shares: readonly Share[],
  sessions: ReadonlyMap<string, number>,
): readonly number[] {
  if (desired.algorithm === "consistent-hash") return hashTable(state.buckets, shares);
  if (desired.algorithm === "weighted-round-robin") return turnTable(shares);
  const endpointOf = new Map([...state.slots].map(([endpoint, slot]) => [slot, endpoint]));
  return turnTable(
    leastConnectionShares(shares.map((share) => ({ ...share, sessions: sessions.get(endpointOf.get(share.slot) ?? "") ?? 0 }))),
  );
}

export function viewOf(state: ReflexState, desired: SteeringState): View {
  const members = desired.members.flatMap(({ endpoint, link }) => {
    const mark = state.slots.get(endpoint);
    return mark === undefined ? [] : [{ mark, link }];
  });
  const fenced = new Set(
    desired.members.flatMap(({ endpoint }) =>
      state.record(endpoint).ejectedAtMs === undefined ? [] : [state.slots.get(endpoint) ?? 0],
    ),
  );
  return {
    swarm: desired.swarm,
    vip: desired.vip,
    spread: desired.algorithm === "consistent-hash" ? "hash" : "rotate",
    buckets: state.buckets,
    members,
    fenced,
    pins: pinsInForce(state, desired, fenced),
  };
}

/** Desired pins, over them those of ejections; a pin to a member that is out leads nowhere and is left out. */
function pinsInForce(state: ReflexState, desired: SteeringState, fenced: ReadonlySet<number>): View["pins"] {
  const pins = new Map<string, readonly [string, number, number]>();
  for (const { client, endpoint } of [...desired.pins, ...state.pins.values()]) {
    const key = clientKey(client);
    const mark = state.slots.get(endpoint);
    if (key !== undefined && mark !== undefined && !fenced.has(mark)) pins.set(key.join(" "), [...key, mark]);
  }
  return [...pins.values()];
}
