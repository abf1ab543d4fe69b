/**
 * The collector: takes heartbeats and session deltas from the agents, keeps them in PostgreSQL, and streams every session to every
 * endpoint that may have to take it over.
 */
import { CollectorConfig, startCollector } from "./collector/collector.ts";
import { readConfig } from "./config.ts";
import { runWorker } from "./run-worker.ts";

await runWorker("collector", async (log) => startCollector(await readConfig(process.argv[2], CollectorConfig), log));
