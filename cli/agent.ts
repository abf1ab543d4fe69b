/** `foreshift agent`: run an endpoint's WireGuard and tell its sessions. */
import type { Command } from "commander";
import { registerWorker } from "./run-worker.ts";

export function register(program: Command): void {
  registerWorker(program, {
    name: "agent",
    summary: "run an endpoint's WireGuard and tell its sessions",
    file: "workers/agent.ts",
  });
}
