/**
 * One virtual machine and the process that it is: launched from an image, suspended, woken, described, ended. Its lines are inherited
 * sockets, so it leaves nothing in a file system, and it ends with the process that launched it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { MACHINE_LIMITS } from "../../models/limits-machines.ts";
import { type Accelerator, accelerator, QEMU } from "./accelerator.ts";
import { configDrive, type DriveFile } from "./config-drive.ts";
import { GuestAgent, type GuestOutcome } from "./guest-agent.ts";
import { Qmp } from "./qmp.ts";

export interface MachineSpec {
  readonly name: string;
  /** Folder of an image, with `kernel`, `initrd` and `root` in it. */
  readonly image: string;
  /** Of the machine alone, private: its console log and its configuration drive. */
  readonly folder: string;
  /** What it finds in /run/config; `start`, a shell script, is run. */
  readonly files: readonly DriveFile[];
  readonly memoryBytes?: number;
  /** Taps that QEMU makes where it is started; they vanish with it. */
  readonly taps?: readonly { readonly device: string; readonly mac: string }[];
  /** Command that starts QEMU elsewhere, e.g. in a namespace; it must become QEMU, not stay beside it. */
  readonly within?: readonly string[];
  readonly accelerator?: Accelerator;
}

export interface MachineDescription {
  readonly status: string;
  readonly running: boolean;
  readonly accelerator: Accelerator;
  readonly pid: number;
}

const Status = z.object({ status: z.string(), running: z.boolean() });

/** Inherited file descriptors: monitor, guest agent, and the line of whoever runs the machine. */
const FDS = { monitor: 3, agent: 4, line: 5 } as const;
const LINE_PORT = "foreshift.line";
const BYTES_PER_MIB = 1024 ** 2;

/** The kernel's check of its timer gives up too early when an emulated processor gets little time. */
const KERNEL_PARAMETERS = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check random.trust_cpu=on";

export class VirtualMachine {
  readonly name: string;
  /** QEMU's agent in the guest. */
  readonly agent: GuestAgent;
  /** To the guest's /dev/virtio-ports/foreshift.line. */
  readonly line: Duplex;
  readonly #child: ChildProcess;
  readonly #qmp: Qmp;
  readonly #folder: string;
  readonly #accelerator: Accelerator;

  private constructor(spec: MachineSpec, child: ChildProcess, chosen: Accelerator) {
    this.name = spec.name;
    this.#child = child;
    this.#folder = spec.folder;
    this.#accelerator = chosen;
    this.#qmp = new Qmp(stream(child, FDS.monitor), `${spec.name} monitor`);
    this.agent = new GuestAgent(stream(child, FDS.agent), `${spec.name} agent`);
    this.line = stream(child, FDS.line);
    // What was under way when the machine ended is lost with it; whoever uses the line sees it closed.
    this.line.on("error", () => undefined);
  }

