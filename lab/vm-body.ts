/**
 * A virtual machine on the lab's links: each of its three network cards is a tap that QEMU makes in the machine's namespace and that is
 * then moved to where the link's other end is. The agent inside is reached over the machine's serial line.
 */

import { access, chmod, readFile, rm, stat } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { dirname, join } from "node:path";
import type { MachineSnapshot } from "../drivers/ports.ts";
import { holdBackMachine, raiseMachine } from "../drivers/priority.ts";
import { GUEST_CONFIG_DIR, GUEST_PROGRAM, GUEST_SERVICES, GUEST_STATE_DIR, guestSocket } from "../drivers/qemu/guest-layout.ts";
import { SerialStreams } from "../drivers/qemu/serial-streams.ts";
import { type Adoption, VirtualMachine } from "../drivers/qemu/virtual-machine.ts";
import { ForeshiftError } from "../models/errors.ts";
import { EMULATED_LIMITS } from "../models/limits-machines.ts";
import { endpointLinks } from "./addresses.ts";
import { agentConfig } from "./agent-config.ts";
import { readTail } from "./files.ts";
import { type BodyRequest, bootOrEnd, type MachineBody } from "./machine-body.ts";
import { addNamespaces, signalHost } from "./namespace.ts";
import { attachFarEnds, machineScript, removeMachine, setFarEnds } from "./topology.ts";

/** Order of the guest's network cards, and the devices that they are to the guest and, at first, to the machine's namespace. */
const CARDS = [
  { guest: "lb0", tap: "tap-lb", host: "lb" },
  { guest: "up0", tap: "tap-up", host: "edge" },
  { guest: "in0", tap: "tap-in", host: "router" },
] as const;

/** The machine's memory is all that its kernel has. */
const GUEST_AGENT = { implementation: "kernel", ownMachine: true, memoryBytes: undefined };
const GUEST_SHELL = ["/usr/bin/sh", "-euc"] as const;
const PAUSED_AGENT = `${GUEST_STATE_DIR}/agent-paused`;

export class VmBody implements MachineBody {
  readonly #request: BodyRequest;
  #machine: VirtualMachine | undefined;
  #server: Server | undefined;

  private constructor(request: BodyRequest) {
    this.#request = request;
  }

