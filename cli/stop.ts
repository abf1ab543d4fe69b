/** `foreshift stop`: stop every change that automation makes, at once. Works as long as the database or Temporal can be reached. */
import type { Command } from "commander";
import { throwSwitch } from "./stop-switch.ts";

export function register(program: Command): void {
  program
    .command("stop")
    .description("stop all automation at once; the reflex keeps saving sessions of dead endpoints")
    .requiredOption("-r, --reason <text>", "why, for whoever finds it stopped")
    .option("-s, --swarm <name>", "this swarm alone")
    .option("--json", "print JSON")
    .action((options: { reason: string; swarm?: string }, command: Command) => throwSwitch({ ...options, on: true }, command));
}
