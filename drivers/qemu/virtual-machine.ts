/**
 * One virtual machine and the process that it is: launched from an image, suspended, woken, described, ended. Its lines are unix sockets,
 * so that another process can adopt it once the one that launched it has ended; unless it is to, it ends with that one.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { EMULATED_LIMITS, MACHINE_LIMITS } from "../../models/limits-machines.ts";
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
  /**
   * Path of its sockets without their ending, in a private folder; short, because a socket's path may have 107 bytes at most. In its own
   * folder unless stated.
   */
  readonly sockets?: string;
  /** It goes on when this process ends. Whoever holds the namespaces that it is in ends it then, or another process adopts it. */
  readonly goesOn?: boolean;
  /** What it finds in /run/config; `start`, a shell script, is run. */
  readonly files: readonly DriveFile[];
  readonly memoryBytes?: number;
  /** Taps that QEMU makes where it is started; they vanish with it. */
  readonly taps?: readonly { readonly device: string; readonly mac: string }[];
  /** Command that starts QEMU elsewhere, e.g. in a namespace; it must become QEMU, not stay beside it. */
  readonly within?: readonly string[];
  readonly accelerator?: Accelerator;
  /** Snapshot that it goes on from, of a machine of the same image, memory and cards which has ended. */
  readonly snapshot?: string;
}

/** What another process needs to know to adopt a machine that goes on. */
export type Adoption = Required<Pick<MachineSpec, "name" | "folder" | "sockets">> &
  Pick<MachineDescription, "pid" | "accelerator">;

export interface MachineDescription {
  readonly status: string;
  readonly running: boolean;
  readonly accelerator: Accelerator;
  readonly pid: number;
}

const Status = z.object({ status: z.string(), running: z.boolean() });

/** Endings of its sockets: monitor, guest agent, and the line of whoever runs the machine. */
const LINES = ["monitor", "agent", "line"] as const;
type Line = (typeof LINES)[number];
const LINE_PORT = "foreshift.line";
const Migration = z.object({ status: z.string().default("starting") });
const BYTES_PER_MIB = 1024 ** 2;

/** The kernel's check of its timer gives up too early when an emulated processor gets little time. */
const KERNEL_PARAMETERS = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check random.trust_cpu=on";

export class VirtualMachine {
  readonly name: string;
  /** QEMU's agent in the guest. */
  readonly agent: GuestAgent;
  /** To the guest's /dev/virtio-ports/foreshift.line. */
  readonly line: Duplex;
  readonly #process: Adoption;
  readonly #qmp: Qmp;

  private constructor(process: Adoption, lines: Readonly<Record<Line, Duplex>>) {
    this.name = process.name;
    this.#process = process;
    this.#qmp = new Qmp(lines.monitor, `${process.name} monitor`);
    this.agent = new GuestAgent(lines.agent, `${process.name} agent`);
    this.line = lines.line;
    // What was under way when the machine ended is lost with it; whoever uses the line sees it closed.
    this.line.on("error", () => undefined);
  }

  /** A machine whose QEMU runs; `ready()` tells when the guest has booted. MISSING_TOOL, or COMMAND_FAILED with QEMU's words. */
  static async launch(spec: MachineSpec): Promise<VirtualMachine> {
    const { name, folder, sockets = join(spec.folder, "qemu") } = spec;
    const chosen = spec.accelerator ?? (await accelerator(spec.image));
    await writeFile(join(folder, "config-drive"), configDrive(spec.files), { mode: 0o600 });
    const bound = spec.goesOn === true ? [] : ["setpriv", "--pdeathsig", "KILL", "--"];
    const command = [...(spec.within ?? []), ...bound, QEMU, ...qemuArguments({ ...spec, sockets }, chosen)];
    const words = openSync(join(folder, "qemu.log"), "w", 0o600);
    const child = spawn(command[0] ?? QEMU, command.slice(1), { stdio: ["ignore", "ignore", words] });
    closeSync(words);
    let failed: string | undefined;
    child.once("error", ({ message }) => (failed = message));
    child.once("exit", (code, signal) => (failed ??= `it ended with ${code ?? signal}`));
    const process = { name, folder, sockets, accelerator: chosen, pid: child.pid ?? 0 };
    try {
      const machine = await VirtualMachine.#connect(process, () => failed);
      if (spec.snapshot !== undefined) await machine.#goOn();
      return machine;
    } catch (thrown) {
      await end(process);
      const said = (await readFile(join(folder, "qemu.log"), "utf8").catch(() => "")).trim().split("\n").at(-1) ?? "";
      const detail = said === "" ? (failed ?? messageOf(thrown)) : said;
      const code = detail.includes("ENOENT") || detail.includes("No such file") ? "MISSING_TOOL" : "COMMAND_FAILED";
      throw new ForeshiftError(code, { field: `starting ${name}`, value: QEMU, detail }, { cause: thrown });
    }
  }

