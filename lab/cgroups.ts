/**
 * A control group for each machine, where the person may make one: its CPU time is counted there. The lab works without.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { LIMITS } from "../models/limits.ts";

const PARENT = "foreshift-lab";
const V2_ROOT = "/sys/fs/cgroup";
const V1_ROOTS = ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpuacct"];

/** Enters the group that is its first argument, then becomes the rest. */
export const ENTER_CGROUP = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"'] as const;

export class Cgroups {
  readonly #root: string | undefined = rootFolder();
  readonly #prefix: string;

  constructor(stateDir: string) {
    this.#prefix = prefixOf(stateDir);
  }

  /** The machine's folder, or undefined where control groups cannot be made. */
  add(machine: string): string | undefined {
    if (this.#root === undefined) return undefined;
    const folder = this.#folder(this.#root, machine);
    try {
      mkdirSync(folder, { recursive: true });
      return folder;
    } catch {
      return undefined;
    }
  }

  /** Its processes have ended. */
  remove(machine: string): void {
    if (this.#root !== undefined) removeIfEmpty(this.#folder(this.#root, machine));
  }

  #folder(root: string, machine: string): string {
    return join(root, PARENT, `${this.#prefix}${machine}`);
  }
}

/** Removes the groups of a lab that was killed; the kernel keeps them until its last process has ended, which is waited for. */
export async function removeCgroups(stateDir: string): Promise<void> {
  const root = rootFolder();
  if (root === undefined) return;
  const parent = join(root, PARENT);
  const deadlineMs = performance.now() + LIMITS.lab.stopTimeoutMs;
  while (existsSync(parent) && performance.now() < deadlineMs) {
    const own = readdirSync(parent).filter((name) => name.startsWith(prefixOf(stateDir)));
    for (const name of own) removeIfEmpty(join(parent, name));
    if (own.length === 0) break;
    await delay(10);
  }
  removeIfEmpty(parent);
}

/** Labs may run side by side, each with an `ep-1`. */
function prefixOf(stateDir: string): string {
  return `${createHash("sha256").update(stateDir).digest("hex").slice(0, 8)}-`;
}

function rootFolder(): string | undefined {
  if (existsSync(join(V2_ROOT, "cgroup.controllers"))) return V2_ROOT;
  return V1_ROOTS.find((folder) => existsSync(join(folder, "cpuacct.usage")));
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // It holds processes or groups of another lab, or is gone.
  }
}
