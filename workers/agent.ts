/**
 * The agent of one endpoint, in the endpoint's network namespace: runs its WireGuard, tells its sessions and its vitals, and takes
 * sessions over when asked. Killed, it leaves the data path as it is; started again, it takes it up where it stands.
 */
import type { Logger } from "pino";
import { UnixHttpClient } from "../drivers/http-unix.ts";
import { dialProcess } from "../drivers/identity/dial.ts";
import type { ProcessIdentity } from "../drivers/identity/process-identity.ts";
import { openVault, type Vault } from "../drivers/vault/vault.ts";
import { agentIdentity, type Identity } from "../models/identity.ts";
import { Agent } from "./agent/agent.ts";
import { agentRoutes } from "./agent/api.ts";
import { AgentConfig } from "./agent/config.ts";
import { readConfig } from "./config.ts";
import { serve } from "./http-server.ts";
import { identify } from "./identify.ts";
import { runWorker } from "./run-worker.ts";
import { DoorCounts } from "./tls-gate.ts";

await runWorker("agent", async (log) => {
  const config = await readConfig(process.argv[2], AgentConfig);
  const named = log.child({ swarm: config.swarm, endpoint: config.endpoint });
  const secrets = openVault(config.vault);
  const identity = await identityOf(config, secrets, named);
  const to = (name: "reflex" | "collector", socketPath: string) =>
    new UnixHttpClient({ socketPath, name, ...(identity === undefined ? {} : { dial: dialProcess(identity, name) }) });
  const reflex = to("reflex", config.reflexSocket);
  const collector = to("collector", config.collectorSocket);
  const agent = new Agent({ config, reflex, collector, secrets, log: named });
  const served = await serve({
    socketPath: config.socketPath,
    log: named,
    door: identity === undefined ? undefined : { identity, accepts: commands, counts: new DoorCounts() },
    routes: (app) => agentRoutes(app, agent.api()),
  });
  agent.start();
  return async () => {
    await served.close();
    await agent.stop();
    await Promise.all([reflex.close(), collector.close(), identity?.close()]);
    await secrets.close();
  };
});

async function identityOf(config: AgentConfig, { pki }: Vault, log: Logger): Promise<ProcessIdentity | undefined> {
  const { identity, swarm, endpoint, collectorSocket } = config;
  if (identity === undefined) return undefined;
  return await identify({ uri: agentIdentity(swarm, endpoint), config: identity, pki, collector: collectorSocket, log });
}

/** Who may ask an agent to take sessions over: the balancer, the control plane, what launched the machine, and a person's tools. */
function commands(_: string, peer: Identity): boolean {
  return peer.kind === "process" && ["reflex", "control", "hypervisor", "operator"].includes(peer.process);
}