  /** INVALID_FIELD where the lab was given no image; errors of the virtual machine. */
  static async boot(request: BodyRequest): Promise<VmBody> {
    const body = new VmBody(request);
    return await bootOrEnd(body, () => body.#boot());
  }

  /** One that was booted by a process before this one. It goes on if it was frozen; `isRunning` tells whether it is suspended. */
  static async adopt(request: BodyRequest, process: Adoption): Promise<VmBody> {
    const body = new VmBody(request);
    signalHost(request.name, "SIGCONT");
    body.#machine = await VirtualMachine.adopt(process);
    await body.#joinSockets(body.#machine, true);
    return body;
  }

  booted(): void {
    raiseMachine(this.#running.adoption.pid);
  }

  get adoption(): Adoption {
    return this.#running.adoption;
  }

  async isRunning(): Promise<boolean> {
    return (await this.#running.describe()).running;
  }

  /** The newest of what it said on its console. */
  async consoleLog(): Promise<string> {
    return await readTail(join(this.#request.stateDir, "console.log"));
  }

  /** In its folder, which ends with it. It stands still meanwhile, and its clock with it. */
  async snapshot(): Promise<MachineSnapshot> {
    const file = join(this.#request.stateDir, "snapshot");
    await this.#running.snapshot(file);
    if (await this.isRunning()) await this.#running.correctClock();
    return { file, bytes: (await stat(file)).size };
  }

  /** Runs a shell script inside. COMMAND_FAILED with the end of what it complained of. */
  async script(text: string): Promise<void> {
    const { status, stderr } = await this.#running.run([...GUEST_SHELL, text]);
    if (status === 0) return;
    const field = `a script in ${this.#request.name}`;
    throw new ForeshiftError("COMMAND_FAILED", { field, detail: stderr.trim().split("\n").at(-1) ?? "" });
  }

  get #running(): VirtualMachine {
    if (this.#machine !== undefined) return this.#machine;
    throw new ForeshiftError("NOT_READY", { value: this.#request.name, detail: "it has not booted, or has ended" });
  }

  async suspend(): Promise<void> {
    await this.#running.suspend();
  }

  /** Its clock stood still with it: nobody is handed to a machine whose clock is behind. */
  async resume(): Promise<void> {
    await this.#running.resume();
    await this.#running.correctClock();
  }

  async repairLinks(): Promise<void> {
    await setFarEnds(this.#request.name, "up");
  }

  async unfreeze(): Promise<void> {
    signalHost(this.#request.name, "SIGCONT");
    await this.resume();
  }

  async keepAgent(alive: boolean): Promise<void> {
    const script = alive ? `rm -f ${PAUSED_AGENT}` : `touch ${PAUSED_AGENT}; pkill -9 -f ${GUEST_PROGRAM} || true`;
    await this.script(script);
  }

  async end(): Promise<void> {
    await this.#machine?.terminate();
    this.#machine = undefined;
    this.#server?.close();
    await removeMachine(this.#request.name);
    await rm(this.#request.agentSocket, { force: true });
  }

  async #boot(): Promise<void> {
    const { name, number, config, stateDir } = this.#request;
    if (config.image === undefined) {
      const detail = "virtual machines need an image: the folder of one that `foreshift image build` made";
      throw new ForeshiftError("INVALID_FIELD", { field: "image", value: "nothing", detail });
    }
    const links = endpointLinks(number);
    const macs = { lb0: links.lb.mac, up0: links.up.mac, in0: links.inner.mac };
    await addNamespaces([name]);
    const machine = await VirtualMachine.launch({
      name,
      image: await folderOf(config.image, this.#request.image),
      folder: stateDir,
      sockets: join(config.agentSocketDir, name),
      goesOn: true,
      files: await this.#files(),
      memoryBytes: config.memoryBytes,
      taps: CARDS.map(({ guest, tap }) => ({ device: tap, mac: macs[guest] })),
      // In a session of its own: this process's goes before all others, which an emulated processor would take the turn of.
      within: ["nsenter", `--net=/run/netns/${name}`, "--", "setsid", "--"],
    });
    this.#machine = machine;
    holdBackMachine(machine.adoption.pid);
    await attachFarEnds(name, number, CARDS);
    await this.#joinSockets(machine, false);
    await machine.ready();
    // It begins with the hardware's clock, which is a second off or almost.
    await machine.correctClock();
  }

  async #files() {
    const { config, credentialsFile, name, number } = this.#request;
    const isEmulated = config.processors === "emulated";
    const pace = isEmulated ? EMULATED_LIMITS.agentPace : {};
    const places = {
      socketPath: guestSocket("agent"),
      reflexSocket: guestSocket("reflex"),
      collectorSocket: guestSocket("collector"),
      vault: { socketPath: guestSocket("vault"), callTimeoutMs: isEmulated ? EMULATED_LIMITS.vaultCallTimeoutMs : undefined },
      credentialsFile: `${GUEST_CONFIG_DIR}/approle.json`,
      stateDir: `${GUEST_STATE_DIR}/state`,
    };
    const cards = CARDS.map(({ guest }, at) => `ip link show ${guest} >/dev/null 2>&1 || ip link set eth${at} name ${guest}`);
    const start = [
      "set -e",
      `if [ ! -e ${GUEST_STATE_DIR}/links ]; then`,
      `mkdir -p -m 0700 ${GUEST_STATE_DIR}/state`,
      ...cards,
      machineScript(number, config.vip),
      `touch ${GUEST_STATE_DIR}/links`,
      "fi",
      `while [ -e ${PAUSED_AGENT} ]; do sleep 0.2; done`,
      `exec node ${GUEST_PROGRAM} ${GUEST_CONFIG_DIR}/agent.json`,
    ];
    return [
      { path: "hostname", content: name },
      { path: "start", content: `${start.join("\n")}\n` },
      { path: "agent.json", content: agentConfig(this.#request, places, { ...GUEST_AGENT, pace }) },
      { path: "approle.json", content: await readFile(credentialsFile) },
    ];
  }

  /** The guest's agent under its socket here, and what the guest may reach of ours. */
  async #joinSockets(machine: VirtualMachine, rejoins: boolean): Promise<void> {
    const { agentSocket, config } = this.#request;
    const { reflexSocket: reflex, collectorSocket: collector } = config;
    const paths = { reflex, collector, vault: config.vault.socketPath };
    const streams = new SerialStreams({
      line: machine.line,
      side: "host",
      rejoins,
      accept: (name) => {
        const service = GUEST_SERVICES.find((known) => known === name);
        const path = service === undefined ? undefined : paths[service];
        return path === undefined ? undefined : connect({ path, allowHalfOpen: true });
      },
    });
    const server = createServer({ allowHalfOpen: true }, (socket) => streams.connect("agent", socket));
    this.#server = server;
    await rm(agentSocket, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(agentSocket, resolve);
    });
    await chmod(agentSocket, 0o600);
  }
}

/** Images lie side by side, each in a folder named by its digest. INVALID_FIELD for one that does not. */
async function folderOf(own: string, image: string | undefined): Promise<string> {
  if (image === undefined) return own;
  const folder = join(dirname(own), image.replace(/^sha256:/, ""));
  try {
    await access(folder);
  } catch {
    const detail = "no such image lies beside the lab's own: `foreshift image build` prints the name of the one it made";
    throw new ForeshiftError("INVALID_FIELD", { field: "image", value: image, detail });
  }
  return folder;
}
