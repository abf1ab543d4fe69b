/**
 * `foreshift lab`: a swarm with real WireGuard in network namespaces, to watch and to break.
 */
import type { Command } from "commander";
import { InvalidArgumentError, Option } from "commander";
import { netnsHypervisor } from "../drivers/hypervisor/netns.ts";
import { BUILD_UP_KINDS, FAULT_KINDS, type FaultKind, LabClient } from "../lab/lab-client.ts";
import { LAB_HYPERVISORS } from "../lab/machine-image.ts";
import { type LabUpOptions, labDown, labStatus, labUp } from "../lab/run.ts";
import { usualLoad } from "../lab/usual-load.ts";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { localSockets } from "../setup/connection.ts";
import { paths } from "../setup/paths.ts";
import { print, wantsJson } from "./output.ts";

type LabHypervisorClient = ReturnType<typeof netnsHypervisor>;

const BYTES_PER_MB = 1e6;

export function register(program: Command): void {
  const lab = program
    .command("lab")
    .description("run a swarm with real WireGuard in network namespaces, or in virtual machines");
  lab
    .command("up")
    .description("start the lab; it stays until `foreshift lab down`")
    .option(
      "--clients <n>",
      `clients, each in a namespace of its own (default: ${byProcessors("clients")})`,
      count(1, LIMITS.lab.clientsMax),
    )
    .option(
      "--sessions <n>",
      "sessions in all; more than clients means that clients share namespaces",
      count(1, LIMITS.lab.sessionsMax),
    )
    .option("--endpoints <n>", "endpoints that serve", count(2, LIMITS.lab.endpointsMax), 3)
    .option("--ghosts <n>", "suspended endpoints that wait", count(0, LIMITS.lab.endpointsMax), 1)
    .option(
      "--pps <n>",
      `numbered packets a second, for each client and direction (default: ${byProcessors("packetsPerSecond")})`,
      count(1, LIMITS.lab.packetsPerSecondMax),
    )
    .addOption(new Option("--hypervisor <kind>", "what endpoints are").choices(LAB_HYPERVISORS).default("netns"))
    .option("--foreground", "stay in the foreground until Ctrl-C")
    .option("--story", "tell the default story: a leak foreseen, brownout, crash, freeze")
    .option("--once", "end after the story; exit code 0 only if every promise held")
    .action(async (options: LabUpOptions, command: Command) => {
      process.exitCode = await labUp({ ...options, json: wantsJson(command) });
    });
  registerEnd(lab);
  registerFaults(lab);
}

function byProcessors(what: "clients" | "packetsPerSecond"): string {
  return `${usualLoad("own")[what]}, with emulated processors ${usualLoad("emulated")[what]}`;
}

function registerEnd(lab: Command): void {
  lab
    .command("down")
    .description("end the lab and everything it started")
    .action(async (_: object, command: Command) => print(command, await labDown(), ({ was }) => `The lab was ${was}.`));
  lab
    .command("status")
    .description("processes and addresses of the running lab")
    .action(async (_: object, command: Command) => print(command, await ofLab(labStatus), (status) => status.lines.join("\n")));
}

function registerFaults(lab: Command): void {
  lab
    .command("fault")
    .description(`break an endpoint: ${FAULT_KINDS.join(", ")}`)
    .argument("<kind>", "what happens to it", faultKind)
    .argument("<endpoint>")
    .option("--build-up <seconds>", `until the failure, of ${BUILD_UP_KINDS.join(", ")}`, count(1, LIMITS.lab.faultSecondsMax))
    .action(async (kind: FaultKind, endpoint: string, { buildUp }: { buildUp?: number }, command: Command) => {
      const fault = await withLab((client) => client.inject(kind, endpoint, { buildUpSeconds: buildUp }));
      const fails =
        fault.failsAtMs === undefined ? "" : `; it fails in ${Math.round((fault.failsAtMs - fault.atMs) / 1_000)} s`;
      print(command, fault, () => `${kind} of ${endpoint} has begun${fails}.`);
    });
  lab
    .command("console")
    .description("what an endpoint said while it booted and ran")
    .argument("<endpoint>")
    .action(async (endpoint: string, _: object, command: Command) => {
      const text = await withHypervisor((hypervisor) => hypervisor.consoleLog(endpoint));
      print(command, { endpoint, text }, () => text.trimEnd());
    });
  lab
    .command("snapshot")
    .description("keep all that a virtual machine holds in memory, keys included, until it ends")
    .argument("<endpoint>")
    .action(async (endpoint: string, _: object, command: Command) => {
      const kept = await withHypervisor((hypervisor) => hypervisor.snapshot(endpoint));
      print(command, { endpoint, ...kept }, ({ file, bytes }) => `${Math.round(bytes / BYTES_PER_MB)} MB in ${file}`);
    });
  lab
    .command("heal")
    .description("take an endpoint's fault away")
    .argument("<endpoint>")
    .action(async (endpoint: string, _: object, command: Command) => {
      await withLab((client) => client.heal(endpoint));
      print(command, { endpoint }, () => `${endpoint} has no fault any more; what it broke stays broken until it is repaired.`);
    });
  lab
    .command("roam")
    .description("give a client another outer address and source port")
    .argument("<client>")
    .action(async (client: string, _: object, command: Command) => {
      await withLab((lab) => lab.roam(client));
      print(command, { client }, () => `${client} has moved.`);
    });
  lab
    .command("traffic")
    .description("what each client sent, received and lost")
    .action(async (_: object, command: Command) => {
      const traffic = await withLab((client) => client.traffic());
      print(command, traffic, ({ clients }) =>
        clients
          .map(
            ({ client, up, down, tcp }) =>
              `${client}: up ${up.lost} of ${up.sent} lost, down ${down.lost} of ${down.sent} lost, TCP broken ${tcp.broken}`,
          )
          .join("\n"),
      );
    });
}

async function withHypervisor<T>(work: (hypervisor: LabHypervisorClient) => Promise<T>): Promise<T> {
  const socketPath = localSockets(paths().run).hypervisor;
  return await withClient(netnsHypervisor({ socketPath }), work);
}

async function withLab<T>(work: (client: LabClient) => Promise<T>): Promise<T> {
  return await withClient(new LabClient(localSockets(paths().run).hypervisor), work);
}

async function withClient<C extends { close(): Promise<void> }, T>(client: C, work: (client: C) => Promise<T>): Promise<T> {
  try {
    return await ofLab(() => work(client));
  } finally {
    await client.close();
  }
}

/** What the lab answers; NO_LAB where none runs. */
async function ofLab<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (thrown) {
    if (!(thrown instanceof ForeshiftError) || thrown.code !== "UNREACHABLE") throw thrown;
    const { run } = paths();
    const { hypervisor, supervisor } = localSockets(run);
    // An endpoint that the lab does not reach is something else.
    if (thrown.value !== hypervisor && thrown.value !== supervisor) throw thrown;
    throw new ForeshiftError("NO_LAB", { value: run }, { cause: thrown });
  }
}

function count(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`Expected a whole number from ${min} to ${max}.`);
  };
}

function faultKind(text: string): FaultKind {
  const kind = FAULT_KINDS.find((known) => known === text);
  if (kind !== undefined) return kind;
  throw new ForeshiftError("INVALID_FIELD", {
    field: "kind",
    value: text,
    detail: `expected one of ${FAULT_KINDS.join(", ")}`,
  });
}
