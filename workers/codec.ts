/** The codec server: opens sealed payloads for the people who are let in, beside Temporal's Web UI. */
import { CodecConfig, startCodecServer } from "./codec/codec-server.ts";
import { readConfig } from "./config.ts";
import { runWorker } from "./run-worker.ts";

await runWorker("codec", async (log) => startCodecServer(await readConfig(process.argv[2], CodecConfig), log));
