/**
 * Everything the lab runs on, started in order and kept running: Temporal, PostgreSQL, OpenBao, collector, control worker and the
 * process that holds the fleet's namespaces. Ends all of it together, and dies with nothing left behind.
 */
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { connect, type NetConnectOpts } from "node:net";
import { join } from "node:path";
import { pino } from "pino";
import { IdentityConfig } from "../drivers/identity/config.ts";
import { migrate } from "../drivers/store/migrate.ts";
import { openStore } from "../drivers/store/store.ts";
import { writeCredentials } from "../drivers/vault/credentials.ts";
import { openVault } from "../drivers/vault/vault.ts";
import { processIdentity } from "../models/identity.ts";
import { LIMITS } from "../models/limits.ts";
import type { Processors } from "../models/patience.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import type { VaultProcess } from "../models/vault-layout.ts";
import { type Connection, connectionFile, localSockets } from "../setup/connection.ts";
import { makePaths } from "../setup/paths.ts";
import { choosePort, LOOPBACK } from "../setup/ports.ts";
import { type OpenBaoService, type Service, startOpenBao, startPostgres, startTemporal } from "../setup/services.ts";
import { identify } from "../workers/identify.ts";
import { until } from "./await.ts";
import { removeCgroups } from "./cgroups.ts";
import { labCommand } from "./enclosure.ts";
import { writePrivateFile } from "./files.ts";
import { startAfresh } from "./fresh-start.ts";
import { KeptService } from "./kept-service.ts";
import { LabClient } from "./lab-client.ts";
import type { LabOptions } from "./lab-options.ts";
import { processorsFor } from "./machine-image.ts";
import { fleetDir, ProcessConfigs, reflexDir } from "./process-configs.ts";
import { type Provisioned, provisionSwarm } from "./provision.ts";
import { LAB_SWARM, labSpec, overridesFor } from "./spec.ts";
import { type ProcessStatus, Supervised } from "./supervised.ts";
import { relayVault } from "./vault-relay.ts";

export interface RunningLab {
  readonly connection: Connection;
  readonly spec: SwarmSpec;
  /** Of its machines. */
  readonly processors: Processors;
  /** Folder of its state. */
  readonly home: string;
  processes(): readonly ProcessStatus[];
  stop(): Promise<void>;
}

/** Those that log in by themselves; the operator is whoever uses the command line beside the lab. */
const SUPERVISED_PROCESSES = [
  "hypervisor",
  "collector",
  "control",
  "clients",
  "reflex",
  "trainer",
  "codec",
  "operator",
] as const satisfies readonly VaultProcess[];

/** Starts all of it and waits until every process answers; the swarm itself comes up when its file is applied. */
export async function startLab(options: LabOptions): Promise<RunningLab> {
  const lab = new Lab(options);
  try {
    await lab.start();
    return lab;
  } catch (thrown) {
    await lab.stop();
    throw thrown;
  }
}

class Lab implements RunningLab {
  readonly #options: LabOptions;
  readonly #processes: Supervised[] = [];
  readonly #services: KeptService[] = [];
  readonly #closers: (() => Promise<void>)[] = [];
  #connection: Connection | undefined;
  #configs: ProcessConfigs | undefined;
  #spec: SwarmSpec | undefined;
  #processors: Processors = "own";

  constructor(options: LabOptions) {
    this.#options = options;
  }

