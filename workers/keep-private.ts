/**
 * What a process has in memory stays there when it dies: no core is written, and reports of crashes leave the environment out. Children
 * inherit it.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { messageOf } from "../models/errors.ts";

const TIMEOUT_MS = 5_000;

/** Undefined when it holds; else why it does not. Node has no call for it: util-linux's `prlimit` sets it from outside. */
export function keepMemoryPrivate(): string | undefined {
  if (process.report !== undefined) process.report.excludeEnv = true;
  if (writesNone()) return undefined;
  const made = spawnSync("prlimit", ["--pid", String(process.pid), "--core=0:0"], { timeout: TIMEOUT_MS, encoding: "utf8" });
  if (made.status === 0) return undefined;
  return made.error === undefined ? made.stderr.trim() : messageOf(made.error);
}

/** Of a machine whose first process has seen to it. */
function writesNone(): boolean {
  try {
    return /^Max core file size\s+0\s+0\s/m.test(readFileSync("/proc/self/limits", "utf8"));
  } catch {
    return false;
  }
}
