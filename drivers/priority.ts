/**
 * The data path goes before everything else on its machine, as a kernel's own forwarding does: a controller that computes must not
 * look like a gateway that fails. Best effort: an ordinary user may not raise anything, and then all run alike.
 */
import { writeFileSync } from "node:fs";
import { setPriority } from "node:os";

/** Niceness of the data path and of whoever watches over it. */
const DATA_PATH_NICE = -10;

/** A command that runs `command` with the data path's priority, in all its threads. */
export function atDataPathPriority(command: readonly string[]): readonly string[] {
  return ["nice", "-n", String(DATA_PATH_NICE), ...command];
}

/** For this process's main thread, and for its session where the kernel schedules sessions as groups (autogroup, sched(7)). */
export function takeDataPathPriority(): void {
  try {
    setPriority(DATA_PATH_NICE);
  } catch {
    return;
  }
  raiseSession("self");
}

/** The session of a process that leads one. */
export function raiseSession(pid: number | "self"): void {
  try {
    writeFileSync(`/proc/${pid}/autogroup`, String(DATA_PATH_NICE));
  } catch {
    // Not permitted, or the kernel has no such groups.
  }
}
