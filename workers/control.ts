/**
 * The control worker: runs the workflows that decide and the activities that act. `node workers/control.ts CONFIG.json` (mode 0600).
 */
import { readConfig } from "./config.ts";
import { ControlConfig, startControlWorker } from "./control/control-worker.ts";
import { runWorker } from "./run-worker.ts";

await runWorker("control", async (log) => startControlWorker(await readConfig(process.argv[2], ControlConfig), log));
