/** `foreshift worker`: run the Temporal worker that decides and acts, or with `trainer` the one that trains failure models. */
import { Argument, type Command } from "commander";
import { registerWorker } from "./run-worker.ts";

const FILES = { control: "workers/control.ts", trainer: "workers/trainer.ts" } as const;

export function register(program: Command): void {
  const kind = new Argument("[kind]", "control decides and acts, trainer trains failure models")
    .choices(Object.keys(FILES))
    .default("control");
  registerWorker(program, {
    name: "worker",
    summary: "run a Temporal worker",
    kind,
    file: (chosen) => FILES[chosen as keyof typeof FILES],
  });
}
