/**
 * Days of a fleet's telemetry by the minute, made from a seed: lives that end in failures which memory and round trips announce, and lives
 * that do not. Written to a real store as the collector and the runs would have written it.
 */
import pg from "pg";
import { openStore } from "../../drivers/store/store.ts";
import type { StoredRollup } from "../../drivers/store/telemetry.ts";
import { seededRandom } from "../../models/random.ts";

export interface FleetDays {
  readonly swarm: string;
  readonly endpoints: number;
  readonly fromMs: number;
  readonly hours: number;
  readonly seed: number;
  /** Of a life, in minutes; the longest has three times as many. */
  readonly lifeMinutes: number;
  /** Whether telemetry says anything of the failures. */
  readonly isTold: boolean;
}

export interface SeededLoss {
  readonly endpoint: string;
  readonly failedAtMs: number;
  readonly backAtMs: number;
}

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
/** Memory and round trips grow over so many minutes before a failure. */
const BUILD_UP_MINUTES = 25;
/** The telemetry is there again so long after a failure. */
const REPAIR_MINUTES = 3;

export function fleetDays({ swarm, endpoints, fromMs, hours, seed, lifeMinutes, isTold }: FleetDays) {
  const random = seededRandom(seed);
  const rollups: StoredRollup[] = [];
  const losses: SeededLoss[] = [];
  const minutes = hours * 60;
  for (let number = 1; number <= endpoints; number += 1) {
    const endpoint = `ep-${number}`;
    const usual = 0.3 + 0.2 * random();
    let failsAt = Math.floor(lifeMinutes * (1 + 2 * random()));
    for (let minute = 0; minute < minutes; minute += 1) {
      if (minute === failsAt) {
        const failedAtMs = fromMs + minute * MINUTE_MS;
        losses.push({ endpoint, failedAtMs, backAtMs: failedAtMs + REPAIR_MINUTES * MINUTE_MS });
        minute += REPAIR_MINUTES - 1;
        failsAt = minute + Math.floor(lifeMinutes * (1 + 2 * random()));
        continue;
      }
      const near = isTold ? Math.max(0, 1 - (failsAt - minute) / BUILD_UP_MINUTES) : 0;
      const means = {
        tunnelUp: 1,
        cpuShare: 0.3 + 0.1 * random(),
        memoryShare: usual + 0.1 * random() + 0.3 * near,
        sessions: 40 + Math.floor(10 * random()),
        innerRttMsP75: 4 + 4 * random() + 6 * near ** 2,
        innerLossShare: 0.005 * random(),
      };
      const at = { atMs: fromMs + minute * MINUTE_MS, swarm, endpoint, count: 60 };
      for (const [metric, mean] of Object.entries(means))
        rollups.push({ ...at, metric, mean, min: mean, max: mean, p95: mean });
    }
  }
  return { rollups, losses };
}

/** What is stored of it. Losses are written as `endpointLost` sums them up. */
export async function seedFleet(databaseUrl: string, days: FleetDays): Promise<readonly SeededLoss[]> {
  const { rollups, losses } = fleetDays(days);
  const store = openStore({ databaseUrl });
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const partitions = Math.ceil(days.hours / 24) + 2;
    const firstDay = new Date(days.fromMs - DAY_MS).toISOString().slice(0, 10);
    await client.query("select make_telemetry_partitions($1::date, $2)", [firstDay, partitions + 1]);
    await store.insertRollups("minute", rollups);
    await store.insertRollups("five-minutes", fiveMinutesOf(rollups));
    for (const { endpoint, failedAtMs, backAtMs } of losses) {
      await store.audit({
        operation: `lost/${days.swarm}/${endpoint}/${failedAtMs}:analysis`,
        swarm: days.swarm,
        endpoint,
        action: "analyse the loss",
        outcome: "done",
        text: `${endpoint} was recovered in place.`,
        workflowId: `lost/${days.swarm}/${endpoint}`,
        runId: String(failedAtMs),
        details: {
          cause: "machine-dead",
          replacement: "",
          ejectedAtMs: failedAtMs,
          startedAtMs: failedAtMs + 200,
          servedAgainAtMs: backAtMs,
        },
      });
    }
  } finally {
    await Promise.all([store.close(), client.end()]);
  }
  return losses;
}

function fiveMinutesOf(rollups: readonly StoredRollup[]): readonly StoredRollup[] {
  return rollups.filter(({ atMs }) => atMs % (5 * MINUTE_MS) === 0).map((one) => ({ ...one, count: 300 }));
}
