/** A fleet whose endpoints fail after a sign that no stated evidence knows: retransmits and the age of handshakes creep up. Seeded. */
import type { FleetLife, FleetMinute } from "../../models/failure/fleet-table.ts";
import { fleetTable } from "../../models/failure/fleet-table.ts";
import type { FailureModel } from "../../models/failure/model.ts";
import { type FailureModelFile, toModelFile } from "../../models/failure/model-file.ts";
import { Random } from "../../models/failure/random.ts";
import { trainFailureModel } from "../../models/failure/train.ts";
import { rollup } from "../../models/telemetry-rollup.ts";

const MINUTE_MS = 60_000;
/** The signs begin so many minutes before the failure. */
export const SIGN_MINUTES = 15;
export const FLEET_WINDOW_MINUTES = 10;

/** What one second shows; `left`: minutes to the failure, Infinity where there is none to come; `scale`: the unit of the signs. */
export function secondOf(left: number, random: Random, scale = 1): Readonly<Record<string, number>> {
  const sign = Math.max(0, Math.min(1, 1 - left / SIGN_MINUTES));
  const around = (middle: number) => middle * (1 + 0.1 * random.normal());
  return {
    cpuShare: Math.max(0, Math.min(1, around(0.2))),
    sessions: 20,
    tcpRetransmitsPerS: scale * Math.max(0, around(1 + 30 * sign)),
    handshakeAgeSP50: scale * Math.max(0, around(60 + 60 * sign)),
    "pathRttMs:balancer": Math.max(0, around(2)),
  };
}

/** Minutes of `endpoints` machines; every second one fails at a time of its own, and is gone from then on. */
export function fleetMinutes(
  endpoints: number,
  minutes: number,
  seed: number,
  scale = 1,
): { minutes: FleetMinute[]; lives: FleetLife[] } {
  const random = new Random(seed);
  const startMs = 1_790_000_040_000;
  const lives = Array.from({ length: endpoints }, (_, at): FleetLife => {
    const life = { endpoint: `ep-${at + 1}`, fromMs: startMs, untilMs: startMs + minutes * MINUTE_MS };
    const failedAtMs = startMs + Math.round(minutes * (0.4 + 0.6 * random.next())) * MINUTE_MS;
    return at % 2 === 0 ? { ...life, failedAtMs } : life;
  });
  const all = Array.from({ length: minutes }, (_, minute): FleetMinute => {
    const atMs = startMs + minute * MINUTE_MS;
    const alive = lives.filter(({ failedAtMs, untilMs }) => atMs < (failedAtMs ?? untilMs));
    return {
      atMs,
      endpoints: new Map(
        alive.map(({ endpoint, failedAtMs }) => {
          const left = failedAtMs === undefined ? Number.POSITIVE_INFINITY : (failedAtMs - atMs) / MINUTE_MS;
          const seconds = Array.from({ length: 12 }, () => secondOf(left, random, scale));
          const names = Object.keys(seconds[0] ?? {});
          const rolled = names.flatMap((name) => {
            const found = rollup(seconds.map((second) => second[name] ?? 0));
            return found === undefined ? [] : [[name, found] as const];
          });
          return [endpoint, new Map(rolled)] as const;
        }),
      ),
    };
  });
  return { minutes: all, lives };
}

export async function fleetModel(seed: number, scale = 1): Promise<{ model: FailureModel; file: FailureModelFile }> {
  const { minutes, lives } = fleetMinutes(24, 90, seed, scale);
  const { table } = fleetTable(minutes, lives);
  const model = await trainFailureModel(table, { window: FLEET_WINDOW_MINUTES, seed });
  const [dataFrom = 0, dataUntil = 0] = [table.time[0], table.time.at(-1)];
  return {
    model,
    file: toModelFile(model, { codeVersion: "test", dataFrom, dataUntil, rows: table.rows, units: table.units, seed }),
  };
}
