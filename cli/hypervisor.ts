/** `foreshift hypervisor`: run endpoints as network namespaces of this machine. */
import type { Command } from "commander";
import { registerWorker } from "./run-worker.ts";

export function register(program: Command): void {
  registerWorker(program, {
    name: "hypervisor",
    summary: "run endpoints as network namespaces of this machine",
    file: "lab/daemon.ts",
  });
}
