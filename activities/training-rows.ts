/** Gathers the rows that a swarm's failure model is trained on: telemetry by the minute, labelled by what really happened. */
import type { Store } from "../drivers/ports.ts";
import type { TrainingStore } from "../drivers/store/training.ts";
import { FLEET_MINUTE_MS, FleetTable, minutesOfRollups } from "../models/failure/fleet-table.ts";
import { LIMITS } from "../models/limits.ts";
import { happenedBy } from "../models/retraining/happened.ts";
import { type Heard, type Piece, piecesOf } from "../models/retraining/lives.ts";
import { type TrainingSet, weighedRows } from "../models/retraining/training-set.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";

export interface RowSources {
  readonly store: Pick<Store, "telemetry">;
  readonly training: Pick<TrainingStore, "trail">;
}

/** Every endpoint's agent says this with each heartbeat. */
const ALWAYS_TOLD = "tunnelUp";
const HOUR_MS = 3_600_000;

/** `window` in the table's unit of time. Reads the newest `historyMs`, or as much of it as may be read. */
export async function gatherRows(
  sources: RowSources,
  spec: SwarmSpec,
  nowMs: number,
  signal: AbortSignal,
): Promise<{ set: TrainingSet; window: number }> {
  const { foresight, name: swarm } = spec;
  const windowMs = Math.max(foresight.windowMs, LIMITS.training.windowMsMin);
  const heard = await heardSince(sources, swarm, nowMs - foresight.retrain.historyMs, nowMs);
  const sinceMs = await readableSince(sources, swarm, heard, nowMs);
  const trail = await sources.training.trail(swarm, sinceMs);
  const pieces = piecesOf({
    heard: heard.flatMap((one) => (one.untilMs <= sinceMs ? [] : [{ ...one, fromMs: Math.max(one.fromMs, sinceMs) }])),
    happened: happenedBy(trail),
    windowMs,
    rowsMax: LIMITS.training.rowsMax,
  });
  const made = new FleetTable<Piece>(pieces);
  for await (const minutes of slices(sources, swarm, sinceMs, nowMs, signal)) for (const minute of minutes) made.push(minute);
  const { table, lives } = made.whole();
  const window = windowMs / FLEET_MINUTE_MS;
  return { set: { table, weights: weighedRows(table, lives, window, foresight.controlShare) }, window };
}

/** Stretches in which telemetry of an endpoint is there, to the hour. */
async function heardSince({ store }: RowSources, swarm: string, sinceMs: number, untilMs: number): Promise<readonly Heard[]> {
  const series = await store.telemetry({ swarm, metric: ALWAYS_TOLD, sinceMs, untilMs, stepMs: HOUR_MS });
  return series.flatMap(({ endpoint, points }) => {
    const stretches: { endpoint: string; fromMs: number; untilMs: number }[] = [];
    for (const { atMs } of points) {
      const last = stretches.at(-1);
      if (last !== undefined && atMs <= last.untilMs) last.untilMs = atMs + HOUR_MS;
      else stretches.push({ endpoint, fromMs: Math.max(atMs, sinceMs), untilMs: atMs + HOUR_MS });
    }
    return stretches.map((one) => ({ ...one, untilMs: Math.min(one.untilMs, untilMs) }));
  });
}

/** The newest stretch that holds no more points than may be read, by what the last hour held. */
async function readableSince(sources: RowSources, swarm: string, heard: readonly Heard[], nowMs: number): Promise<number> {
  const firstMs = heard.reduce((least, { fromMs }) => Math.min(least, fromMs), nowMs);
  const lastMs = heard.reduce((most, { untilMs }) => Math.max(most, untilMs), firstMs);
  if (lastMs === firstMs) return nowMs;
  const sample = await sources.store.telemetry({
    swarm,
    sinceMs: Math.max(firstMs, lastMs - LIMITS.training.sliceMs),
    untilMs: lastMs,
    stepMs: LIMITS.training.sliceMs,
  });
  const pointsAMinute = Math.max(1, sample.length);
  return Math.max(firstMs, nowMs - (LIMITS.training.pointsMax / pointsAMinute) * FLEET_MINUTE_MS);
}

/** The whole swarm's minutes, a slice at a time, oldest first; slices are halved where one answer cannot hold them. */
async function* slices({ store }: RowSources, swarm: string, sinceMs: number, untilMs: number, signal: AbortSignal) {
  const { sliceMs, sliceMsMin } = LIMITS.training;
  let lengthMs: number = sliceMs;
  for (let atMs = Math.floor(sinceMs / FLEET_MINUTE_MS) * FLEET_MINUTE_MS; atMs < untilMs; ) {
    signal.throwIfAborted();
    const endMs = Math.min(untilMs, atMs + lengthMs);
    const series = await store.telemetry({ swarm, sinceMs: atMs, untilMs: endMs, stepMs: FLEET_MINUTE_MS });
    const points = series.reduce((sum, one) => sum + one.points.length, 0);
    if (points >= LIMITS.telemetry.pointsPerAnswerMax && lengthMs > sliceMsMin) {
      lengthMs = Math.max(sliceMsMin, Math.floor(lengthMs / 2 / FLEET_MINUTE_MS) * FLEET_MINUTE_MS);
      continue;
    }
    yield minutesOfRollups(series);
    atMs = endMs;
  }
}
