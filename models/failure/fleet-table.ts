/**
 * The failure engine's table on the fleet: one row for each endpoint and minute, made minute by minute and without looking ahead, by the same
 * code for training (from stored rollups) and for scoring (from the live window). Time is in minutes since 1970.
 */
import { type Rollup, rollup } from "../telemetry-rollup.ts";
import {
  FLEET_COLUMNS,
  learnUsual,
  measuredOf,
  noUsual,
  type OwnUsual,
  peersOf,
  rowOf,
  type SeriesMinute,
} from "./fleet-columns.ts";
import type { UnitTable } from "./table.ts";

export const FLEET_MINUTE_MS = 60_000;
/** An endpoint that was not heard for longer begins a new life: what was known of it is forgotten. */
const SILENCE_MINUTES_MAX = 30;
/** With fewer values than this a minute tells nothing. */
const VALUES_MIN = 5;

/** One minute of a whole swarm. */
export interface FleetMinute {
  /** Unix milliseconds at which it began. */
  readonly atMs: number;
  readonly endpoints: ReadonlyMap<string, SeriesMinute>;
}

export interface FleetRow {
  readonly endpoint: string;
  /** Minutes since 1970 at which the minute was over: when its row could be known. */
  readonly time: number;
  /** In the order of FLEET_COLUMNS; NaN where nothing was measured. */
  readonly cells: Float64Array;
  /** The endpoint was not heard for long before, or never. */
  readonly isFirst: boolean;
}

interface Followed {
  readonly usual: OwnUsual;
  readonly time: number;
}

/** Makes the rows of a swarm, minute after minute. */
export class FleetRows {
  readonly #followed = new Map<string, Followed>();

  /** Rows of the endpoints that were heard in this minute. Minutes that are not newer than the last are refused: no rows. */
  push(minute: FleetMinute): readonly FleetRow[] {
    const rows = this.preview(minute);
    for (const { endpoint, time, cells, isFirst } of rows) {
      const before = isFirst ? undefined : this.#followed.get(endpoint);
      const measured = cells.subarray(0, measuredCount);
      const usual = learnUsual(before?.usual ?? noUsual(), measured, before === undefined ? 1 : time - before.time);
      this.#followed.set(endpoint, { usual, time });
    }
    const oldest = minute.atMs / FLEET_MINUTE_MS - SILENCE_MINUTES_MAX;
    for (const [endpoint, { time }] of this.#followed) if (time < oldest) this.#followed.delete(endpoint);
    return rows;
  }

  /**
   * Learns what is usual from a longer step (an hour of stored rollups), without a row: for a past from which minutes are not read. Oldest
   * first, and before the first minute.
   */
  learn({ atMs, endpoints }: FleetMinute, stepMs: number): void {
    const minutes = stepMs / FLEET_MINUTE_MS;
    const time = atMs / FLEET_MINUTE_MS + minutes;
    for (const [endpoint, series] of endpoints) {
      const known = this.#followed.get(endpoint);
      if (known !== undefined && time <= known.time) continue;
      const before = known !== undefined && time - known.time <= minutes + SILENCE_MINUTES_MAX ? known : undefined;
      const elapsed = before === undefined ? minutes : time - before.time;
      this.#followed.set(endpoint, {
        usual: learnUsual(before?.usual ?? noUsual(), measuredOf(series), elapsed, minutes),
        time,
      });
    }
  }

  /** The same without learning from it: for a minute that is not over. */
  preview({ atMs, endpoints }: FleetMinute): readonly FleetRow[] {
    const time = atMs / FLEET_MINUTE_MS + 1;
    const measured = [...endpoints]
      .map(([endpoint, series]) => ({ endpoint, cells: measuredOf(series) }))
      .filter(({ cells }) => cells.some((value) => !Number.isNaN(value)));
    const peers = peersOf(measured.map(({ cells }) => cells));
    return measured.flatMap(({ endpoint, cells }) => {
      const before = this.#followed.get(endpoint);
      if (before !== undefined && time <= before.time) return [];
      const isFirst = before === undefined || time - before.time > SILENCE_MINUTES_MAX;
      const usual = isFirst ? noUsual() : before.usual;
      return [{ endpoint, time, cells: rowOf(cells, peers, usual), isFirst }];
    });
  }

  /** When the endpoint's last row was known, in minutes since 1970. */
  lastTime(endpoint: string): number | undefined {
    return this.#followed.get(endpoint)?.time;
  }
}

const measuredCount = measuredOf(new Map()).length;

/** Part of an endpoint's time in which its outcome is known. Unix milliseconds. */
export interface FleetLife {
  readonly endpoint: string;
  readonly fromMs: number;
  readonly untilMs: number;
  /** When it failed: its end. Absent: it did not, as far as is known. */
  readonly failedAtMs?: number | undefined;
}

/**
 * The training table: a unit is a life, its rows those of its endpoint from its beginning to its end. Time and time to failure are in
 * minutes, as the model's window has to be. Takes minutes of the whole swarm, oldest first: peers count whether or not they have a life in
 * the table. Answers the lives in the order of the table's units; those without a row are left out.
 */
