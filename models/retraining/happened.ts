/**
 * What really happened to the endpoints of a swarm, from the audit trail: when they failed, when they were taken out or had their weight
 * lowered on a prediction. Labels come from nothing else.
 */
import { isPredictedCause } from "../predicted.ts";

/** A row of the audit trail, as far as it matters here. */
export interface TrailRow {
  readonly atMs: number;
  readonly action: string;
  readonly endpoint: string | undefined;
  readonly outcome: string;
  readonly runId: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;
}

/** The actions that are looked for. */
export const TOLD_BY = ["analyse the loss", "drain", "drain and replace", "set weight"] as const;

/** An endpoint was out of service in this time. Unix milliseconds. */
export interface Outage {
  readonly endpoint: string;
  readonly fromMs: number;
  /** Infinity while it lasts, or when it did not come back. */
  readonly untilMs: number;
  /** It failed; else it was taken out, and what would have come of it was not seen. */
  readonly isFailure: boolean;
}

/** Something was done about an endpoint because of a prediction. */
export interface Mitigation {
  readonly endpoint: string;
  readonly atMs: number;
  /** It was in the control slice: nothing was done that hides what comes. */
  readonly isControl: boolean;
}

export interface Happened {
  /** Oldest first. */
  readonly outages: readonly Outage[];
  readonly mitigations: readonly Mitigation[];
}

/** Rows of one swarm in the order in which they were written. */
export function happenedBy(rows: readonly TrailRow[]): Happened {
  const drains = drainsIn(rows);
  const outages = [...rows.flatMap((row) => lossOf(row) ?? []), ...drains.map(({ outage }) => outage)];
  const mitigations = [
    ...rows.flatMap((row) => reweightingOf(row) ?? []),
    ...drains.flatMap(({ outage: { endpoint, fromMs }, cause }) =>
      isPredictedCause(cause) ? [{ endpoint, atMs: fromMs, isControl: false }] : [],
    ),
  ];
  return {
    outages: outages.toSorted((a, b) => a.fromMs - b.fromMs),
    mitigations: mitigations.toSorted((a, b) => a.atMs - b.atMs),
  };
}

/** The run that finishes a loss says when the reflex ejected the endpoint and when it served again. */
function lossOf({ action, endpoint, atMs, outcome, details }: TrailRow): Outage | undefined {
  if (action !== "analyse the loss" || endpoint === undefined) return undefined;
  const fromMs = timeIn(details, "ejectedAtMs") ?? timeIn(details, "startedAtMs") ?? atMs;
  const isBack = outcome === "done" && (details["replacement"] ?? "") === "";
  const untilMs = isBack ? Math.max(fromMs, timeIn(details, "servedAgainAtMs") ?? atMs) : Number.POSITIVE_INFINITY;
  return { endpoint, fromMs, untilMs, isFailure: true };
}

interface Drain {
  readonly outage: Outage;
  readonly cause: string;
}

/** A drain begins when the endpoint gets no new sessions any more; its run's last row says why it was made and what came of it. */
function drainsIn(rows: readonly TrailRow[]): readonly Drain[] {
  const begun = new Map<string, Drain>();
  for (const { action, endpoint, atMs, outcome, runId, details } of rows) {
    if ((action !== "drain" && action !== "drain and replace") || endpoint === undefined) continue;
    const key = runId ?? `${endpoint}/${atMs}`;
    const fromMs = begun.get(key)?.outage.fromMs ?? atMs;
    const { cause } = details;
    const isOver = typeof cause === "string";
    // One that was put back serves on from there.
    const untilMs = isOver && outcome === "failed" ? atMs : Number.POSITIVE_INFINITY;
    begun.set(key, { outage: { endpoint, fromMs, untilMs, isFailure: false }, cause: isOver ? cause : "" });
  }
  return [...begun.values()];
}

function reweightingOf({ action, endpoint, atMs, details }: TrailRow): Mitigation | undefined {
  const { cause } = details;
  if (action !== "set weight" || endpoint === undefined) return undefined;
  return cause === "predicted" || cause === "control-slice"
    ? { endpoint, atMs, isControl: cause === "control-slice" }
    : undefined;
}

function timeIn(details: TrailRow["details"], name: string): number | undefined {
  const value = details[name];
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}
