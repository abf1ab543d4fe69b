/**
 * A real Temporal dev server for one test file, and a worker in this process over a world in memory.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Client, Connection } from "@temporalio/client";
import { pino } from "pino";
import type { ActivityDeps } from "../../activities/deps.ts";
import { type Activities, createActivities } from "../../activities/index.ts";
import { createStopGuard } from "../../activities/stop-guard.ts";
import { PLAIN_PAYLOADS } from "../../drivers/temporal-codec/codec.ts";
import { type ForesightPolicy, SwarmSpec } from "../../models/swarm-spec.ts";
import { startTemporal, type TemporalService } from "../../setup/services.ts";
import { startWorkerSet, type WorkerSet } from "../../workers/control/worker-set.ts";
import { NO_MODELS } from "./world/models.ts";
import type { World } from "./world.ts";

export interface TestServer {
  readonly address: string;
  readonly client: Client;
  readonly stop: () => Promise<void>;
}

export async function startServer(dynamicConfig?: Record<string, number>): Promise<TestServer> {
  const home = await mkdtemp(join(tmpdir(), "foreshift-wf-"));
  let service: TemporalService | undefined;
  try {
    service = await startTemporal({ home, run: join(home, "run"), ...(dynamicConfig === undefined ? {} : { dynamicConfig }) });
    const connection = await Connection.connect({ address: service.address });
    const running = service;
    return {
      address: running.address,
      client: new Client({ connection }),
      stop: async () => {
        await connection.close();
        await running.stop();
        await rm(home, { recursive: true, force: true });
      },
    };
  } catch (thrown) {
    await service?.stop();
    await rm(home, { recursive: true, force: true });
    throw thrown;
  }
}

/** `real`: what is not of the world. */
export function startWorkers(server: TestServer, world: World, real: Partial<ActivityDeps> = {}): Promise<WorkerSet> {
  return startWorkersWith(server, activitiesOf(world, real));
}

export function startWorkersWith(server: TestServer, activities: Partial<Activities>): Promise<WorkerSet> {
  return startWorkerSet({
    connection: { address: server.address },
    namespace: "default",
    activities,
    sealing: PLAIN_PAYLOADS,
    log: pino({ level: process.env.FORESHIFT_DEBUG === "1" ? "debug" : "silent" }, pino.destination(2)),
  });
}

export function activitiesOf(world: World, real: Partial<ActivityDeps> = {}): Activities {
  const { store, hypervisor, balancer, telemetry, keyVault, provisioner, certificates, agentLogins, holders, payloadKeys } =
    world;
  return createActivities({
    store,
    hypervisor,
    balancer,
    telemetry,
    models: NO_MODELS,
    keyVault,
    provisioner,
    certificates,
    agentLogins,
    payloadKeys,
    holders,
    agentOf: (link) => world.agentOf(link.agent),
    stopGuard: createStopGuard(store),
    ...real,
  });
}

type SpecChanges = {
  readonly name?: string;
  readonly count?: number;
  readonly ghosts?: number;
  readonly capacitySessions?: number;
  readonly countMax?: number;
  readonly thresholds?: Partial<SwarmSpec["thresholds"]>;
  readonly budget?: Partial<SwarmSpec["budget"]>;
  readonly move?: Partial<SwarmSpec["move"]>;
  readonly outlier?: Partial<SwarmSpec["outlier"]>;
  readonly foresight?: Partial<Omit<ForesightPolicy, "costs">>;
  readonly recoverInPlace?: boolean;
};

/** A swarm of three and a ghost that decides fast. */
export function specFor(changes: SpecChanges = {}): SwarmSpec {
  return SwarmSpec.parse({
    apiVersion: "foreshift/v1",
    kind: "Swarm",
    name: changes.name ?? "lab",
    vip: { v4: "198.19.0.1" },
    endpoints: {
      count: changes.count ?? 3,
      countMax: changes.countMax,
      ghosts: changes.ghosts ?? 1,
      capacitySessions: changes.capacitySessions ?? 500,
    },
    key: { secret: { path: "swarms/lab/wireguard", version: 1 }, publicKey: `${"B".repeat(42)}A=` },
    move: { batchSessions: 4, overlapMs: 100, verifyTimeoutMs: 2_000, ...changes.move },
    budget: { disruptedShareMaxPercent: 40, windowShareMaxPercent: 100, windowMs: 60_000, ...changes.budget },
    thresholds: { holdMs: 300, replaceAfterMs: 1_000, recoverAfterMs: 500, coolDownMs: 1_000, ...changes.thresholds },
    outlier: changes.outlier ?? {},
    foresight: { controlShare: 0, ...changes.foresight },
    recoverInPlace: changes.recoverInPlace ?? true,
  });
}

/** Awaits a condition with a deadline; answers its first truthy value. */
export async function eventually<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  ms = 30_000,
): Promise<T> {
  const deadlineMs = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadlineMs) throw new Error(`not within ${ms} ms: ${what}`);
    await delay(50);
  }
}
