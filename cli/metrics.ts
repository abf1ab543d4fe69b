/** `foreshift metrics`: its figures as Prometheus reads them, asked for with the certificate that it wants. */
import { type Command, Option } from "commander";
import { NO_RETRY, UnixHttpClient } from "../drivers/http-unix.ts";
import { dialProcess } from "../drivers/identity/dial.ts";
import { operatorIdentity } from "../lab/operator.ts";
import { LIMITS } from "../models/limits.ts";
import { localProcesses } from "../setup/connection.ts";

export function register(program: Command): void {
  program
    .command("metrics")
    .description("print the figures of the balancer's reflex or the collector, for a person or for Prometheus")
    .addOption(new Option("--of <process>", "whose").choices(["reflex", "collector"]).default("collector"))
    .action(async ({ of }: { of: "reflex" | "collector" }) => {
      process.stdout.write(await metricsOf(of));
    });
}

async function metricsOf(name: "reflex" | "collector"): Promise<string> {
  const where = await localProcesses();
  const identity = await operatorIdentity(where);
  const dial = identity === undefined ? {} : { dial: dialProcess(identity, name) };
  const http = new UnixHttpClient({ socketPath: where.sockets[name], name, ...dial });
  try {
    const { text } = await http.exchange("GET", "/metrics", { timeoutMs: LIMITS.http.requestTimeoutMs, retry: NO_RETRY });
    return text;
  } finally {
    await http.close();
    await identity?.close();
  }
}
