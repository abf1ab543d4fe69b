/**
 * The control worker: what workflows and activities stand on, put together; and a socket that says how it is.
 */
import { readFile } from "node:fs/promises";
import type { NativeConnectionOptions } from "@temporalio/worker";
import type { Logger } from "pino";
import { z } from "zod";
import { createActivities } from "../../activities/index.ts";
import { createStopGuard } from "../../activities/stop-guard.ts";
import { reflexClient } from "../../drivers/balancer/reflex-client.ts";
import type { Dial } from "../../drivers/http-unix.ts";
import { IdentityConfig } from "../../drivers/identity/config.ts";
import { dialAgent, dialProcess } from "../../drivers/identity/dial.ts";
import { ownHolder, remoteHolder } from "../../drivers/identity/holders.ts";
import type { ProcessIdentity } from "../../drivers/identity/process-identity.ts";
import type { CertificateHolders } from "../../drivers/key-ports.ts";
import type { EndpointAgent } from "../../drivers/ports.ts";
import { labProvisioner } from "../../drivers/provisioner/lab.ts";
import { collectorClient } from "../../drivers/store/collector-client.ts";
import { openDataKeyRegistry } from "../../drivers/store/data-keys.ts";
import { openModelStore } from "../../drivers/store/models.ts";
import { openStore } from "../../drivers/store/store.ts";
import { followTelemetryNews } from "../../drivers/store/telemetry-news.ts";
import { openPayloadSealing } from "../../drivers/temporal-codec/codec.ts";
import { PayloadPolicy } from "../../drivers/temporal-codec/policy.ts";
import { swarmSchedules } from "../../drivers/temporal-schedules.ts";
import { agentClient } from "../../drivers/tunnel/agent-client.ts";
import { agentLogins } from "../../drivers/vault/approles.ts";
import { VaultConfig } from "../../drivers/vault/config.ts";
import { keyVault, noAgentLogins, noCertificates, noKeyVault } from "../../drivers/vault/key-versions.ts";
import { noPayloadKeys, payloadKeys } from "../../drivers/vault/payload-keys.ts";
import { openTransit } from "../../drivers/vault/transit.ts";
import { openVault, type Vault } from "../../drivers/vault/vault.ts";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import type { MemberLink } from "../../models/steering.ts";
import type { VaultProcess } from "../../models/vault-layout.ts";
import { serve } from "../http-server.ts";
import { secure } from "../identify.ts";
import { METRICS_TYPE } from "../prometheus.ts";
import { forecastMetrics } from "./forecast-metrics.ts";
import { registerSearchAttributes } from "./search-attributes.ts";
import { openSurroundings, SURROUNDINGS } from "./surroundings.ts";
import { startWorkerSet } from "./worker-set.ts";

export const ControlConfig = z.strictObject({
  temporal: z.strictObject({
    address: z.string().min(1),
    namespace: z.string().min(1).default("default"),
    tls: z
      .strictObject({
        serverName: z.string().optional(),
        caFile: z.string().optional(),
        /** Client certificate and key, for mutual TLS. */
        certFile: z.string().optional(),
        keyFile: z.string().optional(),
      })
      .optional(),
    /** File that holds the API key, mode 0600. */
    apiKeyFile: z.string().optional(),
  }),
  databaseUrl: z.string().min(1),
  /** Mutual TLS with balancer, collector and agents; absent: unix sockets that their owner alone can reach. */
  identity: IdentityConfig.optional(),
  /** Where keys are rotated; absent: nothing is. */
  vault: VaultConfig.optional(),
  ...SURROUNDINGS,
  /** Stated, whichever it is: plain payloads can be read by everybody who reads Temporal. */
  payloads: PayloadPolicy,
  sockets: z.strictObject({
    reflex: z.string().min(1),
    hypervisor: z.string().min(1),
    collector: z.string().min(1),
    /** Its own: `GET /v1/status`, `GET /metrics`. */
    control: z.string().min(1),
  }),
});
export type ControlConfig = z.infer<typeof ControlConfig>;

/** Starts it; what it answers ends it. Servers that are away are awaited, not given up on. */
export async function startControlWorker(config: ControlConfig, log: Logger): Promise<() => Promise<void>> {
  const connection = await connectionOptions(config.temporal);
  const secured =
    config.identity === undefined
      ? undefined
      : await secure({ name: "control", config, log, collector: config.sockets.collector });
  const identity = secured?.identity;
  const dialTo = (process: VaultProcess) => (identity === undefined ? undefined : dialProcess(identity, process));
  const store = openStore({ databaseUrl: config.databaseUrl });
  const models = openModelStore({ databaseUrl: config.databaseUrl });
  const reflex = reflexClient({ socketPath: config.sockets.reflex, dial: dialTo("reflex") });
  const { hypervisor, balancer, ...surroundings } = await openSurroundings(config, reflex);
  const telemetry = collectorClient({ socketPath: config.sockets.collector, dial: dialTo("collector") });
  const agents = agentPool(identity);
  const holders = certificateHolders(identity, config);
  const secrets = secured?.vault ?? (config.vault === undefined ? undefined : openVault(config.vault));
  const keys = keyPorts(secrets, config);
  const news = followTelemetryNews({
    databaseUrl: config.databaseUrl,
    onBreak: (thrown) => log.warn({ event: "telemetry-news-broken", detail: messageOf(thrown) }),
  });
  const stopGuard = createStopGuard(store);
  const telemetryNews = (swarm: string) => news.countOf(swarm);
  const { namespace } = config.temporal;
  const sealing = openPayloadSealing(config.payloads, {
    databaseUrl: config.databaseUrl,
    onTrouble: (detail) => log.warn({ event: "data-key-not-refreshed", detail }),
  });
  const keepSchedules = swarmSchedules({ connection, namespace, sealing }, store).keep;
  const activities = createActivities({
    store,
    models,
    balancer,
    hypervisor,
    telemetry,
    agentOf: agents.of,
    holders: holders.holders,
    stopGuard,
    telemetryNews,
    keepSchedules,
    ...keys.ports,
  });
  const prepare = () => registerSearchAttributes(connection, namespace, log);
  const workers = await startWorkerSet({ connection, namespace, activities, sealing, log, prepare });
  const served = await serve({
    socketPath: config.sockets.control,
    log,
    routes: (app) => {
      app.get("/v1/status", () => workers.status());
      app.get("/metrics", async (_, reply) => reply.type(METRICS_TYPE).send(await forecastMetrics(store, Date.now())));
    },
  });
  return async () => {
    await served.close();
    await workers.stop();
    const opened = [sealing, news, agents, holders, reflex, surroundings, telemetry, models, store];
    await Promise.all(opened.map((one) => one.close()));
    await keys.close();
    if (secured === undefined) await secrets?.close();
    await secured?.close();
  };
}

