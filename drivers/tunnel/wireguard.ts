/**
 * Brings a WireGuard interface up in the current network namespace and takes it down: the kernel's where it has one, else
 * wireguard-go in a session of its own, so that the data path outlives the process that started it.
 */
import { spawn } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { atDataPathPriority, raisePackets } from "../priority.ts";
import { runCommand } from "../run-command.ts";
import type { WireGuardDevice } from "./wireguard-device.ts";
import { toolDevice } from "./wireguard-tool.ts";
import { uapiDevice, uapiListens } from "./wireguard-uapi.ts";

/** Exit status of a command that starts another one and finds none. */
const COMMAND_NOT_FOUND = 127;

const { startTimeoutMs, endTimeoutMs, pollMs, commandTimeoutMs } = LIMITS.wireguard;

export interface InterfaceOptions {
  /** At most 15 characters. */
  readonly device: string;
  readonly listenPort: number;
  readonly mtu: number;
  /** With prefix length. */
  readonly addresses: readonly string[];
  /** Prefixes routed into the tunnel. */
  readonly routes: readonly string[];
  /** Base64; asked for only when the interface has to be made. */
  readonly privateKey: () => Promise<string>;
  /** `auto`: the kernel's WireGuard where it has one. */
  readonly implementation: "auto" | "kernel" | "userspace";
  /** Folder in which the process that runs the interface is noted. */
  readonly stateDir: string;
}

export interface StartedInterface {
  readonly device: WireGuardDevice;
  /** It ran already, and was left as it was. */
  readonly adopted: boolean;
}

/**
 * Starts the interface, or takes over one that runs already without touching its sessions. One that is there and does not answer
 * is NOT_READY: it may be busy, and ending it is for `stopInterface` to be asked for.
 */
export async function startInterface(options: InterfaceOptions): Promise<StartedInterface> {
  const found = await findInterface(options.device);
  if (found !== undefined) return { device: found, adopted: true };
  const privateKey = await options.privateKey();
  const device = await create(options);
  await device.setIdentity({ privateKey, listenPort: options.listenPort });
  await configureLink(options);
  return { device, adopted: false };
}

/** Control of the interface; undefined when there is none of this name, NOT_READY when it does not answer. */
export async function findInterface(name: string): Promise<WireGuardDevice | undefined> {
  if (!(await linkExists(name))) return undefined;
  const device = (await uapiListens(name)) ? uapiDevice(name) : toolDevice(name);
  try {
    await device.state();
    return device;
  } catch (thrown) {
    throw new ForeshiftError("NOT_READY", { value: `WireGuard ${name}`, detail: messageOf(thrown) }, { cause: thrown });
  }
}

/** Ends the interface, also one whose process is frozen; one that is gone already is a success. */
export async function stopInterface(options: { device: string; stateDir: string }): Promise<void> {
  const noted = await readNote(options.stateDir);
  if (noted !== undefined && (await startTicks(noted.pid)) === noted.startTicks) await endProcess(noted.pid);
  await rm(notePath(options.stateDir), { force: true });
  const deadline = Date.now() + endTimeoutMs;
  // The tun device goes with its process; the kernel's WireGuard has to be asked.
  while (await linkExists(options.device)) {
    await runCommand("ip", ["link", "del", "dev", options.device], { timeoutMs: commandTimeoutMs }).catch(() => undefined);
    if (Date.now() > deadline)
      throw new ForeshiftError("COMMAND_FAILED", { field: `ending ${options.device}`, detail: "it is still there" });
    await delay(pollMs);
  }
}

async function create(options: InterfaceOptions): Promise<WireGuardDevice> {
  if (options.implementation !== "userspace" && (await createInKernel(options))) return toolDevice(options.device);
  return await createInUserspace(options);
}

async function createInKernel(options: InterfaceOptions): Promise<boolean> {
  try {
    await runCommand("ip", ["link", "add", "dev", options.device, "type", "wireguard"], { timeoutMs: commandTimeoutMs });
    return true;
  } catch (thrown) {
    if (options.implementation === "kernel") throw thrown;
    return false;
  }
}

