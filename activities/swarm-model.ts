/**
 * The trained models of the swarms that this worker scores: the one in use is taken up when it is promoted or rolled back to, without a
 * restart, and follows each endpoint minute by minute, from stored rollups first and then from the collector's window.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { ModelShelf, Store, Telemetry } from "../drivers/ports.ts";
import { ForeshiftError } from "../models/errors.ts";
import { standingModels } from "../models/failure/champion.ts";
import { FLEET_METRICS } from "../models/failure/fleet-columns.ts";
import { FleetModel, type FleetUnit, FOLLOW, type LearnedRisk, whyForeign, whyUnasked } from "../models/failure/fleet-model.ts";
import {
  FLEET_MINUTE_MS,
  type FleetMinute,
  FleetRows,
  minutesOfRollups,
  minutesOfWindow,
} from "../models/failure/fleet-table.ts";
import type { FailureModel } from "../models/failure/model.ts";
import { LIMITS } from "../models/limits.ts";

const { minuteMs, pointsPerAnswerMax, rollupDelayMs } = LIMITS.telemetry;
/** The oldest minutes of the live window may have begun before it. */
const LIVE_MS = LIMITS.telemetry.windowMs - 2 * minuteMs;

export interface Learned {
  readonly risks: ReadonlyMap<string, LearnedRisk>;
  /** Which model was asked, or why none was; undefined where none is in use. */
  readonly about: string | undefined;
}

interface Used {
  readonly id: string;
  readonly model: FailureModel;
  readonly fleet: FleetModel;
  readonly rows: FleetRows;
  readonly units: Map<string, FleetUnit>;
  /** Beginning of the first minute that was not taken yet. */
  nextAtMs: number;
  /** What is usual on each endpoint was read from the past before that. */
  knowsUsual: boolean;
}

interface Followed {
  /** Promotions and rollbacks that were taken note of. */
  readonly changes: number;
  readonly used: Used | undefined;
}

type Parts = {
  readonly models: ModelShelf;
  readonly store: Pick<Store, "audit" | "telemetry">;
  readonly telemetry: Telemetry;
};

export class SwarmModel {
  readonly #parts: Parts;
  readonly #followed = new Map<string, Followed>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** What the model in use says of each endpoint that was heard in the last minute. */
  async risks(swarm: string, windowMs: number, nowMs: number): Promise<Learned> {
    const used = await this.#inUse(swarm, nowMs);
    if (used === undefined) return { risks: new Map(), about: undefined };
    const why = whyUnasked(used.model, windowMs);
    if (why !== undefined) return { risks: new Map(), about: `model ${used.id} is in use and not asked: ${why}` };
    return { risks: await this.#ask(swarm, used, windowMs, nowMs), about: `model ${used.id} was asked` };
  }

  async #inUse(swarm: string, nowMs: number): Promise<Used | undefined> {
    const history = await this.#parts.models.history(swarm);
    const followed = this.#followed.get(swarm);
    if (followed?.changes === history.length) return followed.used;
    const used = await this.#takeUp(swarm, standingModels(history), history.length, nowMs);
    this.#followed.set(swarm, { changes: history.length, used });
    return used;
  }

