/** `foreshift resume`: let automation act again. */
import type { Command } from "commander";
import { throwSwitch } from "./stop-switch.ts";

export function register(program: Command): void {
  program
    .command("resume")
    .description("let automation act again; runs that were halted carry on")
    .option("-r, --reason <text>", "why", "it is safe to act again")
    .option("-s, --swarm <name>", "this swarm alone; a switch for all swarms stays on")
    .option("--json", "print JSON")
    .action((options: { reason: string; swarm?: string }, command: Command) => throwSwitch({ ...options, on: false }, command));
}