  /** One that goes on though the process that launched it has ended. COMMAND_FAILED when it has ended too. */
  static async adopt(process: Adoption): Promise<VirtualMachine> {
    return await VirtualMachine.#connect(process, () => (lives(process) ? undefined : "it has ended"));
  }

  static async #connect(process: Adoption, failed: () => string | undefined): Promise<VirtualMachine> {
    const lines = new Map<Line, Socket>();
    try {
      for (const line of LINES) lines.set(line, await connectLine(`${process.sockets}.${line}`, failed));
      const machine = new VirtualMachine(process, Object.fromEntries(lines) as Record<Line, Socket>);
      await machine.#qmp.open();
      return machine;
    } catch (thrown) {
      for (const line of lines.values()) line.destroy();
      throw thrown;
    }
  }

  /** By which another process can adopt it. */
  get adoption(): Adoption {
    return this.#process;
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
      const { bootTimeoutMs } = this.#process.accelerator === "tcg" ? EMULATED_LIMITS : MACHINE_LIMITS;
      await this.agent.ready(bootTimeoutMs);
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
    const { accelerator, pid } = this.#process;
    return { status, running, accelerator, pid };
  }

  /** Runs a command in the guest. */
  async run(command: readonly string[], options?: { input?: string; timeoutMs?: number }): Promise<GuestOutcome> {
    return await this.agent.run(command, options);
  }

  /**
   * Writes all that it holds in memory to a file that only its owner may read: keys are in it. It stands still meanwhile, and goes on if it
   * ran.
   */
  async snapshot(file: string): Promise<void> {
    const { running } = await this.describe();
    await rm(file, { force: true });
    closeSync(openSync(file, "wx", 0o600));
    await this.suspend();
    try {
      await this.#qmp.execute("migrate", { uri: `exec:cat > '${file.replaceAll("'", "'\\''")}'` });
      await this.#untilSaved();
    } finally {
      if (running) await this.resume();
    }
  }

  /** Once all of the snapshot is read; it was stopped when that was written. */
  async #goOn(): Promise<void> {
    const deadline = performance.now() + MACHINE_LIMITS.snapshotTimeoutMs;
    while ((await this.describe()).status === "inmigrate") {
      if (performance.now() > deadline)
        throw new ForeshiftError("COMMAND_FAILED", { field: `the snapshot of ${this.name}`, detail: "it is not read yet" });
      await delay(MACHINE_LIMITS.pollMs);
    }
    await this.resume();
  }

  async #untilSaved(): Promise<void> {
    const deadline = performance.now() + MACHINE_LIMITS.snapshotTimeoutMs;
    for (;;) {
      const { status } = Migration.parse(await this.#qmp.execute("query-migrate"));
      if (status === "completed") return;
      if (status === "failed" || performance.now() > deadline)
        throw new ForeshiftError("COMMAND_FAILED", { field: `a snapshot of ${this.name}`, detail: `it is ${status}` });
      await delay(MACHINE_LIMITS.pollMs);
    }
  }

  async consoleLog(): Promise<string> {
    return await readFile(join(this.#process.folder, "console.log"), "utf8");
  }

  /** Ends it at once, as a power cut would, and removes its configuration; ended already is a success. */
  async terminate(): Promise<void> {
    await end(this.#process);
    this.#qmp.close();
    this.agent.close();
    this.line.destroy();
  }
}

/** Waits until QEMU has made the socket. */
async function connectLine(path: string, failed: () => string | undefined): Promise<Socket> {
  const deadline = performance.now() + MACHINE_LIMITS.processStartTimeoutMs;
  for (;;) {
    const socket = connect({ path });
    try {
      await once(socket, "connect");
      // What breaks later is told to whoever uses the line.
      socket.on("error", () => undefined);
      return socket;
    } catch (thrown) {
      socket.destroy();
      const why = failed() ?? (performance.now() > deadline ? messageOf(thrown) : undefined);
      if (why !== undefined)
        throw new ForeshiftError("COMMAND_FAILED", { field: "QEMU's line", detail: why }, { cause: thrown });
      await delay(MACHINE_LIMITS.pollMs);
    }
  }
}

async function end(machine: Adoption): Promise<void> {
  const deadline = performance.now() + MACHINE_LIMITS.endGraceMs;
  while (lives(machine) && performance.now() < deadline) {
    try {
      process.kill(machine.pid, "SIGKILL");
    } catch {
      // It has ended since.
    }
    await delay(MACHINE_LIMITS.pollMs);
  }
  await rm(join(machine.folder, "config-drive"), { force: true });
  await removeLines(machine.sockets);
  if (lives(machine)) throw new ForeshiftError("COMMAND_FAILED", { field: `ending ${machine.name}`, detail: "QEMU stays" });
}

/** Of a machine that has ended without anybody who could remove them; `sockets` as it was launched with. */
export async function removeLines(sockets: string): Promise<void> {
  for (const line of LINES) await rm(`${sockets}.${line}`, { force: true });
}

/** Numbers of processes are used again: it is the one whose command names the machine's folder. */
function lives({ pid, folder }: Adoption): boolean {
  if (pid <= 0) return false;
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(`${folder}/`);
  } catch {
    return false;
  }
}

function qemuArguments(
  { image, folder, sockets, memoryBytes, taps, name, snapshot }: MachineSpec & Pick<Adoption, "sockets">,
  chosen: Accelerator,
): string[] {
  const memory = Math.ceil((memoryBytes ?? MACHINE_LIMITS.memoryBytesDefault) / BYTES_PER_MIB);
  const disk = (file: string) => ["-drive", `if=virtio,format=raw,readonly=on,file=${file.replaceAll(",", ",,")}`];
  const socket = (id: Line) => [
    "-chardev",
    `socket,id=${id},path=${`${sockets}.${id}`.replaceAll(",", ",,")},server=on,wait=off`,
  ];
  const port = (id: Line, portName: string) => [...socket(id), "-device", `virtserialport,chardev=${id},name=${portName}`];
  const lines = [
    ["-name", name, "-M", "pc", "-m", `${memory}M`, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ["-accel", chosen, "-cpu", chosen === "kvm" ? "host" : "max,la57=off"],
    ["-kernel", join(image, "kernel"), "-initrd", join(image, "initrd"), "-append", KERNEL_PARAMETERS],
    ["-chardev", `file,id=console,path=${join(folder, "console.log").replaceAll(",", ",,")}`, "-serial", "chardev:console"],
    disk(join(image, "root")),
    disk(join(folder, "config-drive")),
    [...socket("monitor"), "-mon", "chardev=monitor,mode=control"],
    ["-device", "virtio-rng-pci", "-device", "virtio-serial"],
    port("agent", "org.qemu.guest_agent.0"),
    port("line", LINE_PORT),
    ...(snapshot === undefined ? [] : [["-incoming", `exec:cat '${snapshot.replaceAll("'", "'\\''")}'`]]),
    ...(taps ?? []).map(({ device, mac }, at) => [
      "-netdev",
      `tap,id=net${at},ifname=${device},script=no,downscript=no`,
      "-device",
      `virtio-net-pci,netdev=net${at},mac=${mac}`,
    ]),
  ];
  return lines.flat();
}
