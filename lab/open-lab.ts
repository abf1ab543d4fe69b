/**
 * Everything one needs to talk to a running lab: its reflex, hypervisor, database and Temporal, opened together and closed together.
 */
import { ReflexClient } from "../drivers/balancer/reflex-client.ts";
import { NetnsHypervisor } from "../drivers/hypervisor/netns.ts";
import { openStore } from "../drivers/store/store.ts";
import { openTemporal, type Temporal } from "../drivers/temporal-client.ts";
import type { Store } from "../drivers/ports.ts";
import { LIMITS } from "../models/limits.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import type { Connection } from "../setup/connection.ts";
import { until } from "./await.ts";
import { LabClient } from "./lab-client.ts";
import { LAB_SWARM } from "./spec.ts";
import { awaitWhole, type Surroundings } from "./trial.ts";

export interface OpenLab extends Surroundings {
  readonly connection: Connection;
  readonly store: Store;
  readonly temporal: Temporal;
  close(): Promise<void>;
}