async function createInUserspace(options: InterfaceOptions): Promise<WireGuardDevice> {
  await mkdir(options.stateDir, { recursive: true, mode: 0o700 });
  const env = { PATH: process.env.PATH ?? "", LOG_LEVEL: "error", WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD: "1" };
  const [command = "nice", ...args] = atDataPathPriority(["wireguard-go", "-f", options.device]);
  const child = spawn(command, args, { detached: true, stdio: "ignore", env });
  let ended: string | undefined;
  child.once("error", (error) => {
    ended = messageOf(error);
  });
  let isMissing = false;
  child.once("exit", (status, signal) => {
    isMissing = status === COMMAND_NOT_FOUND;
    ended ??= `it ended with ${signal ?? `status ${status}`}`;
  });
  child.unref();
  if (child.pid !== undefined) raisePackets(child.pid);
  const device = uapiDevice(options.device);
  const deadline = Date.now() + startTimeoutMs;
  for (;;) {
    if (child.pid === undefined) await delay(0);
    if (child.pid === undefined || isMissing)
      throw new ForeshiftError("MISSING_TOOL", { value: "wireguard-go", detail: ended ?? "it does not start" });
    if (ended !== undefined)
      throw new ForeshiftError("COMMAND_FAILED", { field: `wireguard-go ${options.device}`, detail: ended });
    if (await answers(device)) break;
    if (Date.now() > deadline) {
      await endProcess(child.pid);
      throw new ForeshiftError("COMMAND_FAILED", {
        field: `wireguard-go ${options.device}`,
        detail: `not up within ${startTimeoutMs} ms`,
      });
    }
    await delay(pollMs);
  }
  await writeNote(options.stateDir, { pid: child.pid, startTicks: (await startTicks(child.pid)) ?? 0, device: options.device });
  return device;
}

async function configureLink(options: InterfaceOptions): Promise<void> {
  const { device } = options;
  const lines = [
    `link set dev ${device} mtu ${options.mtu}`,
    ...options.addresses.map((address) => `addr replace ${address} dev ${device}`),
    `link set dev ${device} up`,
    ...options.routes.map((route) => `route replace ${route} dev ${device}`),
  ];
  await runCommand("ip", ["-batch", "-"], { timeoutMs: commandTimeoutMs, input: `${lines.join("\n")}\n` });
}

async function answers(device: WireGuardDevice): Promise<boolean> {
  try {
    await device.state();
    return true;
  } catch {
    return false;
  }
}

/** Asked of /proc, which follows the network namespace of this process; /sys follows that of its mount. */
async function linkExists(name: string): Promise<boolean> {
  const text = await readFile("/proc/self/net/dev", "utf8");
  return text.split("\n").some((line) => line.trimStart().startsWith(`${name}:`));
}

interface Note {
  readonly pid: number;
  /** With the pid it names a process beyond the reuse of numbers. */
  readonly startTicks: number;
  readonly device: string;
}

function notePath(stateDir: string): string {
  return join(stateDir, "wireguard.json");
}

async function writeNote(stateDir: string, note: Note): Promise<void> {
  await writeFile(notePath(stateDir), JSON.stringify(note), { mode: 0o600 });
}

async function readNote(stateDir: string): Promise<Note | undefined> {
  try {
    return JSON.parse(await readFile(notePath(stateDir), "utf8")) as Note;
  } catch {
    return undefined;
  }
}

/** Field 22 of /proc/PID/stat; undefined when the process is gone or a zombie. */
async function startTicks(pid: number): Promise<number | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
}

async function endProcess(pid: number): Promise<void> {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    return;
  }
  const deadline = Date.now() + endTimeoutMs;
  while ((await startTicks(pid)) !== undefined) {
    if (Date.now() > deadline)
      throw new ForeshiftError("COMMAND_FAILED", { field: `ending process ${pid}`, detail: "it does not end" });
    await delay(pollMs);
  }
}
