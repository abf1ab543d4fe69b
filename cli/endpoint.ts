/** `foreshift endpoint drain|replace`: ask a swarm to take an endpoint out of service without its clients noticing. */
import type { Command } from "commander";
import type { DrainFinished } from "../models/swarm-messages.ts";
import { me, withTemporal } from "./control.ts";
import { print } from "./output.ts";

interface Options {
  readonly swarm: string;
  readonly wait?: boolean;
}

const FAILED_EXIT_CODE = 1;

export function register(program: Command): void {
  const endpoint = program.command("endpoint").description("drain or replace an endpoint");
  for (const kind of ["drain", "replace"] as const) {
    endpoint
      .command(kind)
      .description(kind === "drain" ? "move its sessions away and end its machine" : "replace its machine by a fresh one")
      .argument("<endpoint>", "its name, e.g. ep-1")
      .requiredOption("-s, --swarm <name>", "the swarm it belongs to")
      .option("-w, --wait", "wait until it is done")
      .option("--json", "print JSON")
      .action((name: string, options: Options, command: Command) => ask(kind, name, options, command));
  }
}

async function ask(kind: "drain" | "replace", endpoint: string, options: Options, command: Command): Promise<void> {
  await withTemporal(async (temporal) => {
    const request = { swarm: options.swarm, endpoint, by: me() };
    const askedAtMs = Date.now();
    const accepted = kind === "drain" ? await temporal.drainEndpoint(request) : await temporal.replaceEndpoint(request);
    if (options.wait !== true) {
      return print(command, accepted, ({ workflowId }) => `Asked for. The run ${workflowId} begins when the budget allows it.`);
    }
    const result = (await temporal.result(accepted.workflowId, askedAtMs)) as DrainFinished;
    print(command, result, ({ text }) => text);
    if (result.outcome !== "replaced") process.exitCode = FAILED_EXIT_CODE;
  });
}
