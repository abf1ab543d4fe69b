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
import type { VaultOptions } from "../drivers/vault/config.ts";
import { writeCredentials } from "../drivers/vault/credentials.ts";
import { openVault } from "../drivers/vault/vault.ts";
import { processIdentity } from "../models/identity.ts";
import { LIMITS } from "../models/limits.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import type { VaultProcess } from "../models/vault-layout.ts";
import { type Connection, connectionFile, localSockets } from "../setup/connection.ts";
import { makePaths, type Paths } from "../setup/paths.ts";
import { choosePort, LOOPBACK } from "../setup/ports.ts";
import { type OpenBaoService, type Service, startOpenBao, startPostgres, startTemporal } from "../setup/services.ts";
import { identify } from "../workers/identify.ts";
import { until } from "./await.ts";
import { removeCgroups } from "./cgroups.ts";
import { codecConfig } from "./codec.ts";
import { labCommand } from "./enclosure.ts";
import { writePrivateFile } from "./files.ts";
import { startAfresh } from "./fresh-start.ts";
import { KeptService } from "./kept-service.ts";
import { LabClient } from "./lab-client.ts";
import { type Provisioned, provisionSwarm } from "./provision.ts";
import { LAB_SWARM, LAB_VIP, labSpec, overridesFor, type SpecOverrides } from "./spec.ts";
import { type ProcessStatus, Supervised } from "./supervised.ts";
import type { VaultFaults } from "./vault-faults.ts";
import { relayVault } from "./vault-relay.ts";

export interface LabOptions {
  readonly clients: number;
  /** Sessions in all; more than clients means that clients share namespaces. */
  readonly sessions: number;
  readonly endpoints: number;
  readonly ghosts: number;
  /** Numbered packets a second, for each client and direction. */
  readonly packetsPerSecond: number;
  /** Of each session's download; unless stated as much as a few can have. */
  readonly tcpBytesPerSecond?: number;
  /** Sessions beside these, which join when they are asked to. */
  readonly spareSessions?: number;
  /** Packets a second and direction that a machine takes; as many as it can unless stated. */
  readonly packetAllowancePerSecond?: number;
  /** Folder of the image that the machines boot from, which are virtual then; absent: they are namespaces. */
  readonly image?: string | undefined;
  readonly paths: Paths;
  readonly spec?: SpecOverrides;
  /** Between the lab's processes and their Vault, where it is to fail. */
  readonly vaultFaults?: VaultFaults | undefined;
  readonly onProgress: (text: string) => void;
}

export interface RunningLab {
  readonly connection: Connection;
  readonly spec: SwarmSpec;
  /** Folder of its state. */
  readonly home: string;
  processes(): readonly ProcessStatus[];
  stop(): Promise<void>;
}

/** Of each session's download; many share what one machine carries beside everything else. */
const TCP_BYTES_PER_SECOND = 50_000;
const TCP_BYTES_PER_SECOND_IN_ALL = 600_000;
/** Some clients come by IPv6, as they do everywhere. */
const IPV6_CLIENT_SHARE = 1 / 3;

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

