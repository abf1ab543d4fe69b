/**
 * The last minutes of every series in memory, one value a second: what forecasts over minutes read, and what rollups are made of.
 */
import type { TelemetryWindow, TelemetryWindowQuery, TelemetryWindowSeries } from "../../drivers/ports.ts";
import { LIMITS } from "../../models/limits.ts";
import { learn, type RunningStatistics } from "../../models/telemetry-rollup.ts";

const { stepMs, windowMs, seriesPerEndpointMax, endpointsMax, statisticsHalfLifeMs } = LIMITS.telemetry;
const SLOTS = windowMs / stepMs;
/** What single precision holds. */
const DIGITS = 7;

interface Series {
  /** One slot a step, used in turn; NaN where there is no value. Single precision: a fleet has tens of thousands of these. */
  readonly slots: Float32Array;
  newestStep: number;
  statistics: RunningStatistics;
}

interface Endpoint {
  readonly series: Map<string, Series>;
}

export class LiveWindow {
  readonly #swarms = new Map<string, Map<string, Endpoint>>();
  #endpoints = 0;
  #refused = 0;

  /** Values for which there was no room. */
  get refused(): number {
    return this.#refused;
  }

  /** Series that are held. */
  get size(): number {
    return this.#all().reduce((sum, { held }) => sum + held.series.size, 0);
  }

  put(swarm: string, endpoint: string, atMs: number, values: Iterable<readonly [series: string, value: number]>): void {
    const held = this.#endpoint(swarm, endpoint);
    for (const [name, value] of values) {
      const known = held?.series.get(name);
      if (held === undefined || (known === undefined && held.series.size >= seriesPerEndpointMax)) this.#refused += 1;
      else held.series.set(name, putValue(known, value, atMs));
    }
  }

  read(swarm: string, query: TelemetryWindowQuery, nowMs: number): TelemetryWindow {
    const lastStep = Math.floor(nowMs / stepMs);
    const firstStep = Math.max(lastStep - SLOTS + 1, Math.floor(query.sinceMs / stepMs));
    const endpoints: Record<string, Record<string, TelemetryWindowSeries>> = {};
    for (const [endpoint, { series }] of this.#swarms.get(swarm) ?? []) {
      if (query.endpoint !== undefined && query.endpoint !== endpoint) continue;
      const wanted = [...series].filter(([name]) => isWanted(name, query.metrics));
      endpoints[endpoint] = Object.fromEntries(wanted.map(([name, one]) => [name, answerOf(one, firstStep, lastStep)]));
    }
    const untilMs = Math.max(firstStep, lastStep + 1) * stepMs;
    return { swarm, stepMs, fromMs: firstStep * stepMs, untilMs, endpoints };
  }

  /** For each endpoint in turn, the values that its series have from one moment to before another. */
  *between(
    fromMs: number,
    untilMs: number,
  ): Generator<{ swarm: string; endpoint: string; series: readonly (readonly [string, readonly number[]])[] }> {
    for (const { swarm, endpoint, held } of this.#all()) {
      const series = [...held.series].map(([name, one]) => {
        const values = valuesOf(one, Math.ceil(fromMs / stepMs), Math.ceil(untilMs / stepMs) - 1);
        return [name, values.filter((value) => !Number.isNaN(value))] as const;
      });
      yield { swarm, endpoint, series };
    }
  }

  /** Forgets series, and endpoints, without a value in the window. */
  forgetOld(nowMs: number): void {
    const oldest = Math.floor(nowMs / stepMs) - SLOTS;
    for (const { swarm, endpoint, held } of this.#all()) {
      for (const [name, { newestStep }] of held.series) if (newestStep < oldest) held.series.delete(name);
      if (held.series.size > 0) continue;
      this.#swarms.get(swarm)?.delete(endpoint);
      this.#endpoints -= 1;
    }
  }

  #endpoint(swarm: string, endpoint: string): Endpoint | undefined {
    const endpoints = this.#swarms.get(swarm) ?? new Map<string, Endpoint>();
    const known = endpoints.get(endpoint);
    if (known !== undefined || this.#endpoints >= endpointsMax) return known;
    const held: Endpoint = { series: new Map() };
    this.#swarms.set(swarm, endpoints.set(endpoint, held));
    this.#endpoints += 1;
    return held;
  }

  #all(): readonly { swarm: string; endpoint: string; held: Endpoint }[] {
    return [...this.#swarms].flatMap(([swarm, endpoints]) =>
      [...endpoints].map(([endpoint, held]) => ({ swarm, endpoint, held })),
    );
  }
}

function putValue(known: Series | undefined, value: number, atMs: number): Series {
  const step = Math.floor(atMs / stepMs);
  const statistics = learn(known?.statistics, value, atMs, statisticsHalfLifeMs);
  const series = known ?? { slots: new Float32Array(SLOTS).fill(Number.NaN), newestStep: step, statistics };
  series.statistics = statistics;
  // Slots of steps that were passed over hold what was there a window ago.
  for (let passed = Math.max(series.newestStep + 1, step - SLOTS + 1); passed < step; passed += 1)
    series.slots[passed % SLOTS] = Number.NaN;
  if (step > series.newestStep - SLOTS) series.slots[step % SLOTS] = value;
  series.newestStep = Math.max(series.newestStep, step);
  return series;
}

/** NaN where there is none. */
function valuesOf({ slots, newestStep }: Series, firstStep: number, lastStep: number): number[] {
  const values: number[] = [];
  for (let step = firstStep; step <= lastStep; step += 1) {
    const isHeld = step <= newestStep && step > newestStep - SLOTS;
    values.push(isHeld ? (slots[step % SLOTS] ?? Number.NaN) : Number.NaN);
  }
  return values;
}

function answerOf(series: Series, firstStep: number, lastStep: number): TelemetryWindowSeries {
  const values = valuesOf(series, firstStep, lastStep).map((value) =>
    Number.isNaN(value) ? null : Number(value.toPrecision(DIGITS)),
  );
  return { values, statistics: series.statistics };
}

function isWanted(name: string, metrics: readonly string[] | undefined): boolean {
  return metrics === undefined || metrics.some((metric) => name === metric || name.startsWith(`${metric}:`));
}
