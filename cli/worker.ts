/** `foreshift worker`: run the Temporal worker that decides and acts. */
import type { Command } from "commander";
import { registerWorker } from "./run-worker.ts";

export function register(program: Command): void {
  registerWorker(program, {
    name: "worker",
    summary: "run the Temporal worker that decides and acts",
    file: "workers/control.ts",
  });
}