const OUTSIDE_EVENTS = "outside-events.json";
/** What is announced in the lab comes true within a minute. */
const OUTSIDE_EVENTS_POLL_MS = 1_000;

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
  #vaultAccess: Pick<VaultOptions, "mounts" | "namespace"> = {};
  #spec: SwarmSpec | undefined;

  constructor(options: LabOptions) {
    this.#options = options;
  }

  get connection(): Connection {
    return required(this.#connection);
  }

  get home(): string {
    return this.#options.paths.home;
  }

  get spec(): SwarmSpec {
    return required(this.#spec);
  }

  processes(): readonly ProcessStatus[] {
    return [...this.#services, ...this.#processes].map(({ status }) => status);
  }

  async start(): Promise<void> {
    const { paths, onProgress } = this.#options;
    await makePaths(paths);
    onProgress("starting PostgreSQL, Temporal and OpenBao");
    const where = { home: paths.home, run: paths.run };
    const codec = { host: LOOPBACK, port: await choosePort(paths.home, "codec") };
    const codecAddress = `http://${codec.host}:${codec.port}`;
    const [postgres, temporal, openBao] = await allOrFirstError([
      this.#keep(() => startPostgres(where)),
      this.#keep(() => startTemporal({ ...where, codecEndpoint: `${codecAddress}/codec` })),
      this.#keep(() => startOpenBao(where)),
    ]);
    const key = await this.#provision(openBao);
    this.#spec = labSpec(
      this.#options,
      key,
      overridesFor(this.#options.image === undefined ? "netns" : "qemu", this.#options.spec),
    );
    const { vaultFaults } = this.#options;
    vaultFaults?.leadTo(openBao.address);
    const relay = await relayVault(join(paths.run, "vault.sock"), vaultFaults?.address ?? openBao.address);
    this.#closers.push(() => relay.close());
    this.#connection = {
      temporalAddress: temporal.address,
      temporalNamespace: process.env.TEMPORAL_NAMESPACE ?? "default",
      ...(temporal.uiUrl === undefined ? {} : { codec: { address: codecAddress, tokenFile: this.#file("operator-token") } }),
      databaseUrl: postgres.url,
      payloads: this.#payloads("operator"),
      sockets: localSockets(paths.run),
      identityDir: this.#identityDir("operator"),
    };
    onProgress("starting collector, control worker and the fleet's namespaces");
    await migrate(postgres.url);
    await startAfresh(this.connection, this.#reflexDir);
    await this.#runCollector(postgres.url);
    await allOrFirstError([
      this.#runFleet(key),
      this.#runWorker("control", this.#controlConfig()),
      this.#runWorker("trainer", this.#trainerConfig()),
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
    await removeCgroups(this.#fleetDir).catch(() => undefined);
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
    this.#vaultAccess = {
      mounts: openBao.mounts,
      ...(openBao.namespace === undefined ? {} : { namespace: openBao.namespace }),
    };
    // Certificates of the lab before, perhaps of another Vault's authority.
    await rm(join(this.#options.paths.home, "identity"), { recursive: true, force: true });
    const { credentialsFile } = this.#vault("provision").auth;
    await openBao.deliver("provision", credentialsFile);
    const vault = openVault({ ...this.#vaultAccess, address: openBao.address, auth: { method: "approle", credentialsFile } });
    try {
      await Promise.all(
        SUPERVISED_PROCESSES.map(async (process) =>
          writeCredentials(this.#vault(process).auth.credentialsFile, await vault.appRoles.forProcess(process)),
        ),
      );
      return await provisionSwarm(vault);
    } finally {
      await vault.close();
    }
  }

  /** How a process of the lab reaches Vault; the relay's socket crosses into its network namespace. */
  #vault(process: VaultProcess) {
    const auth = { method: "approle", credentialsFile: this.#file(`${process}.approle`) } as const;
    return { ...this.#vaultAccess, socketPath: join(this.#options.paths.run, "vault.sock"), auth };
  }

  /** The lab seals what it says to Temporal, as every installation should. */
  #payloads(process: VaultProcess) {
    return { mode: "sealed", vault: this.#vault(process) } as const;
  }

  /** What makes a process of the lab somebody: its login, and where it keeps its certificate. */
  #secured(process: VaultProcess) {
    return { vault: this.#vault(process), identity: { dir: this.#identityDir(process) } };
  }

  #identityDir(process: VaultProcess): string {
    return join(this.#options.paths.home, "identity", process);
  }

  /** Kept fresh here for the commands of the person whose lab this is; they only read it. */
  async #identifyOperator(): Promise<void> {
    const vault = openVault(this.#vault("operator"));
    const dest = join(this.#options.paths.log, "supervisor.log");
    const identity = await identify({
      uri: processIdentity("operator"),
      config: IdentityConfig.parse({ dir: this.#identityDir("operator") }),
      pki: vault.pki,
      collector: this.connection.sockets.collector,
      log: pino({ name: "supervisor" }, pino.destination({ dest, mode: 0o600 })),
    });
    this.#closers.push(async () => {
      await identity.close();
      await vault.close();
    });
  }

  async #runCollector(databaseUrl: string): Promise<void> {
    const outsideEvents = { name: LAB_SWARM, file: this.#file(OUTSIDE_EVENTS), pollMs: OUTSIDE_EVENTS_POLL_MS };
    await writePrivateFile(outsideEvents.file, "[]\n");
    await this.#runWorker("collector", {
      socketPath: this.connection.sockets.collector,
      databaseUrl,
      outsideEvents,
      ...this.#secured("collector"),
    });
  }

  /** The process that holds the fleet's namespaces; it starts the reflex, and machines when it is asked to. */
  async #runFleet(key: Provisioned): Promise<void> {
    const { paths, clients, sessions, packetsPerSecond, spareSessions, packetAllowancePerSecond, image } = this.#options;
    const tcpBytesPerSecond =
      this.#options.tcpBytesPerSecond ?? Math.min(TCP_BYTES_PER_SECOND, Math.ceil(TCP_BYTES_PER_SECOND_IN_ALL / sessions));
    const { sockets } = this.connection;
    const reflexConfigFile = await this.#writeConfig("reflex", {
      socketPath: sockets.reflex,
      collectorSocket: sockets.collector,
      ...this.#secured("reflex"),
      stateDir: this.#reflexDir,
      edgeDevice: "edge",
      serverDevice: "server",
      routerNetns: "/run/netns/router",
    });
    const configFile = await this.#writeConfig("hypervisor", {
      swarm: LAB_SWARM,
      vip: LAB_VIP,
      swarmPublicKey: key.publicKey,
      keySecret: key.secret,
      clients,
      sessionsPerClient: Math.ceil(sessions / clients),
      ipv6ClientShare: IPV6_CLIENT_SHARE,
      packetsPerSecond,
      tcpBytesPerSecond,
      ...(spareSessions === undefined ? {} : { spareSessions }),
      ...(packetAllowancePerSecond === undefined ? {} : { packetAllowancePerSecond }),
      ...(image === undefined ? {} : { hypervisor: "qemu", image }),
      reflexConfigFile,
      socketPath: sockets.hypervisor,
      agentSocketDir: join(paths.run, "agents"),
      reflexSocket: sockets.reflex,
      collectorSocket: sockets.collector,
      ...this.#secured("hypervisor"),
      clientsVault: this.#vault("clients"),
      outsideEventsFile: this.#file(OUTSIDE_EVENTS),
      stateDir: this.#fleetDir,
      logDir: paths.log,
    });
    const [command, ...args] = labCommand({
      node: process.execPath,
      configFile,
      uid: process.getuid?.() ?? 0,
      goesOn: image !== undefined,
    });
    await this.#run("hypervisor", command, args, "SIGKILL", { path: sockets.hypervisor });
  }

  async #runCodec(listen: { host: string; port: number }, ui: string): Promise<void> {
    const { databaseUrl } = this.connection;
    const tokenFile = this.#file("operator-token");
    const config = await codecConfig({ ...listen, ui, databaseUrl, payloads: this.#payloads("codec"), tokenFile });
    const args = [join(this.#options.paths.project, "workers", "codec.ts"), await this.#writeConfig("codec", config)];
    await this.#run("codec", process.execPath, args, "SIGTERM", listen);
  }

  async #runWorker(name: "collector" | "control" | "trainer", config: object): Promise<void> {
    const configFile = await this.#writeConfig(name, config);
    await this.#run(
      name,
      process.execPath,
      [join(this.#options.paths.project, "workers", `${name}.ts`), configFile],
      "SIGTERM",
      { path: this.connection.sockets[name] },
    );
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

  #controlConfig(): object {
    const { temporalAddress, temporalNamespace, databaseUrl, sockets } = this.connection;
    return {
      temporal: { address: temporalAddress, namespace: temporalNamespace },
      databaseUrl,
      ...this.#secured("control"),
      payloads: this.#payloads("control"),
      sockets: {
        reflex: sockets.reflex,
        hypervisor: sockets.hypervisor,
        collector: sockets.collector,
        control: sockets.control,
      },
    };
  }

  #trainerConfig(): object {
    const { temporalAddress, temporalNamespace, databaseUrl, sockets } = this.connection;
    const temporal = { address: temporalAddress, namespace: temporalNamespace };
    return { temporal, databaseUrl, payloads: this.#payloads("trainer"), socketPath: sockets.trainer };
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

  async #writeConfig(name: string, config: object): Promise<string> {
    const file = this.#file(`${name}.json`);
    await writePrivateFile(file, `${JSON.stringify(config, null, 2)}\n`);
    return file;
  }

  get #reflexDir(): string {
    return join(this.#options.paths.home, "reflex");
  }

  get #fleetDir(): string {
    return join(this.#options.paths.home, "fleet");
  }

  #file(name: string): string {
    return join(this.#options.paths.home, "config", name);
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