  /** The topmost that is whole and of the fleet; those above it are refused, and the trail says why. */
  async #takeUp(swarm: string, standing: readonly string[], change: number, nowMs: number): Promise<Used | undefined> {
    for (const id of standing.toReversed()) {
      const found = await this.#load(swarm, id);
      const why = found instanceof ForeshiftError ? found.message : whyForeign(found);
      if (found instanceof ForeshiftError || why !== undefined) {
        await this.#audit(swarm, id, change, "refused", `Model ${id} is refused, and the one before it stays: ${why}`);
        continue;
      }
      const { ap, rows, positives, carriesSignal } = found.metrics;
      const worth = `average precision ${ap.toFixed(3)} on ${rows} rows with ${positives} before a failure`;
      const silent = carriesSignal ? "" : " It carries no signal, so it is not asked";
      await this.#audit(swarm, id, change, "done", `Model ${id} scores from now on: ${worth}.${silent}`);
      const nextAtMs = Math.floor((nowMs - FOLLOW.catchUpMs) / FOLLOW.usualStepMs) * FOLLOW.usualStepMs;
      const fleet = new FleetModel(id, found);
      return { id, model: found, fleet, rows: new FleetRows(), units: new Map(), nextAtMs, knowsUsual: false };
    }
    return undefined;
  }

  async #load(swarm: string, id: string): Promise<FailureModel | ForeshiftError> {
    try {
      return (await this.#parts.models.load(swarm, id)).model;
    } catch (thrown) {
      if (thrown instanceof ForeshiftError && thrown.code === "MODEL_REFUSED") return thrown;
      throw thrown;
    }
  }

  async #ask(swarm: string, used: Used, windowMs: number, nowMs: number): Promise<ReadonlyMap<string, LearnedRisk>> {
    if (!used.knowsUsual) await this.#learnUsual(swarm, used);
    used.knowsUsual = true;
    const query = { sinceMs: used.nextAtMs, metrics: FLEET_METRICS };
    const liveFromMs = nowMs - LIVE_MS;
    const first = used.nextAtMs < liveFromMs ? undefined : await this.#parts.telemetry.window(swarm, query);
    if (first === undefined) await this.#catchUp(swarm, used, liveFromMs);
    const window = first ?? (await this.#parts.telemetry.window(swarm, { ...query, sinceMs: used.nextAtMs }));
    const overMs = Math.floor((nowMs - rollupDelayMs) / minuteMs) * minuteMs;
    for (const minute of minutesOfWindow(window, used.nextAtMs, overMs)) take(used, minute);
    used.nextAtMs = Math.max(used.nextAtMs, overMs);
    const [newest] = minutesOfWindow(window, nowMs - FLEET_MINUTE_MS, nowMs);
    const rows = newest === undefined ? [] : used.rows.preview(newest);
    for (const endpoint of used.units.keys()) if (used.rows.lastTime(endpoint) === undefined) used.units.delete(endpoint);
    return new Map(rows.map((row) => [row.endpoint, used.fleet.risk(used.units.get(row.endpoint), row, windowMs)]));
  }

  /** Stored hours up to the first minute that is taken, for the baselines. */
  async #learnUsual(swarm: string, { rows, nextAtMs: endMs }: Used): Promise<void> {
    const { usualMs, catchUpMs, usualStepMs, usualStretchMs } = FOLLOW;
    for (let atMs = endMs - (usualMs - catchUpMs); atMs < endMs; atMs += usualStretchMs) {
      const stretch = { sinceMs: atMs, untilMs: Math.min(endMs, atMs + usualStretchMs), stepMs: usualStepMs };
      for (const hour of minutesOfRollups(await this.#parts.store.telemetry({ swarm, ...stretch })))
        rows.learn(hour, usualStepMs);
      await nextTurn();
    }
  }

  /** Stored minutes up to where the live window begins. Where an answer is cut off at its limit, a shorter stretch is asked for. */
  async #catchUp(swarm: string, used: Used, untilMs: number): Promise<void> {
    const endMs = Math.floor(untilMs / minuteMs) * minuteMs;
    let stepMs: number = FOLLOW.stretchMs;
    while (used.nextAtMs < endMs) {
      const stretch = { sinceMs: used.nextAtMs, untilMs: Math.min(endMs, used.nextAtMs + stepMs) };
      const series = await this.#parts.store.telemetry({ swarm, ...stretch, stepMs: minuteMs });
      const points = series.reduce((sum, one) => sum + one.points.length, 0);
      if (points >= pointsPerAnswerMax && stepMs > minuteMs) {
        stepMs = Math.max(minuteMs, Math.floor(stepMs / 2 / minuteMs) * minuteMs);
        continue;
      }
      for (const minute of minutesOfRollups(series)) take(used, minute);
      used.nextAtMs = stretch.untilMs;
      await nextTurn();
    }
  }

  async #audit(swarm: string, id: string, change: number, outcome: "done" | "refused", text: string): Promise<void> {
    await this.#parts.store.audit({
      operation: `model/${swarm}/${change}/${id}`,
      swarm,
      endpoint: undefined,
      action: "take up model",
      outcome,
      text,
      workflowId: undefined,
      runId: undefined,
      details: { model: id },
    });
  }
}

function take({ fleet, rows, units }: Used, minute: FleetMinute): void {
  for (const row of rows.push(minute)) units.set(row.endpoint, fleet.follow(units.get(row.endpoint), row));
}
