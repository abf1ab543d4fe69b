/**
 * What each process of the lab is told: its configuration, its login at Vault, and where it keeps its certificate and its state. The files
 * are written anew at each start.
 */
import { join } from "node:path";
import type { VaultOptions } from "../drivers/vault/config.ts";
import { EMULATED_LIMITS } from "../models/limits-machines.ts";
import type { Processors } from "../models/patience.ts";
import type { VaultProcess } from "../models/vault-layout.ts";
import type { Connection } from "../setup/connection.ts";
import type { Paths } from "../setup/paths.ts";
import type { OpenBaoService } from "../setup/services.ts";
import { codecConfig } from "./codec.ts";
import { writePrivateFile } from "./files.ts";
import type { LabOptions } from "./lab-options.ts";
import type { Provisioned } from "./provision.ts";
import { LAB_SWARM, LAB_VIP } from "./spec.ts";
import { usualLoad } from "./usual-load.ts";

/** Of the downloads of many sessions, which share what one machine carries beside everything else. */
const TCP_BYTES_PER_SECOND_IN_ALL = 600_000;
/** Some clients come by IPv6, as they do everywhere. */
const IPV6_CLIENT_SHARE = 1 / 3;

const OUTSIDE_EVENTS = "outside-events.json";
/** What is announced in the lab comes true within a minute. */
const OUTSIDE_EVENTS_POLL_MS = 1_000;

/** State that the reflex and the fleet's process find again when they are begun anew. */
export function reflexDir({ home }: Paths): string {
  return join(home, "reflex");
}

export function fleetDir({ home }: Paths): string {
  return join(home, "fleet");
}

export class ProcessConfigs {
  /** Mounts and namespace of the lab's Vault. */
  readonly vaultAccess: Pick<VaultOptions, "mounts" | "namespace">;
  readonly #options: LabOptions;
  readonly #processors: Processors;

  constructor(options: LabOptions, processors: Processors, { mounts, namespace }: OpenBaoService) {
    this.#options = options;
    this.#processors = processors;
    this.vaultAccess = { mounts, ...(namespace === undefined ? {} : { namespace }) };
  }

  /** How a process of the lab reaches Vault; the relay's socket crosses into its network namespace. */
  vault(process: VaultProcess) {
    const auth = { method: "approle", credentialsFile: this.#file(`${process}.approle`) } as const;
    return { ...this.vaultAccess, socketPath: join(this.#options.paths.run, "vault.sock"), auth };
  }

  /** The lab seals what it says to Temporal, as every installation should. */
  payloads(process: VaultProcess) {
    return { mode: "sealed", vault: this.vault(process) } as const;
  }

  /** What makes a process of the lab somebody: its login, and where it keeps its certificate. */
  #secured(process: VaultProcess) {
    const handshakeTimeoutMs = this.#processors === "emulated" ? EMULATED_LIMITS.handshakeTimeoutMs : undefined;
    return { vault: this.vault(process), identity: { dir: this.identityDir(process), handshakeTimeoutMs } };
  }

  identityDir(process: VaultProcess): string {
    return join(this.#options.paths.home, "identity", process);
  }

  get operatorToken(): string {
    return this.#file("operator-token");
  }

  /** Each of these answers the file that it has written. */
  async collector({ databaseUrl, sockets }: Connection): Promise<string> {
    const outsideEvents = { name: LAB_SWARM, file: this.#file(OUTSIDE_EVENTS), pollMs: OUTSIDE_EVENTS_POLL_MS };
    await writePrivateFile(outsideEvents.file, "[]\n");
    return await this.#write("collector", {
      socketPath: sockets.collector,
      databaseUrl,
      outsideEvents,
      ...this.#secured("collector"),
    });
  }

  async #reflex({ sockets }: Connection): Promise<string> {
    return await this.#write("reflex", {
      socketPath: sockets.reflex,
      collectorSocket: sockets.collector,
      ...this.#secured("reflex"),
      stateDir: reflexDir(this.#options.paths),
      edgeDevice: "edge",
      serverDevice: "server",
      routerNetns: "/run/netns/router",
    });
  }

  /** Of the process that holds the fleet's namespaces, and of the reflex that it starts. */
  async fleet(connection: Connection, key: Provisioned): Promise<string> {
    const { paths, clients, sessions, packetsPerSecond, spareSessions, packetAllowancePerSecond, image } = this.#options;
    const share = Math.ceil(TCP_BYTES_PER_SECOND_IN_ALL / sessions);
    const tcpBytesPerSecond = this.#options.tcpBytesPerSecond ?? Math.min(usualLoad(this.#processors).tcpBytesPerSecond, share);
    const { sockets } = connection;
    const reflexConfigFile = await this.#reflex(connection);
    return await this.#write("hypervisor", {
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
      ...(image === undefined ? {} : { hypervisor: "qemu", image, processors: this.#processors }),
      reflexConfigFile,
      socketPath: sockets.hypervisor,
      agentSocketDir: join(paths.run, "agents"),
      reflexSocket: sockets.reflex,
      collectorSocket: sockets.collector,
      ...this.#secured("hypervisor"),
      clientsVault: this.vault("clients"),
      outsideEventsFile: this.#file(OUTSIDE_EVENTS),
      stateDir: fleetDir(paths),
      logDir: paths.log,
    });
  }

  async codec({ databaseUrl }: Connection, listen: { host: string; port: number }, ui: string): Promise<string> {
    const parts = { ...listen, ui, databaseUrl, payloads: this.payloads("codec"), tokenFile: this.operatorToken };
    return await this.#write("codec", await codecConfig(parts));
  }

  async control({ temporalAddress, temporalNamespace, databaseUrl, sockets }: Connection): Promise<string> {
    return await this.#write("control", {
      temporal: { address: temporalAddress, namespace: temporalNamespace },
      databaseUrl,
      ...this.#secured("control"),
      payloads: this.payloads("control"),
      sockets: {
        reflex: sockets.reflex,
        hypervisor: sockets.hypervisor,
        collector: sockets.collector,
        control: sockets.control,
      },
    });
  }

  async trainer({ temporalAddress, temporalNamespace, databaseUrl, sockets }: Connection): Promise<string> {
    const temporal = { address: temporalAddress, namespace: temporalNamespace };
    const parts = { temporal, databaseUrl, payloads: this.payloads("trainer"), socketPath: sockets.trainer };
    return await this.#write("trainer", parts);
  }

  async #write(name: string, config: object): Promise<string> {
    const file = this.#file(`${name}.json`);
    await writePrivateFile(file, `${JSON.stringify(config, null, 2)}\n`);
    return file;
  }

  #file(name: string): string {
    return join(this.#options.paths.home, "config", name);
  }
}
