/** The state of a swarm in the words of a status query. */
import { type BudgetUse, budgetUse } from "./budget.ts";
import type { EndpointRecord, SwarmState } from "./swarm-state.ts";
import { isLive } from "./unhealthy.ts";

export interface SwarmSummary {
  readonly swarm: string;
  /** What automation is doing, in one word. */
  readonly mode: "acting" | "stopped" | "frozen" | "waiting-for-reflex";
  /** One sentence for a person. */
  readonly text: string;
  readonly wanted: { readonly endpoints: number; readonly ghosts: number };
  readonly counts: Readonly<Record<EndpointRecord["phase"], number>>;
  readonly endpoints: readonly EndpointRecord[];
  readonly underWay: readonly string[];
  readonly requested: SwarmState["requested"];
  readonly pending: SwarmState["pending"];
  readonly budget: BudgetUse;
  readonly stopped: SwarmState["stopped"];
  readonly frozenSinceMs: number | undefined;
}

/** `now`: Unix milliseconds. */
export function summary(state: SwarmState, now: number): SwarmSummary {
  const { spec, endpoints } = state;
  const counts = { joining: 0, active: 0, degraded: 0, draining: 0, lost: 0, retired: 0 };
  for (const record of endpoints) counts[record.phase] += 1;
  const budget = budgetUse(spec, state.disruptions, endpoints.filter(isLive).length, now);
  return {
    swarm: spec.name,
    mode: modeOf(state),
    text: textOf(state, counts),
    wanted: { endpoints: spec.endpoints.count, ghosts: spec.endpoints.ghosts },
    counts,
    endpoints,
    underWay: endpoints.filter((one) => one.phase === "draining" || one.phase === "lost").map((one) => one.endpoint),
    requested: state.requested,
    pending: state.pending,
    budget,
    stopped: state.stopped ?? undefined,
    frozenSinceMs: state.frozenSinceMs ?? undefined,
  };
}

function modeOf(state: SwarmState): SwarmSummary["mode"] {
  if (state.stopped) return "stopped";
  if (typeof state.reflexSilentSinceMs === "number") return "waiting-for-reflex";
  return typeof state.frozenSinceMs === "number" ? "frozen" : "acting";
}

function textOf(state: SwarmState, counts: SwarmSummary["counts"]): string {
  const parts = (["active", "degraded", "draining", "lost", "joining"] as const)
    .filter((phase) => counts[phase] > 0)
    .map((phase) => `${counts[phase]} ${phase}`);
  const endpoints = `${parts.length === 0 ? "no endpoints" : parts.join(", ")} of ${state.spec.endpoints.count} wanted`;
  if (state.stopped) return `Stopped by ${state.stopped.by} (${state.stopped.reason}): ${endpoints}.`;
  if (typeof state.reflexSilentSinceMs === "number") return `Waiting for the reflex to answer: ${endpoints}.`;
  if (typeof state.frozenSinceMs === "number") return `Frozen, too many are unhealthy: ${endpoints}.`;
  return `Acting: ${endpoints}.`;
}
