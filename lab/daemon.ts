/**
 * The lab's process: builds the fleet's network in the namespaces that it was started in, is its hypervisor, and serves both as an
 * API. It is started by the command of enclosure.ts; with its end everything it made is gone.
 */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Logger } from "pino";
import type { ProcessIdentity } from "../drivers/identity/process-identity.ts";
import { raiseSession } from "../drivers/priority.ts";
import { openVault, type Vault } from "../drivers/vault/vault.ts";
import { processIdentity } from "../models/identity.ts";
import { REGION_DEFAULT } from "../models/outside-events.ts";
import { readConfig } from "../workers/config.ts";
import { serve } from "../workers/http-server.ts";
import { identify } from "../workers/identify.ts";
import { keepToken } from "../workers/keep-token.ts";
import { runWorker } from "../workers/run-worker.ts";
import { removeCgroups } from "./cgroups.ts";
import { ClientKeys } from "./client-keys.ts";
import { Clients } from "./clients.ts";
import { LabConfig } from "./config.ts";
import { Faults } from "./faults.ts";
import { Growth } from "./growth.ts";
import { Journal } from "./journal.ts";
import { KeptProcess } from "./kept-process.ts";
import { Machines, machinesDir } from "./machines.ts";
import { endProcesses, letTakeOver, movesPackets, prepareRun, takeOver } from "./namespace.ts";
import { OutsideFeedFile } from "./outside-feed-file.ts";
import { labRoutes } from "./routes.ts";
import { buildBackbone } from "./topology.ts";
import { Traffic } from "./traffic.ts";

const REFLEX = fileURLToPath(new URL("../workers/reflex.ts", import.meta.url));

await runWorker("lab", async (log) => {
  // The fleet is many machines; the controllers that share this one with it must not slow them all down at once.
  raiseSession("self");
  const config = await readConfig(process.argv[2], LabConfig);
  const startedAtMs = performance.now();
  await Promise.all(
    [config.stateDir, config.logDir, config.agentSocketDir].map((dir) => mkdir(dir, { recursive: true, mode: 0o700 })),
  );
  const takesOver = takeOver();
  if (!takesOver) await buildAnew(config);
  const clients = await buildClients(config, takesOver);
  const reflex = startReflex(config);
  const feed = new OutsideFeedFile({ file: config.outsideEventsFile, region: REGION_DEFAULT });
  await feed.write();
  const journal = new Journal(join(config.stateDir, "journal.ndjson"));
  const vault = openVault(config.vault);
  const keeping = new AbortController();
  const kept = keepToken(vault, log, keeping.signal);
  const identity = await ownIdentity(config, vault, log);
  const machines: Machines = new Machines({
    config,
    journal,
    appRoles: vault.appRoles,
    identity,
    log,
    onGone: (name) => faults.gone(name),
    onRepaired: (name) => faults.repaired(name),
  });
  const faults = new Faults({ machines, feed, log });
  if (takesOver) await machines.adopt();
  else await bootFirst(config, machines);
  const traffic = startTraffic(config, clients, log);
  const growth = new Growth({ clients, traffic, machines, swarm: config.swarm, log });
  const secrets = config.clientsVault === undefined ? undefined : openVault(config.clientsVault);
  const refused = (detail: string) => log.warn({ event: "client-key-refused", detail });
  const clientKeys = new ClientKeys({ clients, secrets: (secrets ?? vault).kv, log: refused });
  const served = await serve({
    socketPath: config.socketPath,
    log,
    identity,
    routes: (app) => labRoutes(app, { config, clients, machines, faults, growth, clientKeys, traffic, journal }),
  });
  if (config.hypervisor === "qemu") letTakeOver();
  log.info({ event: "lab-up", tookMs: Math.round(performance.now() - startedAtMs), clients: clients.list.length });
  return async () => {
    await served.close();
    await secrets?.close();
    reflex?.kill();
    await endMachines(config, machines, log);
    journal.close();
    keeping.abort();
    await Promise.all([kept, identity?.close()]);
    await vault.close();
  };
});

async function ownIdentity(config: LabConfig, { pki }: Vault, log: Logger): Promise<ProcessIdentity | undefined> {
  const { identity, collectorSocket: collector } = config;
  if (identity === undefined) return undefined;
  return await identify({ uri: processIdentity("hypervisor"), config: identity, pki, collector, log });
}

async function buildAnew(config: LabConfig): Promise<void> {
  await removeCgroups(config.stateDir);
  // Of machines that ended with the lab before.
  await rm(machinesDir(config), { recursive: true, force: true });
  await prepareRun();
  await buildBackbone(config.vip);
}

/** Tunnels stay when hosts are taken over; programs that count and steer are begun anew. */
async function buildClients(config: LabConfig, takesOver: boolean): Promise<Clients> {
  const clients = new Clients({
    vip: config.vip,
    swarmPublicKey: config.swarmPublicKey,
    sessions: config.clients * config.sessionsPerClient,
    sessionsPerHost: config.sessionsPerClient,
    spareSessions: config.spareSessions,
    ipv6Share: config.ipv6ClientShare,
  });
  if (!takesOver) {
    await clients.build();
    return clients;
  }
  for (const host of ["lb", "server", ...clients.hosts]) await endProcesses(host, (found) => !movesPackets(found));
  await clients.adopt();
  return clients;
}

function startReflex(config: LabConfig): KeptProcess | undefined {
  if (config.reflexConfigFile === undefined) return undefined;
  const program = [process.execPath, REFLEX, config.reflexConfigFile];
  return new KeptProcess({ host: "lb", program, logFile: join(config.logDir, "reflex.log") });
}

function startTraffic(config: LabConfig, clients: Clients, log: Logger): Traffic {
  const { packetsPerSecond, tcpBytesPerSecond, logDir } = config;
  const spare = clients.spare === undefined ? [] : [clients.spare];
  return new Traffic({ clients: clients.list, spare, packetsPerSecond, tcpBytesPerSecond, logDir, log });
}

/** The machines that the configuration asks for; the keys name this start of the lab, whose machines are all new. */
async function bootFirst(config: LabConfig, machines: Machines): Promise<void> {
  const start = `lab/${config.swarm}/${Date.now()}`;
  const launch = (suspended: boolean) => (_: unknown, at: number) =>
    machines.launch({ operation: `${start}/${suspended ? "ghost" : "endpoint"}/${at}`, swarm: config.swarm, suspended });
  await Promise.all(Array.from({ length: config.endpoints }, launch(false)));
  await Promise.all(Array.from({ length: config.ghosts }, launch(true)));
}

async function endMachines(config: LabConfig, machines: Machines, log: Logger): Promise<void> {
  for (const { name } of machines.list(config.swarm)) {
    await machines.terminate({ operation: `lab/${config.swarm}/stop/${name}/${Date.now()}`, name });
  }
  log.info({ event: "lab-down" });
}
