/** `foreshift reflex`: steer, probe and fail over beside the balancer. */
import type { Command } from "commander";
import { registerWorker } from "./run-worker.ts";

export function register(program: Command): void {
  registerWorker(program, {
    name: "reflex",
    summary: "steer, probe and fail over beside the balancer",
    file: "workers/reflex.ts",
  });
}
