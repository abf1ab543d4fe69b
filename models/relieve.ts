/**
 * Excess led away: an endpoint that holds more sessions than it carries loses packets of all of them, so those that are too many go, and no
 * more, to endpoints that have room, as soon as there is any. The rest stay where they are.
 */
import type { Belief } from "./belief.ts";
import { sessionsAt } from "./budget.ts";
import { SCALING_LIMITS } from "./limits-scaling.ts";
import type { Observation } from "./observation.ts";
import { demandIsFresh, usableSessions } from "./scale.ts";
import { isServing } from "./signals.ts";
import type { RelieveStep } from "./step.ts";
import type { SwarmState } from "./swarm-state.ts";

/** Sessions that are being led from one endpoint to others, or have just been. Times are Unix milliseconds. */
export interface Relief {
  readonly endpoint: string;
  readonly to: RelieveStep["to"];
  /** Undefined while the run is under way. */
  readonly endedAtMs: number | undefined;
  /** Not all of them came over: the endpoint is not asked again for as long as the cool-down. */
  readonly failed?: boolean | undefined;
}

/**
 * The fullest first. Expected growth is reason to lead away what is beyond the usable share already; otherwise it takes more sessions than
 * an endpoint carries. Nobody is given more than it is to hold by the same measure, counted with what is on its way to it already.
 */
export function wantedReliefs(
  state: SwarmState,
  beliefs: readonly Belief[],
  observation: Observation,
  now: number,
): readonly RelieveStep[] {
  const { relieveRunsMax, relieveSessionsMax } = SCALING_LIMITS;
  const reliefs = state.reliefs ?? [];
  const { keeps, because } = levelOf(state, observation, now);
  // Others come meanwhile: nobody is filled to the brim but for those who lose packets as long as nobody is.
  const comfortable = roomsOf(beliefs, reliefs, Math.min(keeps, usableSessions(state.spec)), state);
  const brim = roomsOf(beliefs, reliefs, keeps, state);
  const { capacitySessions } = state.spec.endpoints;
  let room = [...brim.values()].reduce((sum, one) => sum + one, 0) - homeless(observation, beliefs);
  const full = beliefs
    .filter(({ record }) => isCounted(record.phase) && reliefs.every(({ endpoint }) => endpoint !== record.endpoint))
    .flatMap(({ record: { endpoint }, seen }) => {
      const excess = seen !== undefined && isServing(seen) ? seen.sessions - Math.floor(keeps) : 0;
      return excess >= 1 ? [{ endpoint, held: seen?.sessions ?? 0, excess }] : [];
    })
    .toSorted((a, b) => b.excess - a.excess || (a.endpoint < b.endpoint ? -1 : 1));
  const steps: RelieveStep[] = [];
  const free = relieveRunsMax - reliefs.filter(({ endedAtMs }) => typeof endedAtMs !== "number").length;
  for (const { endpoint, held, excess } of full.slice(0, Math.max(0, free))) {
    const most = Math.min(excess, room, relieveSessionsMax);
    const first = shared(most, comfortable, brim, endpoint);
    const rest = Math.min(most, held - capacitySessions) - countOf(first);
    const to = merged(first, shared(rest, brim, comfortable, endpoint));
    const moved = countOf(to);
    if (moved === 0) continue;
    room -= moved;
    const targets = to.map((one) => `${one.sessions} to ${one.endpoint}`).join(", ");
    const reason = `${endpoint} holds ${held} sessions and ${because}: ${targets}.`;
    steps.push({ kind: "relieve", endpoint, to, reason });
  }
  return steps;
}

/** Reliefs that still count: their sessions may not be seen yet where they went, or they failed and are not tried again at once. */
export function lastingReliefs(reliefs: readonly Relief[], coolDownMs: number, now: number): readonly Relief[] {
  return reliefs.filter((relief) => (reliefForgottenAtMs(relief, coolDownMs) ?? Number.POSITIVE_INFINITY) > now);
}

