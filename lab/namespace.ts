/**
 * Namespaces by name: each host of the lab has a network namespace and a mount namespace (for its own /run/wireguard).
 * A host's processes are found by their network namespace, so that nobody has to keep track of who started what.
 */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";

const NETNS_DIR = "/run/netns";
const MNT_DIR = "/run/lab/mnt";
const ERROR_CHARS_MAX = 600;

/** There while the lab's process serves, and once it has ended without being told to. */
export const LAB_UP = "/run/lab/up";

/** A process of a host. */
export interface HostProcess {
  readonly pid: number;
  /** As in /proc/PID/comm, at most 15 characters. */
  readonly name: string;
  readonly arguments: readonly string[];
}

/**
 * Makes the lab's own /run: what the person's /run holds stays visible, /run/netns, /run/wireguard and /run/lab are new.
 * Without it neither `ip netns add` nor WireGuard's control sockets would work for an ordinary user.
 */
export async function prepareRun(): Promise<void> {
  await runScript(`
    old=$(mktemp -d)
    trap 'umount -l $old 2>/dev/null; rmdir $old' EXIT
    mount --rbind /run $old
    mount -t tmpfs -o mode=0755 tmpfs /run
    for entry in $old/* $old/.[!.]*; do
      name=\${entry##*/}
      case $name in netns|wireguard|lab|'*'|'.[!.]*') continue;; esac
      if [ -L "$entry" ]; then cp -P "$entry" "/run/$name"
      elif [ -d "$entry" ]; then mkdir -p "/run/$name"; mount --rbind "$entry" "/run/$name"
      else : > "/run/$name"; mount --bind "$entry" "/run/$name" 2>/dev/null || rm -f "/run/$name"; fi
    done
    mkdir -p ${NETNS_DIR} /run/wireguard /run/lab
    mount -t tmpfs tmpfs /run/lab
    mount --make-private /run/lab
    mkdir ${MNT_DIR}`);
}

/** Makes hosts; all network namespaces first, because a mount namespace only sees those made before it. */
export async function addNamespaces(names: readonly string[]): Promise<void> {
  await runScript(`ip -batch - <<'END'\n${names.map((name) => `netns add ${name}`).join("\n")}\nEND
    for name in ${names.join(" ")}; do ip -n $name link set lo up; done`);
  await Promise.all(names.map(holdMountNamespace));
}

export async function removeNamespace(name: string): Promise<void> {
  endHolder(name);
  await runScript(`rm -f ${MNT_DIR}/${name}; if [ -e ${NETNS_DIR}/${name} ]; then ip netns del ${name}; fi`);
}

/** Whether a lab's process before this one has built its hosts here, and has ended since. Told once. */
export function takeOver(): boolean {
  if (!existsSync(LAB_UP)) return false;
  rmSync(LAB_UP);
  return true;
}

/** From here on another may take over. */
export function letTakeOver(): void {
  writeFileSync(LAB_UP, "");
}