  /** A machine whose QEMU runs; `ready()` tells when the guest has booted. MISSING_TOOL, or COMMAND_FAILED with QEMU's words. */
  static async launch(spec: MachineSpec): Promise<VirtualMachine> {
    const chosen = spec.accelerator ?? (await accelerator(spec.image));
    await writeFile(join(spec.folder, "config-drive"), configDrive(spec.files), { mode: 0o600 });
    const command = [...(spec.within ?? []), "setpriv", "--pdeathsig", "KILL", "--", QEMU, ...qemuArguments(spec, chosen)];
    const child = spawn(command[0] ?? QEMU, command.slice(1), { stdio: ["ignore", "ignore", "pipe", "pipe", "pipe", "pipe"] });
    let words = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (words = (words + text).slice(-BYTES_PER_MIB)));
    child.on("error", (error) => (words += error.message));
    const machine = new VirtualMachine(spec, child, chosen);
    try {
      await machine.#qmp.open();
      return machine;
    } catch (thrown) {
      await machine.terminate();
      const detail = words.trim().split("\n").at(-1) ?? "";
      const code = detail.includes("ENOENT") || detail.includes("No such file") ? "MISSING_TOOL" : "COMMAND_FAILED";
      throw new ForeshiftError(code, { field: `starting ${spec.name}`, value: QEMU, detail }, { cause: thrown });
    }
  }

  /** Stops its processors and its clock; what it holds in memory stays. */
  async suspend(): Promise<void> {
    await this.#qmp.execute("stop");
  }

  /** Lets it go on. Its clock is where it was: see `correctClock`. */
  async resume(): Promise<void> {
    await this.#qmp.execute("cont");
  }

  /** Waits until the guest has booted. NOT_READY, with the last word on its console, when it does not. */
  async ready(): Promise<void> {
    try {
      await this.agent.ready();
    } catch (thrown) {
      const last = (await this.consoleLog().catch(() => "")).trim().split("\n").at(-1);
      const detail = `${messageOf(thrown)}; the last word on its console: ${last}`;
      throw new ForeshiftError("NOT_READY", { value: this.name, detail }, { cause: thrown });
    }
  }

  /** Sets the guest's clock by this machine's. */
  async correctClock(): Promise<void> {
    await this.agent.setTime(Date.now());
  }

  async describe(): Promise<MachineDescription> {
    const { status, running } = Status.parse(await this.#qmp.execute("query-status"));
    return { status, running, accelerator: this.#accelerator, pid: this.#child.pid ?? 0 };
  }

  /** Runs a command in the guest. */
  async run(command: readonly string[], options?: { input?: string; timeoutMs?: number }): Promise<GuestOutcome> {
    return await this.agent.run(command, options);
  }

  async consoleLog(): Promise<string> {
    return await readFile(join(this.#folder, "console.log"), "utf8");
  }

  /** Ends it at once, as a power cut would, and removes its configuration; ended already is a success. */
  async terminate(): Promise<void> {
    this.#child.kill("SIGKILL");
    const deadline = performance.now() + MACHINE_LIMITS.endGraceMs;
    while (this.#lives() && performance.now() < deadline) await delay(MACHINE_LIMITS.pollMs);
    this.#qmp.close();
    this.agent.close();
    this.line.destroy();
    this.#child.stderr?.destroy();
    await rm(join(this.#folder, "config-drive"), { force: true });
    if (this.#lives()) throw new ForeshiftError("COMMAND_FAILED", { field: `ending ${this.name}`, detail: "QEMU stays" });
  }

  #lives(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }
}

function stream(child: ChildProcess, fd: number): Duplex {
  const found = child.stdio[fd];
  if (found !== null && found !== undefined && "write" in found && "read" in found) return found as Duplex;
  throw new ForeshiftError("INTERNAL", { detail: `QEMU has no line ${fd}` });
}

function qemuArguments({ image, folder, memoryBytes, taps, name }: MachineSpec, chosen: Accelerator): string[] {
  const memory = Math.ceil((memoryBytes ?? MACHINE_LIMITS.memoryBytesDefault) / BYTES_PER_MIB);
  const disk = (file: string) => ["-drive", `if=virtio,format=raw,readonly=on,file=${file.replaceAll(",", ",,")}`];
  const port = (id: string, fd: number, portName: string) => [
    "-chardev",
    `socket,id=${id},fd=${fd}`,
    "-device",
    `virtserialport,chardev=${id},name=${portName}`,
  ];
  const lines = [
    ["-name", name, "-M", "pc", "-m", `${memory}M`, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ["-accel", chosen, "-cpu", chosen === "kvm" ? "host" : "max,la57=off"],
    ["-kernel", join(image, "kernel"), "-initrd", join(image, "initrd"), "-append", KERNEL_PARAMETERS],
    ["-chardev", `file,id=console,path=${join(folder, "console.log").replaceAll(",", ",,")}`, "-serial", "chardev:console"],
    disk(join(image, "root")),
    disk(join(folder, "config-drive")),
    ["-chardev", `socket,id=monitor,fd=${FDS.monitor}`, "-mon", "chardev=monitor,mode=control"],
    ["-device", "virtio-rng-pci", "-device", "virtio-serial"],
    port("agent", FDS.agent, "org.qemu.guest_agent.0"),
    port("line", FDS.line, LINE_PORT),
    ...(taps ?? []).map(({ device, mac }, at) => [
      "-netdev",
      `tap,id=net${at},ifname=${device},script=no,downscript=no`,
      "-device",
      `virtio-net-pci,netdev=net${at},mac=${mac}`,
    ]),
  ];
  return lines.flat();
}