export class FleetTable<L extends FleetLife = FleetLife> {
  readonly #lives: readonly L[];
  readonly #byEndpoint: ReadonlyMap<string, readonly L[]>;
  readonly #rowsOf: ReadonlyMap<L, FleetRow[]>;
  readonly #rows = new FleetRows();

  constructor(lives: readonly L[]) {
    this.#lives = lives;
    this.#byEndpoint = Map.groupBy(lives, ({ endpoint }) => endpoint);
    this.#rowsOf = new Map(lives.map((life) => [life, []]));
  }

  push(minute: FleetMinute): void {
    for (const row of this.#rows.push(minute)) {
      const endMs = row.time * FLEET_MINUTE_MS;
      const life = this.#byEndpoint
        .get(row.endpoint)
        ?.find((one) => minute.atMs >= one.fromMs && endMs <= (one.failedAtMs ?? one.untilMs));
      if (life !== undefined) this.#rowsOf.get(life)?.push(row);
    }
  }

  whole(): { readonly table: UnitTable; readonly lives: readonly L[] } {
    const rowsOf = (life: L) => this.#rowsOf.get(life) ?? [];
    const kept = this.#lives.filter((life) => rowsOf(life).length > 0);
    const all = kept.flatMap((life, unit) => rowsOf(life).map((row) => ({ row, unit, life })));
    const cells = new Float64Array(all.length * FLEET_COLUMNS.length);
    for (const [at, { row }] of all.entries()) cells.set(row.cells, at * FLEET_COLUMNS.length);
    const table: UnitTable = {
      columns: FLEET_COLUMNS.map(({ name }) => name),
      rows: all.length,
      cells,
      unit: Int32Array.from(all, ({ unit }) => unit),
      units: kept.length,
      time: Float64Array.from(all, ({ row }) => row.time),
      timeToFailure: Float64Array.from(all, ({ row, life: { failedAtMs } }) =>
        failedAtMs === undefined ? Number.POSITIVE_INFINITY : failedAtMs / FLEET_MINUTE_MS - row.time,
      ),
      startsUnseen: true,
    };
    return { table, lives: kept };
  }
}

/** The table of minutes that are all at hand. */
export function fleetTable(minutes: Iterable<FleetMinute>, lives: readonly FleetLife[]): ReturnType<FleetTable["whole"]> {
  const made = new FleetTable(lives);
  for (const minute of minutes) made.push(minute);
  return made.whole();
}

/** Minutes from stored rollups in steps of a minute (`Store.telemetry`, `telemetry_minutes`), oldest first; hours from those in steps of an hour. */
export function minutesOfRollups(
  series: readonly {
    readonly endpoint: string;
    readonly metric: string;
    readonly points: readonly (Rollup & { readonly atMs: number })[];
  }[],
): readonly FleetMinute[] {
  const minutes = new Map<number, Map<string, Map<string, Rollup>>>();
  for (const { endpoint, metric, points } of series)
    for (const { atMs, ...values } of points) put(minutes, atMs, endpoint, metric, values);
  return inOrder(minutes);
}

/** All series have one value for each step from `fromMs`; null where there is none. */
interface Window {
  readonly stepMs: number;
  readonly fromMs: number;
  readonly endpoints: Readonly<Record<string, Readonly<Record<string, { readonly values: readonly (number | null)[] }>>>>;
}

/** Stretches of a minute of the live window, the first beginning at `sinceMs`, the last over by `untilMs`; oldest first. */
export function minutesOfWindow(
  { stepMs, fromMs, endpoints }: Window,
  sinceMs: number,
  untilMs: number,
): readonly FleetMinute[] {
  const minutes = new Map<number, Map<string, Map<string, Rollup>>>();
  for (let atMs = sinceMs; atMs + FLEET_MINUTE_MS <= untilMs; atMs += FLEET_MINUTE_MS) {
    const first = Math.ceil((atMs - fromMs) / stepMs);
    const end = Math.ceil((atMs + FLEET_MINUTE_MS - fromMs) / stepMs);
    if (first < 0) continue;
    for (const [endpoint, series] of Object.entries(endpoints)) {
      for (const [metric, { values }] of Object.entries(series)) {
        const found = rollup(values.slice(first, end).filter((value) => value !== null));
        if (found !== undefined) put(minutes, atMs, endpoint, metric, found);
      }
    }
  }
  return inOrder(minutes);
}

function put(
  minutes: Map<number, Map<string, Map<string, Rollup>>>,
  atMs: number,
  endpoint: string,
  metric: string,
  values: Rollup,
): void {
  if (values.count < VALUES_MIN) return;
  const endpoints = minutes.get(atMs) ?? new Map<string, Map<string, Rollup>>();
  minutes.set(atMs, endpoints);
  const series = endpoints.get(endpoint) ?? new Map<string, Rollup>();
  endpoints.set(endpoint, series.set(metric, values));
}

function inOrder(minutes: ReadonlyMap<number, ReadonlyMap<string, SeriesMinute>>): readonly FleetMinute[] {
  return [...minutes].toSorted(([a], [b]) => a - b).map(([atMs, endpoints]) => ({ atMs, endpoints }));
}
