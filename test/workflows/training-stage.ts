/** Days of telemetry in a real PostgreSQL, and the trainer in a process of its own on a real Temporal server. */
import { join } from "node:path";
import type { RetrainResult } from "../../activities/retrain.ts";
import { type ModelStore, openModelStore } from "../../drivers/store/models.ts";
import { openStore, type PostgresStore } from "../../drivers/store/store.ts";
import { openTrainingStore, type TrainingStore } from "../../drivers/store/training.ts";
import { openTemporal, type Temporal } from "../../drivers/temporal-client.ts";
import { PLAIN_PAYLOADS } from "../../drivers/temporal-codec/codec.ts";
import type { RetrainPolicy, SwarmSpec } from "../../models/swarm-spec.ts";
import { seedFleet } from "../support/fleet-days.ts";
import { startWorker, type WorkerProcess } from "../support/process.ts";
import { type TestHome, type TestPostgres, testHome, testPostgres } from "../support/services.ts";
import { eventually, specFor, type TestServer } from "./support.ts";

const HOUR_MS = 3_600_000;
const HOURS = 24;
export const EVERY_MS = 7_200_000;

export class TrainingStage {
  readonly server: TestServer;
  readonly temporal: Temporal;
  readonly store: PostgresStore;
  readonly models: ModelStore;
  readonly training: TrainingStore;
  readonly databaseUrl: string;
  readonly #where: TestHome;
  readonly #postgres: TestPostgres;
  #trainer: WorkerProcess | undefined;

  private constructor(server: TestServer, temporal: Temporal, where: TestHome, postgres: TestPostgres) {
    this.server = server;
    this.temporal = temporal;
    this.#where = where;
    this.#postgres = postgres;
    this.databaseUrl = postgres.url;
    this.store = openStore(this);
    this.models = openModelStore(this);
    this.training = openTrainingStore(this);
  }

  /** A swarm with failures enough to learn from, `fleet`, and one with `few`. */
  static async set(server: TestServer): Promise<TrainingStage> {
    const where = await testHome();
    const postgres = await testPostgres(where, { migrated: true });
    const temporal = await openTemporal({
      temporalAddress: server.address,
      temporalNamespace: "default",
      sealing: PLAIN_PAYLOADS,
    });
    const stage = new TrainingStage(server, temporal, where, postgres);
    const fromMs = Math.floor(Date.now() / HOUR_MS) * HOUR_MS - HOURS * HOUR_MS;
    const fleet = { fromMs, hours: HOURS, isTold: true };
    await seedFleet(postgres.url, { ...fleet, swarm: "fleet", endpoints: 8, seed: 3, lifeMinutes: 150 });
    await seedFleet(postgres.url, { ...fleet, swarm: "few", endpoints: 2, seed: 4, lifeMinutes: 600 });
    await stage.state("fleet");
    await stage.state("few");
    return stage;
  }

  async startTrainer(): Promise<void> {
    const config = {
      temporal: { address: this.server.address },
      databaseUrl: this.databaseUrl,
      payloads: { mode: "plain" },
      socketPath: join(this.#where.home, "trainer.sock"),
    };
    const configPath = join(this.#where.home, "trainer.json");
    this.#trainer = await startWorker({ worker: "trainer.ts", config, configPath });
  }

  async killTrainer(): Promise<void> {
    await this.#trainer?.kill();
  }

  /** The swarm file in force, as applying it stores it. */
  async state(name: string, retrain: Partial<RetrainPolicy> = {}): Promise<SwarmSpec> {
    const policy = { mode: "on", everyMs: EVERY_MS, historyMs: 2 * HOURS * HOUR_MS, failuresMin: 10, ...retrain } as const;
    const spec = specFor({ name, foresight: { retrain: policy } });
    await this.store.saveSpec(spec);
    return spec;
  }

  schedule(swarm: string) {
    return this.server.client.schedule.getHandle(`retrain/${swarm}`).describe();
  }

  /** Waits for the Schedule first: the trainer makes it. */
  async retrained(swarm: string): Promise<RetrainResult & { readonly workflowId: string; readonly runId: string }> {
    await eventually("the Schedule is there", () => this.schedule(swarm).catch(() => undefined), 90_000);
    const { workflowId, runId } = await this.temporal.retrain(swarm);
    return { workflowId, runId, ...((await this.temporal.result(workflowId, runId)) as RetrainResult) };
  }

  async stop(): Promise<void> {
    await this.killTrainer();
    await Promise.all([this.temporal.close(), this.store.close(), this.models.close(), this.training.close()]);
    await this.#postgres.stop();
    await this.#where.remove();
  }
}
