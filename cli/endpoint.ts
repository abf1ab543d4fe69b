/** `foreshift endpoint drain|replace`: ask a swarm to take an endpoint out of service without its clients noticing. */
import type { Command } from "commander";
import { me, withTemporal } from "./control.ts";
import { followRun } from "./follow-run.ts";
import { print, wantsJson } from "./output.ts";

interface Options {
  readonly swarm: string;
  readonly wait?: boolean;
}

type Kind = "drain" | "replace";

const FAILED_EXIT_CODE = 1;

const EXPLAINED: Readonly<Record<Kind, { summary: string; more: string }>> = {
  drain: {
    summary: "take it out of the swarm: the members that remain take its sessions, its machine ends",
    more: `
Each session goes to its designated shadow while that is a healthy member with room, else to the member with the smallest load. It is
refused when the others could not carry the sessions, or when it is the last one. If the swarm file asks for more endpoints than remain,
one is added as for any that is missing: to shrink a swarm for good, lower endpoints.count as well. A failure on the way puts its weight
back; sessions that have moved stay where they live.`,
  },
  replace: {
    summary: "put a fresh machine in its place: sessions move there, its own machine ends",
    more: `
A ghost is woken, or a machine launched, and probed through its tunnel before any session moves. A failure on the way puts everything back.`,
  },
};

export function register(program: Command): void {
  const endpoint = program.command("endpoint").description("drain or replace an endpoint");
  for (const kind of ["drain", "replace"] as const) {
    endpoint
      .command(kind)
      .description(EXPLAINED[kind].summary)
      .argument("<endpoint>", "its name, e.g. ep-1")
      .requiredOption("-s, --swarm <name>", "the swarm it belongs to")
      .option("-w, --wait", "show its progress until it is done; exit code 1 when it was put back or failed")
      .option("--json", "print JSON")
      .addHelpText("after", EXPLAINED[kind].more)
      .action((name: string, options: Options, command: Command) => ask(kind, name, options, command));
  }
}

async function ask(kind: Kind, endpoint: string, { swarm, wait }: Options, command: Command): Promise<void> {
  await withTemporal(async (temporal) => {
    const request = { swarm, endpoint, by: me() };
    const before = await temporal.lastRun(`drain/${swarm}/${endpoint}`);
    const { workflowId } = kind === "drain" ? await temporal.drainEndpoint(request) : await temporal.replaceEndpoint(request);
    if (wait !== true) {
      return print(command, { workflowId }, () => `Asked for. The run ${workflowId} begins when the budget allows it.`);
    }
    const tell = (line: string) => {
      if (!wantsJson(command)) console.error(line);
    };
    const result = await followRun(temporal, { swarm, endpoint, workflowId, before }, tell);
    print(command, result, ({ text }) => text);
    if (result.outcome !== "replaced" && result.outcome !== "drained") process.exitCode = FAILED_EXIT_CODE;
  });
}