  get connection(): Connection {
    return required(this.#connection);
  }

  get #told(): ProcessConfigs {
    return required(this.#configs);
  }

  get home(): string {
    return this.#options.paths.home;
  }

  get spec(): SwarmSpec {
    return required(this.#spec);
  }

  get processors(): Processors {
    return this.#processors;
  }

  processes(): readonly ProcessStatus[] {
    return [...this.#services, ...this.#processes].map(({ status }) => status);
  }

  async start(): Promise<void> {
    const { image, paths, onProgress } = this.#options;
    await makePaths(paths);
    this.#processors = await processorsFor(image);
    onProgress("starting PostgreSQL, Temporal and OpenBao");
    const where = { home: paths.home, run: paths.run };
    const codec = { host: LOOPBACK, port: await choosePort(paths.home, "codec") };
    const codecAddress = `http://${codec.host}:${codec.port}`;
    const [postgres, temporal, openBao] = await allOrFirstError([
      this.#keep(() => startPostgres(where)),
      this.#keep(() => startTemporal({ ...where, codecEndpoint: `${codecAddress}/codec` })),
      this.#keep(() => startOpenBao(where)),
    ]);
    this.#configs = new ProcessConfigs(this.#options, this.#processors, openBao);
    const key = await this.#provision(openBao);
    this.#spec = labSpec(this.#options, key, overridesFor(this.#processors, this.#options.spec));
    const { vaultFaults } = this.#options;
    vaultFaults?.leadTo(openBao.address);
    const relay = await relayVault(join(paths.run, "vault.sock"), vaultFaults?.address ?? openBao.address);
    this.#closers.push(() => relay.close());
    this.#connection = {
      temporalAddress: temporal.address,
      temporalNamespace: process.env.TEMPORAL_NAMESPACE ?? "default",
      ...(temporal.uiUrl === undefined ? {} : { codec: { address: codecAddress, tokenFile: this.#told.operatorToken } }),
      databaseUrl: postgres.url,
      payloads: this.#told.payloads("operator"),
      sockets: localSockets(paths.run),
      identityDir: this.#told.identityDir("operator"),
    };
    onProgress("starting collector, control worker and the fleet's namespaces");
    await migrate(postgres.url);
    await startAfresh(this.connection, reflexDir(paths));
    await this.#runWorker("collector");
    await allOrFirstError([
      this.#runFleet(key),
      this.#runWorker("control"),
      this.#runWorker("trainer"),
      ...(temporal.uiUrl === undefined ? [] : [this.#runCodec(codec, temporal.uiUrl)]),
      this.#identifyOperator(),
    ]);
    await this.#registerPeers();
    await writePrivateFile(connectionFile(paths.home), `${JSON.stringify(this.#connection, null, 2)}\n`);
  }

  /** Ends what was started, last first; what fails to end does not keep the rest from it. */
  async stop(): Promise<void> {
    await rm(connectionFile(this.#options.paths.home), { force: true });
    await Promise.allSettled(this.#processes.map((process) => process.stop()));
    await removeCgroups(fleetDir(this.#options.paths)).catch(() => undefined);
    await Promise.allSettled(this.#closers.map((close) => close()));
    await Promise.allSettled(this.#services.map((service) => service.stop()));
  }

  async #keep<S extends Service>(start: () => Promise<S>): Promise<S> {
    const kept = await KeptService.start(start);
    this.#services.push(kept);
    return kept.service;
  }

  /** The swarm's key, and for each process a wrapped secret-id that it opens when it starts. */
  async #provision(openBao: OpenBaoService): Promise<Provisioned> {
    // Certificates of the lab before, perhaps of another Vault's authority.
    await rm(join(this.#options.paths.home, "identity"), { recursive: true, force: true });
    const told = this.#told;
    const { credentialsFile } = told.vault("provision").auth;
    await openBao.deliver("provision", credentialsFile);
    const vault = openVault({ ...told.vaultAccess, address: openBao.address, auth: { method: "approle", credentialsFile } });
    try {
      await Promise.all(
        SUPERVISED_PROCESSES.map(async (process) =>
          writeCredentials(told.vault(process).auth.credentialsFile, await vault.appRoles.forProcess(process)),
        ),
      );
      return await provisionSwarm(vault);
    } finally {
      await vault.close();
    }
  }

  /** Kept fresh here for the commands of the person whose lab this is; they only read it. */
  async #identifyOperator(): Promise<void> {
    const vault = openVault(this.#told.vault("operator"));
    const dest = join(this.#options.paths.log, "supervisor.log");
    const identity = await identify({
      uri: processIdentity("operator"),
      config: IdentityConfig.parse({ dir: this.#told.identityDir("operator") }),
      pki: vault.pki,
      collector: this.connection.sockets.collector,
      log: pino({ name: "supervisor" }, pino.destination({ dest, mode: 0o600 })),
    });
    this.#closers.push(async () => {
      await identity.close();
      await vault.close();
    });
  }

  /** The process that holds the fleet's namespaces; it starts the reflex, and machines when it is asked to. */
  async #runFleet(key: Provisioned): Promise<void> {
    const { image } = this.#options;
    const configFile = await this.#told.fleet(this.connection, key);
    const [command, ...args] = labCommand({
      node: process.execPath,
      configFile,
      uid: process.getuid?.() ?? 0,
      goesOn: image !== undefined,
    });
    await this.#run("hypervisor", command, args, "SIGKILL", { path: this.connection.sockets.hypervisor });
  }

  async #runCodec(listen: { host: string; port: number }, ui: string): Promise<void> {
    const configFile = await this.#told.codec(this.connection, listen, ui);
    await this.#run("codec", process.execPath, [this.#worker("codec"), configFile], "SIGTERM", listen);
  }

  async #runWorker(name: "collector" | "control" | "trainer"): Promise<void> {
    const configFile = await this.#told[name](this.connection);
    const listens = { path: this.connection.sockets[name] };
    await this.#run(name, process.execPath, [this.#worker(name), configFile], "SIGTERM", listens);
  }

  #worker(name: string): string {
    return join(this.#options.paths.project, "workers", `${name}.ts`);
  }

  /** Keeps a process running from here on, and waits until it takes connections. */
  async #run(
    name: string,
    command: string,
    args: readonly string[],
    stopSignal: "SIGTERM" | "SIGKILL",
    listens: NetConnectOpts,
  ): Promise<void> {
    const logFile = join(this.#options.paths.log, `${name}.log`);
    const supervised = new Supervised({
      name,
      command,
      args,
      logFile,
      stopSignal,
      ready: (signal) => answers(name, listens, signal),
    });
    this.#processes.push(supervised);
    await supervised.start();
  }

  async #registerPeers(): Promise<void> {
    const lab = new LabClient(this.connection.sockets.hypervisor);
    const store = openStore({ databaseUrl: this.connection.databaseUrl });
    try {
      const { peers } = await lab.describe();
      await store.registerPeers(LAB_SWARM, peers);
    } finally {
      await Promise.all([lab.close(), store.close()]);
    }
  }
}

/** All results, or the first error once none is under way any more. */
async function allOrFirstError<T extends readonly Promise<unknown>[]>(
  work: readonly [...T],
): Promise<{ [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(work);
  return (await Promise.all(work)) as { [K in keyof T]: Awaited<T[K]> };
}

/** Resolves once somebody takes connections there. */
async function answers(name: string, listens: NetConnectOpts, signal: AbortSignal): Promise<void> {
  await until(
    async () => {
      if (signal.aborted) throw new Error("it took too long");
      const socket = connect(listens);
      await once(socket, "connect");
      socket.destroy();
      return true;
    },
    { what: name, timeoutMs: LIMITS.lab.processReadyTimeoutMs },
  );
}

function required<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("asked for before the lab was started");
  return value;
}