/** Unix milliseconds; undefined while its run is under way. */
export function reliefForgottenAtMs({ endedAtMs, failed }: Relief, coolDownMs: number): number | undefined {
  if (typeof endedAtMs !== "number") return undefined;
  return endedAtMs + (failed === true ? Math.max(coolDownMs, SCALING_LIMITS.relieveSettleMs) : SCALING_LIMITS.relieveSettleMs);
}

/** What one endpoint is to hold at full weight, and why. */
function levelOf(state: SwarmState, observation: Observation, now: number): { keeps: number; because: string } {
  const { spec, demand } = state;
  const { capacitySessions } = spec.endpoints;
  const sessions = observation.endpoints.reduce((sum, one) => sum + one.sessions, 0);
  const grows = spec.foresight.mode === "act" && demandIsFresh(spec, demand, now) && (demand?.sessionsUpper ?? 0) > sessions;
  if (!grows) return { keeps: capacitySessions, because: `carries ${capacitySessions}` };
  const usable = usableSessions(spec);
  return { keeps: usable, because: `is to hold ${Math.floor(usable)} at most while more are expected` };
}

/** Sessions that each healthy endpoint can take; what is on its way to it is there already. */
function roomsOf(
  beliefs: readonly Belief[],
  reliefs: readonly Relief[],
  keeps: number,
  { spec }: SwarmState,
): Map<string, number> {
  const coming = new Map<string, number>();
  for (const { endpoint, sessions } of reliefs.flatMap(({ to }) => to))
    coming.set(endpoint, (coming.get(endpoint) ?? 0) + sessions);
  const share = keeps / spec.endpoints.capacitySessions;
  const rooms = beliefs.flatMap(({ record, seen }): [string, number][] => {
    if (record.phase !== "active" || record.signal !== "healthy" || seen === undefined) return [];
    if (!isServing(seen) || seen.overloaded === true) return [];
    const weight = Math.min(record.weight, seen.weight ?? 0);
    const room = Math.floor(sessionsAt(spec, weight) * share) - seen.sessions - (coming.get(record.endpoint) ?? 0);
    return room >= 1 ? [[record.endpoint, room]] : [];
  });
  return new Map(rooms);
}

/** Sessions of endpoints that are on their way out: they need places first. */
function homeless({ endpoints }: Observation, beliefs: readonly Belief[]): number {
  const leaving = new Set(
    beliefs.filter(({ record: { phase } }) => phase === "draining" || phase === "lost").map(({ record }) => record.endpoint),
  );
  return endpoints.filter((one) => leaving.has(one.endpoint) || one.ejected).reduce((sum, one) => sum + one.sessions, 0);
}

function countOf(to: RelieveStep["to"]): number {
  return to.reduce((sum, { sessions }) => sum + sessions, 0);
}

function merged(one: RelieveStep["to"], other: RelieveStep["to"]): RelieveStep["to"] {
  const counts = new Map<string, number>();
  for (const { endpoint, sessions } of [...one, ...other]) counts.set(endpoint, (counts.get(endpoint) ?? 0) + sessions);
  return [...counts]
    .map(([endpoint, sessions]) => ({ endpoint, sessions }))
    .toSorted((a, b) => (a.endpoint < b.endpoint ? -1 : 1));
}

/** One by one to whoever has the most room left, which is taken off, by the other measure as well. */
function shared(count: number, rooms: Map<string, number>, others: Map<string, number>, from: string): RelieveStep["to"] {
  const taken = new Map<string, number>();
  for (let given = 0; given < count; given += 1) {
    const [roomiest] = [...rooms]
      .filter(([name, room]) => name !== from && room >= 1)
      .toSorted(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
    if (roomiest === undefined) break;
    const [name, room] = roomiest;
    rooms.set(name, room - 1);
    others.set(name, (others.get(name) ?? 0) - 1);
    taken.set(name, (taken.get(name) ?? 0) + 1);
  }
  return [...taken]
    .map(([endpoint, sessions]) => ({ endpoint, sessions }))
    .toSorted((a, b) => (a.endpoint < b.endpoint ? -1 : 1));
}

function isCounted(phase: string): boolean {
  return phase === "active" || phase === "degraded";
}
