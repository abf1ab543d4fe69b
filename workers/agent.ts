/**
 * The agent of one endpoint, in the endpoint's network namespace: runs its WireGuard, tells its sessions and its vitals, and takes
 * sessions over when asked. Killed, it leaves the data path as it is; started again, it takes it up where it stands.
 */
import { UnixHttpClient } from "../drivers/http-unix.ts";
import { openVault } from "../drivers/vault/vault.ts";
import { Agent } from "./agent/agent.ts";
import { agentRoutes } from "./agent/api.ts";
import { AgentConfig } from "./agent/config.ts";
import { readConfig } from "./config.ts";
import { serve } from "./http-server.ts";
import { runWorker } from "./run-worker.ts";

await runWorker("agent", async (log) => {
  const config = await readConfig(process.argv[2], AgentConfig);
  const named = log.child({ swarm: config.swarm, endpoint: config.endpoint });
  const reflex = new UnixHttpClient({ socketPath: config.reflexSocket, name: "reflex" });
  const collector = new UnixHttpClient({ socketPath: config.collectorSocket, name: "collector" });
  const secrets = openVault(config.vault);
  const agent = new Agent({ config, reflex, collector, secrets, log: named });
  const served = await serve({ socketPath: config.socketPath, log: named, routes: (app) => agentRoutes(app, agent.api()) });
  agent.start();
  return async () => {
    await served.close();
    await agent.stop();
    await Promise.all([reflex.close(), collector.close(), secrets.close()]);
  };
});