function endHolder(name: string): void {
  try {
    process.kill(Number(/^\/proc\/(\d+)\//.exec(readlinkSync(`${MNT_DIR}/${name}`))?.[1]), "SIGKILL");
  } catch {
    // There is none.
  }
}

/**
 * A sleeping process, in no host's network namespace, keeps the mount namespace; a link makes it known by name. (A bind mount would
 * not do: recent kernels number namespaces per CPU, and refuse one whose number is below the mounting namespace's.)
 */
async function holdMountNamespace(name: string): Promise<void> {
  const script = "mount -t tmpfs tmpfs /run/wireguard && echo ready && exec sleep infinity";
  const child = spawn("unshare", ["--mount", "--propagation", "private", "sh", "-c", script], {
    stdio: ["ignore", "pipe", "inherit"],
    cwd: "/",
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once("data", () => resolve());
    child.once("error", reject);
    child.once("exit", () => {
      reject(new ForeshiftError("COMMAND_FAILED", { field: `the mount namespace of ${name}`, detail: "its holder ended" }));
    });
  });
  child.unref();
  child.stdout.destroy();
  symlinkSync(`/proc/${child.pid}/ns/mnt`, `${MNT_DIR}/${name}`);
}

/** A file of the host's mount namespace, as a path here. Links on the way that are absolute lead to our own files. */
export function pathOn(host: string, path: string): string {
  return join(dirname(dirname(readlinkSync(`${MNT_DIR}/${host}`))), "root", path);
}

/** Runs a shell script; in the host's namespaces when one is named. COMMAND_FAILED with the end of its standard error. */
export async function runScript(script: string, host?: string): Promise<string> {
  const command = host === undefined ? ["sh", "-eu"] : [...entering(host), "sh", "-eu"];
  const child = spawn(command[0] ?? "sh", command.slice(1), {
    stdio: ["pipe", "pipe", "pipe"],
    timeout: LIMITS.lab.commandTimeoutMs,
    killSignal: "SIGKILL",
    cwd: "/",
  });
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  // A script that fails early leaves the rest of itself unread; its exit code tells.
  child.stdin.on("error", () => undefined);
  child.stdin.end(`${script}\n`);
  const how = await new Promise<string | number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(signal ?? code ?? "unknown"));
  });
  if (how === 0) return output.stdout;
  throw new ForeshiftError("COMMAND_FAILED", {
    field: host === undefined ? "a command of the lab" : `a command in ${host}`,
    detail: `ended with ${how}: ${output.stderr.trim().slice(-ERROR_CHARS_MAX)}`,
  });
}

/** Starts a long-running program in the host's namespaces. */
export function spawnIn(host: string, program: readonly string[], options: SpawnOptions): ChildProcess {
  const [command, ...args] = [...entering(host), ...program];
  return spawn(command ?? "nsenter", args, { cwd: "/", ...options });
}

/** The host's processes that live; those that are dead and not yet reaped have no namespace any more. */
export function processesOf(host: string): readonly HostProcess[] {
  const namespace = inode(host);
  if (namespace === undefined) return [];
  const found: HostProcess[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      if (readlinkSync(`/proc/${entry}/ns/net`) !== namespace) continue;
      const name = readFileSync(`/proc/${entry}/comm`, "utf8").trim();
      const args = readFileSync(`/proc/${entry}/cmdline`, "utf8")
        .split("\0")
        .filter((text) => text !== "");
      found.push({ pid: Number(entry), name, arguments: args });
    } catch {
      // It ended while we looked.
    }
  }
  return found;
}

/** Sends a signal to the host's processes (those that `which` names); returns how many there were. */
export function signalHost(
  host: string,
  signal: NodeJS.Signals,
  which: (process: HostProcess) => boolean = () => true,
): number {
  let count = 0;
  for (const found of processesOf(host).filter(which)) {
    try {
      process.kill(found.pid, signal);
      count += 1;
    } catch {
      // It ended while we looked.
    }
  }
  return count;
}

/** Ends the host's processes (those that `which` names). COMMAND_FAILED when one stays. */
export async function endProcesses(host: string, which?: (process: HostProcess) => boolean): Promise<void> {
  const deadlineMs = performance.now() + LIMITS.lab.stopTimeoutMs;
  // Repeated, for what a process started while it was being killed.
  while (signalHost(host, "SIGKILL", which) > 0) {
    if (performance.now() > deadlineMs)
      throw new ForeshiftError("COMMAND_FAILED", { field: `ending ${host}`, detail: "a process stays" });
    await delay(10);
  }
}

/** WireGuard, or the whole virtual machine that it runs in. */
export function movesPackets(found: HostProcess): boolean {
  return found.name === "wireguard-go" || found.name.startsWith("qemu-system");
}

function entering(host: string): string[] {
  return ["nsenter", `--net=${NETNS_DIR}/${host}`, `--mount=${MNT_DIR}/${host}`, "--"];
}

function inode(host: string): string | undefined {
  const found = statSync(`${NETNS_DIR}/${host}`, { throwIfNoEntry: false });
  return found === undefined ? undefined : `net:[${found.ino}]`;
}
