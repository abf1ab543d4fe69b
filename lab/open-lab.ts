/**
 * Everything one needs to talk to a running lab: its reflex, hypervisor, database and Temporal, opened together and closed together.
 */
import { reflexClient } from "../drivers/balancer/reflex-client.ts";
import { netnsHypervisor } from "../drivers/hypervisor/netns.ts";
import { dialProcess } from "../drivers/identity/dial.ts";
import type { ProcessIdentity } from "../drivers/identity/process-identity.ts";
import type { Store } from "../drivers/ports.ts";
import { openStore } from "../drivers/store/store.ts";
import { openTemporal, type Temporal } from "../drivers/temporal-client.ts";
import { openPayloadSealing } from "../drivers/temporal-codec/codec.ts";
import { type Processors, patienceWith } from "../models/patience.ts";
import type { OutlierPolicy } from "../models/steering.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import type { Connection } from "../setup/connection.ts";
import { until } from "./await.ts";
import { LabClient } from "./lab-client.ts";
import { controlIdentity } from "./operator.ts";
import { LAB_SWARM } from "./spec.ts";
import { awaitWhole, type Surroundings } from "./trial.ts";

export interface OpenLab extends Surroundings {
  readonly connection: Connection;
  readonly store: Store;
  readonly temporal: Temporal;
  /** Who the one is that has opened it; undefined where processes ask for no certificate. */
  readonly identity: ProcessIdentity | undefined;
  /** Waits until the balancer holds an outlier policy like that. */
  awaitOutlier(holds: (outlier: OutlierPolicy) => boolean): Promise<void>;
  close(): Promise<void>;
}

/** `processors`: of its machines. */
export async function openLab(connection: Connection, processors: Processors): Promise<OpenLab> {
  const patience = patienceWith(processors);
  const identity = await controlIdentity(connection, patience);
  const dial = identity === undefined ? undefined : dialProcess(identity, "reflex");
  const balancer = reflexClient({ socketPath: connection.sockets.reflex, dial });
  const hypervisor = netnsHypervisor({ socketPath: connection.sockets.hypervisor });
  const store = openStore({ databaseUrl: connection.databaseUrl });
  const lab = new LabClient(connection.sockets.hypervisor);
  const sealing = openPayloadSealing(connection.payloads, connection);
  const temporal = await openTemporal({ ...connection, sealing });
  return {
    connection,
    balancer,
    hypervisor,
    store,
    lab,
    temporal,
    swarm: LAB_SWARM,
    patience,
    awaitOutlier: async (holds) => {
      const what = "the balancer's new policy";
      await until(
        async () => {
          const desired = await balancer.desired();
          return desired !== undefined && holds(desired.outlier) ? true : undefined;
        },
        { what, timeoutMs: patience.swarmReadyTimeoutMs },
      );
    },
    identity,
    close: async () => {
      await Promise.allSettled([
        identity?.close(),
        balancer.close(),
        hypervisor.close(),
        store.close(),
        lab.close(),
        temporal.close(),
      ]);
      await sealing.close();
    },
  };
}

/** Applies the swarm file and waits until the swarm serves every client. */
export async function bringUpSwarm(
  open: OpenLab,
  spec: SwarmSpec,
  sessions: number,
  say: (text: string) => void,
): Promise<void> {
  await open.temporal.applySwarm({ spec, by: "lab" });
  say(
    `the swarm file is applied: ${counted(spec.endpoints.count, "endpoint")} and ${counted(spec.endpoints.ghosts, "ghost")} are launched`,
  );
  await awaitWhole(open, spec.endpoints);
  say("every endpoint answers through its tunnel; waiting for the clients");
  await until(
    async () => {
      const live = await open.balancer.sessions();
      return new Set(live.map(({ publicKey }) => publicKey)).size >= sessions ? true : undefined;
    },
    { what: `${sessions} sessions`, timeoutMs: open.patience.swarmReadyTimeoutMs },
  );
  await awaitAtRest(open);
  // What clients sent before anybody served them is nobody's loss.
  await open.lab.resetTraffic();
}

/** The swarm's workflow knows of every member, and has no run under way: from then on it takes requests. */
export async function awaitAtRest({ balancer, patience, swarm, temporal }: OpenLab): Promise<void> {
  await until(
    async () => {
      const { endpoints, runs } = await temporal.status(swarm);
      const known = new Set(endpoints.filter(({ phase }) => phase !== "joining").map(({ endpoint }) => endpoint));
      const members = await balancer.health();
      return runs.length === 0 && members.every(({ endpoint }) => known.has(endpoint)) ? true : undefined;
    },
    { what: "the end of every run", timeoutMs: patience.phaseTimeoutMs },
  );
}
