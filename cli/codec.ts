/** `foreshift codec`: run the codec server of Temporal's Web UI. */
import type { Command } from "commander";
import { registerWorker } from "./run-worker.ts";

export function register(program: Command): void {
  registerWorker(program, {
    name: "codec",
    summary: "run the codec server of Temporal's Web UI",
    file: "workers/codec.ts",
  });
}
