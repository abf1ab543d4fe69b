/**
 * The trainer: trains failure models anew, away from the worker that decides. `node workers/trainer.ts CONFIG.json` (mode 0600).
 */
import { readConfig } from "./config.ts";
import { runWorker } from "./run-worker.ts";
import { startTrainer, TrainerConfig } from "./trainer/trainer.ts";

await runWorker("trainer", async (log) => startTrainer(await readConfig(process.argv[2], TrainerConfig), log));
