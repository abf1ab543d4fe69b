/**
 * What `foreshift worker|collector|reflex|agent|hypervisor` share: run the process in the foreground, pass signals and its exit code on.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import type { Argument, Command } from "commander";

export interface WorkerCommand {
  readonly name: string;
  readonly summary: string;
  /** Below the checkout; by what the argument says, where there is one. */
  readonly file: string | ((kind: string) => string);
  readonly kind?: Argument;
}

const SIGNALS = ["SIGINT", "SIGTERM"] as const;
const EXIT_CODE_KILLED = 137;

export function registerWorker(program: Command, worker: WorkerCommand): void {
  const command = program
    .command(worker.name)
    .description(worker.summary)
    .requiredOption("-c, --config <file>", "its configuration: a JSON file that only its owner may read (docs/operations.md)");
  if (worker.kind !== undefined) command.addArgument(worker.kind);
  command.action(async () => {
    const { config } = command.opts<{ config: string }>();
    const [kind = ""] = command.processedArgs as string[];
    const file = typeof worker.file === "string" ? worker.file : worker.file(kind);
    process.exitCode = await run(join(import.meta.dirname, "..", file), config);
  });
}

function run(file: string, config: string): Promise<number> {
  const child = spawn(process.execPath, [file, config], { stdio: "inherit" });
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  for (const signal of SIGNALS) process.on(signal, pass);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? EXIT_CODE_KILLED));
  });
}
