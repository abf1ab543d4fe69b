/**
 * The `foreshift` command: finds the command's file, loads only that one, and prints every error the same way.
 */
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { type ErrorBody, ForeshiftError, messageOf } from "../models/errors.ts";
import { keepMemoryPrivate } from "../workers/keep-private.ts";

interface CommandFile {
  /** Adds the command to the program. */
  register(program: Command): void;
}

interface CommandEntry {
  readonly summary: string;
  readonly load: () => Promise<CommandFile>;
}

const COMMANDS: Readonly<Record<string, CommandEntry>> = {
  lab: { summary: "run a swarm with real WireGuard in network namespaces", load: () => import("./lab.ts") },
  swarm: { summary: "apply, get and list swarms, and read their events", load: () => import("./swarm.ts") },
  plan: { summary: "what a swarm file would do and cost, before it is applied", load: () => import("./plan.ts") },
  endpoint: { summary: "drain or replace an endpoint", load: () => import("./endpoint.ts") },
  keys: { summary: "rotate keys, revoke a client, see how far it is", load: () => import("./keys.ts") },
  audit: { summary: "explain what was done, and why", load: () => import("./audit.ts") },
  explain: { summary: "why the last decision about an endpoint was what it was", load: () => import("./explain.ts") },
  metrics: { summary: "print the figures of the balancer or the collector", load: () => import("./metrics.ts") },
  history: { summary: "print a run's history with its payloads opened", load: () => import("./history.ts") },
  ui: { summary: "print the way into Temporal's Web UI", load: () => import("./ui.ts") },
  stop: { summary: "stop all automation at once", load: () => import("./stop.ts") },
  resume: { summary: "let automation act again", load: () => import("./resume.ts") },
  address: { summary: "move an address from one EC2 instance to another", load: () => import("./address.ts") },
  doctor: { summary: "say what is found, what is missing and what to do", load: () => import("./doctor.ts") },
  worker: { summary: "run the control worker", load: () => import("./worker.ts") },
  codec: { summary: "run the codec server of Temporal's Web UI", load: () => import("./codec.ts") },
  collector: { summary: "run the collector of heartbeats and sessions", load: () => import("./collector.ts") },
  reflex: { summary: "run the balancer's reflex", load: () => import("./reflex.ts") },
  agent: { summary: "run the agent of an endpoint", load: () => import("./agent.ts") },
  hypervisor: { summary: "run the hypervisor of network namespaces", load: () => import("./hypervisor.ts") },
  image: { summary: "build and verify the image of virtual machines", load: () => import("./image.ts") },
  backtest: { summary: "try the models on recorded data", load: () => import("./backtest.ts") },
  models: { summary: "list, show, promote and roll back trained models", load: () => import("./models.ts") },
  ipsec: { summary: "list this host's IPsec sessions", load: () => import("./ipsec.ts") },
  bench: { summary: "measure what Foreshift promises", load: () => import("./bench.ts") },
};

const USAGE_EXIT_CODE = 64;

async function main(args: readonly string[]): Promise<void> {
  const program = new Command("foreshift")
    .description("Moves live VPN sessions off a failing gateway before its users feel it.")
    .version(version(), "--version", "print the version")
    .option("--json", "print JSON, errors included")
    .showHelpAfterError(false)
    .exitOverride()
    // Errors are printed once, below.
    .configureOutput({ outputError: () => undefined })
    .helpCommand("help [command]", "explain a command");
  const named = args.find((arg) => !arg.startsWith("-"));
  const wanted = named === "help" ? args[args.indexOf(named) + 1] : named;
  for (const [name, entry] of Object.entries(COMMANDS)) {
    if (name === wanted) (await entry.load()).register(program);
    else program.command(name).description(entry.summary);
  }
  if (args.length === 0) program.help();
  try {
    await program.parseAsync(args, { from: "user" });
  } catch (thrown) {
    throw thrown instanceof CommanderError && thrown.exitCode !== 0 ? new UsageError(thrown, helpFor(program, args)) : thrown;
  }
}

/** What a person wrote is no command, or lacks something. */
class UsageError extends Error {
  /** The command whose help says what is. */
  readonly help: string;

  constructor(cause: CommanderError, help: string) {
    super(cause.message, { cause });
    this.help = help;
  }
}

/** Of the innermost command that was named. */
function helpFor(program: Command, args: readonly string[]): string {
  let command = program;
  const names = ["foreshift"];
  for (const arg of args) {
    const inner = command.commands.find((one) => one.name() === arg);
    if (inner === undefined) continue;
    command = inner;
    names.push(arg);
  }
  return [...names, "--help"].join(" ");
}

function version(): string {
  const manifest: { version: string } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  return manifest.version;
}

function report(thrown: unknown, json: boolean): number {
  if (thrown instanceof CommanderError && thrown.exitCode === 0) return 0;
  if (process.env.FORESHIFT_DEBUG !== undefined) console.error(thrown);
  const { body, exitCode } = describe(thrown);
  if (json) console.error(JSON.stringify({ error: body }));
  else console.error(`${body.message}\n  ${body.remedy}`);
  return exitCode;
}

function describe(thrown: unknown): { body: Omit<ErrorBody, "code"> & { code: string }; exitCode: number } {
  if (thrown instanceof ForeshiftError) return { body: thrown.toBody(), exitCode: thrown.exitCode };
  if (thrown instanceof UsageError) return { body: usageError(thrown), exitCode: USAGE_EXIT_CODE };
  const internal = new ForeshiftError("INTERNAL", { detail: firstLine(messageOf(thrown)) });
  return { body: internal.toBody(), exitCode: internal.exitCode };
}

function usageError(error: UsageError): { code: string; message: string; remedy: string } {
  const [first = "", guess] = error.message.replace(/^error: /, "").split("\n");
  const help = `\`${error.help}\` says what can be written there.`;
  const message = first.startsWith("(") || first === "" ? "A command is missing" : first;
  return {
    code: "USAGE",
    message: message.charAt(0).toUpperCase() + message.slice(1),
    remedy: guess === undefined ? help : `${guess.replace(/[()]/g, "")} ${help}`,
  };
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? text;
}

/** A reader that went away (`foreshift … | head`) is no error. */
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

// Payloads are opened here, and a lab's processes are begun from here. Where it cannot be had the workers say so.
keepMemoryPrivate();
const args = process.argv.slice(2);
const beforeSeparator = args.includes("--") ? args.slice(0, args.indexOf("--")) : args;
try {
  await main(args);
} catch (thrown) {
  process.exitCode = report(thrown, beforeSeparator.includes("--json"));
}
