/** From what is desired and what is known of the members to what the packet path must do. Pure. */
import { hashTable, type Load, leastConnectionShares, turnTable, withinCapacity } from "../../models/hash-table.ts";
import { effectiveWeight, type OutlierRecord } from "../../models/outlier.ts";
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
  const fills = desired.members.flatMap(({ endpoint, weight }) => {
    const slot = state.slots.get(endpoint);
    const capacity = capacityAt(state.record(endpoint), weight, desired);
    return slot === undefined
      ? []
      : [{ slot, weight: weights.get(endpoint) ?? 0, sessions: sessions.get(endpoint) ?? 0, capacity }];
  });
  const next = tableFor(desired, state, withinCapacity(fills));
  return next.length === state.buckets.length && next.every((slot, at) => slot === state.buckets[at]) ? state.buckets : next;
}

/** Sessions that it carries; none more while it is overloaded, and any number where nobody has said. */
function capacityAt({ overloadedAtMs }: OutlierRecord, weight: number, { capacitySessions }: SteeringState): number {
  if (capacitySessions === undefined) return Number.POSITIVE_INFINITY;
  return overloadedAtMs === undefined ? Math.floor((capacitySessions * weight) / 100) : 0;
}

function tableFor({ algorithm }: SteeringState, state: ReflexState, loads: readonly Load[]): readonly number[] {
  if (algorithm === "consistent-hash") return hashTable(state.buckets, loads);
  return turnTable(algorithm === "weighted-round-robin" ? loads : leastConnectionShares(loads));
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
    ipsec: ipsecInForce(state, desired, fenced),
  };
}

/** SPIs lead to who holds them, also while it is out: nobody else could read what comes by them. IKE is made with members that are in. */
function ipsecInForce(
  { ipsec, slots }: ReflexState,
  { ipsecPins = [] }: SteeringState,
  fenced: ReadonlySet<number>,
): View["ipsec"] {
  const marked = (holders: ReadonlyMap<number | string, string>, isLeftOut: (mark: number) => boolean) =>
    [...holders].flatMap(([key, endpoint]) => {
      const mark = slots.get(endpoint);
      return mark === undefined || isLeftOut(mark) ? [] : [[key, mark] as const];
    });
  const pins = new Map(ipsec.pins());
  for (const { client, endpoint } of ipsecPins) if (!isOut(slots.get(endpoint), fenced)) pins.set(client, endpoint);
  return {
    spis: new Map(marked(ipsec.spis(), () => false).map(([spi, mark]) => [Number(spi), mark])),
    pins: new Map(marked(pins, (mark) => fenced.has(mark)).map(([client, mark]) => [`${client}`, mark])),
  };
}

function isOut(mark: number | undefined, fenced: ReadonlySet<number>): boolean {
  return mark === undefined || fenced.has(mark);
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
