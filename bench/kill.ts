/**
 * Kills a process that somebody else started for us, found by its command line: the reflex lives in a PID namespace whose numbers are
 * not ours.
 */
import { readdir, readFile } from "node:fs/promises";
import { ForeshiftError } from "../models/errors.ts";

/** SIGKILL to every process that runs `program` with an argument below `folder`. UNREACHABLE when there is none. */
export async function killByConfig(program: string, folder: string): Promise<void> {
  let killed = 0;
  for (const entry of await readdir("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const commandLine = await readFile(`/proc/${entry}/cmdline`, "utf8").catch(() => "");
    const args = commandLine.split("\0");
    if (!args[0]?.endsWith("node") || !args.some((arg) => arg.endsWith(program)) || !args.some((arg) => arg.startsWith(folder)))
      continue;
    process.kill(Number(entry), "SIGKILL");
    killed += 1;
  }
  if (killed === 0) throw new ForeshiftError("UNREACHABLE", { field: program, value: folder, detail: "no such process runs" });
}
