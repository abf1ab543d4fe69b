/**
 * The data path goes before everything else on its machine, as a kernel's own forwarding does: a controller that computes must not
 * look like a gateway that fails. Best effort: an ordinary user may not raise anything, and then all run alike.
 */
import { spawnSync } from "node:child_process";
import { readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";

/** Niceness of the data path and of whoever watches over it. */
const DATA_PATH_NICE = -10;
/**
 * Of a session that does nothing but carry packets. The kernel weighs sessions as wholes, and one in which many run must not hold up one
 * that wakes for a moment at each packet.
 */
const PACKETS_NICE = -20;
/** Of a virtual machine that serves: behind whoever watches over it. */
const MACHINE_NICE = -5;
/** Of one that boots, which takes seconds of a processor that those that serve, and whoever moves their sessions, need at that very moment. */
const BOOT_NICE = 10;

/**
 * Priorities in real time, round robin: whatever the weights, a thread of an ordinary process that woke up for a packet was seen to wait for
 * 0.2 s behind others on its processor, and such a gateway looks dead. Whoever watches over the packets goes before them, as it does little:
 * one that is late takes its own delay for theirs. The kernel leaves everybody else a twentieth of the time (`sched_rt_runtime_us`, sched(7)).
 */
const REAL_TIME = { packets: "1", watch: "2" } as const;
const CHRT_TIMEOUT_MS = 1_000;
let mayRunInRealTime: boolean | undefined;

/** A command that runs `command` with the data path's priority, in all its threads. */
export function atDataPathPriority(command: readonly string[]): readonly string[] {
  return mayRaise() ? ["chrt", "--rr", REAL_TIME.packets, ...command] : ["nice", "-n", String(DATA_PATH_NICE), ...command];
}

/**
 * For this process, in real time where that is permitted, with all that it starts; else for its main thread, and for its session where the
 * kernel schedules sessions as groups (autogroup, sched(7)).
 */
export function takeDataPathPriority(): void {
  // Threads are found by /proc, which may be another namespace's.
  const ownThreads = readlinkSync("/proc/self") === String(process.pid) ? ["--all-tasks"] : [];
  if (chrt([...ownThreads, "--pid", REAL_TIME.watch, String(process.pid)])) return;
  try {
    setPriority(DATA_PATH_NICE);
  } catch {
    return;
  }
  raiseSession("self");
}

/** Whether this user may give a process more of the processors than it had. */
function mayRaise(): boolean {
  mayRunInRealTime ??= chrt([REAL_TIME.packets, "true"]);
  return mayRunInRealTime;
}

function chrt(args: readonly string[]): boolean {
  return spawnSync("chrt", ["--rr", ...args], { stdio: "ignore", timeout: CHRT_TIMEOUT_MS }).status === 0;
}

/** All of a process that holds a machine with its own data path, and the session that it leads: it serves. */
export function raiseMachine(pid: number): void {
  setAllNice(pid, MACHINE_NICE);
}

/** The same while its machine boots. Where it could not be raised again, it is left as it is. */
export function holdBackMachine(pid: number): void {
  if (mayRaise()) setAllNice(pid, BOOT_NICE);
}

function setAllNice(pid: number, nice: number): void {
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) setPriority(Number(thread), nice);
  } catch {
    return;
  }
  setSessionNice(pid, nice);
}

/** The session of a process that leads one, and does nothing but carry packets. */
export function raisePackets(pid: number): void {
  setSessionNice(pid, PACKETS_NICE);
}

/** The session of a process that leads one. */
export function raiseSession(pid: number | "self"): void {
  setSessionNice(pid, DATA_PATH_NICE);
}

function setSessionNice(pid: number | "self", nice: number): void {
  try {
    writeFileSync(`/proc/${pid}/autogroup`, String(nice));
  } catch {
    // Not permitted, or the kernel has no such groups.
  }
}