/** What rotations and revocations stand on; without a Vault they are refused. */
function keyPorts(secrets: Vault | undefined, { databaseUrl, payloads, sockets }: ControlConfig) {
  const provisioner = labProvisioner({ socketPath: sockets.hypervisor });
  const registry = openDataKeyRegistry({ databaseUrl });
  const sealed = secrets === undefined || payloads.mode === "plain" ? undefined : { calls: secrets.calls, policy: payloads };
  const transitOf = ({ calls, policy }: NonNullable<typeof sealed>) =>
    openTransit(calls, { mount: policy.vault.mounts.transit, key: policy.key });
  return {
    ports: {
      keyVault: secrets === undefined ? noKeyVault : keyVault(secrets.kv),
      certificates: secrets === undefined ? noCertificates : secrets.pki,
      agentLogins: secrets === undefined ? noAgentLogins : agentLogins(secrets.appRoles),
      payloadKeys: sealed === undefined ? noPayloadKeys : payloadKeys(transitOf(sealed), registry),
      provisioner,
    },
    close: () => Promise.all([provisioner.close(), registry.close()]),
  };
}

/** Whose certificates a rotation replaces. An agent's client lives as long as this worker: endpoints are few. */
function certificateHolders(identity: ProcessIdentity | undefined, { hypervisor, sockets }: ControlConfig) {
  const remote = new Map<string, ReturnType<typeof remoteHolder>>();
  const holderAt = (name: string, where: string, dial: Dial | undefined) => {
    const key = `${name} ${where}`;
    const holder = remote.get(key) ?? remoteHolder({ name, where, dial });
    remote.set(key, holder);
    return holder;
  };
  const processes =
    identity === undefined
      ? []
      : [
          // One of a cloud is somebody else's process.
          ...(hypervisor === undefined ? [holderAt("hypervisor", sockets.hypervisor, undefined)] : []),
          holderAt("reflex", sockets.reflex, dialProcess(identity, "reflex")),
          holderAt("collector", sockets.collector, dialProcess(identity, "collector")),
          ownHolder("control", identity),
        ];
  const holders: CertificateHolders = {
    processes,
    agent: ({ agent }, endpoint) =>
      holderAt(endpoint, agent, identity === undefined ? undefined : dialAgent(identity, endpoint)),
  };
  return { holders, close: () => Promise.all([...remote.values()].map((holder) => holder.close())) };
}

/** One client for each agent's socket; its connections close by themselves when they are idle. */
function agentPool(identity: ProcessIdentity | undefined): {
  of: (link: MemberLink, endpoint?: string) => EndpointAgent;
  close: () => Promise<void>;
} {
  const clients = new Map<string, ReturnType<typeof agentClient>>();
  return {
    of: ({ agent: socketPath }, endpoint) => {
      const dial = identity === undefined ? undefined : dialAgent(identity, endpoint);
      const key = `${endpoint} ${socketPath}`;
      const client = clients.get(key) ?? agentClient({ socketPath, dial });
      clients.set(key, client);
      return client;
    },
    close: async () => {
      await Promise.all([...clients.values()].map((client) => client.close()));
    },
  };
}

export async function connectionOptions(temporal: ControlConfig["temporal"]): Promise<NativeConnectionOptions> {
  const { address, apiKeyFile, tls } = temporal;
  const apiKey = apiKeyFile === undefined ? undefined : (await readSecret("temporal.apiKeyFile", apiKeyFile)).toString().trim();
  if (tls === undefined) return { address, ...(apiKey === undefined ? {} : { apiKey, tls: true }) };
  const ca = tls.caFile === undefined ? undefined : await readSecret("temporal.tls.caFile", tls.caFile);
  const pair =
    tls.certFile === undefined || tls.keyFile === undefined
      ? undefined
      : {
          crt: await readSecret("temporal.tls.certFile", tls.certFile),
          key: await readSecret("temporal.tls.keyFile", tls.keyFile),
        };
  return {
    address,
    ...(apiKey === undefined ? {} : { apiKey }),
    tls: {
      ...(tls.serverName === undefined ? {} : { serverNameOverride: tls.serverName }),
      ...(ca === undefined ? {} : { serverRootCACertificate: ca }),
      ...(pair === undefined ? {} : { clientCertPair: pair }),
    },
  };
}

async function readSecret(field: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (thrown) {
    throw new ForeshiftError("INVALID_FIELD", { field, value: path, detail: messageOf(thrown) });
  }
}
