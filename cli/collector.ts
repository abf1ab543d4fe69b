/** `foreshift collector`: take heartbeats and sessions in, and replicate them. */
import type { Command } from "commander";
import { registerWorker } from "./run-worker.ts";

export function register(program: Command): void {
  registerWorker(program, {
    name: "collector",
    summary: "take heartbeats and sessions in, and replicate them",
    file: "workers/collector.ts",
  });
}
