/** The reflex's process: `node workers/reflex.ts <config.json>`, in the network namespace of the balancer. */
import type { Logger } from "pino";
import { takeDataPathPriority } from "../drivers/priority.ts";
import { readConfig } from "./config.ts";
import { serve } from "./http-server.ts";
import { type Secured, secure } from "./identify.ts";
import { reflexRoutes } from "./reflex/api.ts";
import { ReflexConfig } from "./reflex/config.ts";
import { Reflex } from "./reflex/reflex.ts";
import { runWorker } from "./run-worker.ts";
import { DoorCounts } from "./tls-gate.ts";

await runWorker("reflex", async (log) => {
  // A prober that waits for its turn takes an endpoint's answer for late.
  takeDataPathPriority();
  const config = await readConfig(process.argv[2], ReflexConfig);
  const secured = await securedBy(config, log);
  const reflex = new Reflex(config, log, secured?.identity);
  await reflex.load();
  // First the socket, which only one reflex can have; then the packet path.
  const served = await serve({
    socketPath: config.socketPath,
    log,
    door: secured === undefined ? undefined : { identity: secured.identity, accepts: () => true, counts: new DoorCounts() },
    routes: (app) => reflexRoutes(app, reflex),
  });
  await reflex.start();
  return async () => {
    await served.close();
    await reflex.stop();
    await secured?.close();
  };
});

/** With a certificate of a life before it waits for nobody: the reflex starts without Vault. */
async function securedBy(config: ReflexConfig, log: Logger): Promise<Secured | undefined> {
  const { identity, collectorSocket } = config;
  if (identity === undefined) return undefined;
  return await secure({
    name: "reflex",
    config,
    log,
    ...(collectorSocket === undefined ? {} : { collector: collectorSocket }),
  });
}
