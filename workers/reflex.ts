/** The reflex's process: `node workers/reflex.ts <config.json>`, in the network namespace of the balancer. */
import { takeDataPathPriority } from "../drivers/priority.ts";
import { readConfig } from "./config.ts";
import { serve } from "./http-server.ts";
import { reflexRoutes } from "./reflex/api.ts";
import { ReflexConfig } from "./reflex/config.ts";
import { Reflex } from "./reflex/reflex.ts";
import { runWorker } from "./run-worker.ts";

await runWorker("reflex", async (log) => {
  // A prober that waits for its turn takes an endpoint's answer for late.
  takeDataPathPriority();
  const config = await readConfig(process.argv[2], ReflexConfig);
  const reflex = new Reflex(config, log);
  await reflex.load();
  // First the socket, which only one reflex can have; then the packet path.
  const served = await serve({ socketPath: config.socketPath, log, routes: (app) => reflexRoutes(app, reflex) });
  await reflex.start();
  return async () => {
    await served.close();
    await reflex.stop();
  };
});
