/** What a virtual machine's host took of its CPU: time in which nothing here could run, whatever it was to do by then. */
import { readFile } from "node:fs/promises";

/** Since the machine started, in the kernel's ticks. */
export interface CpuTicks {
  readonly all: number;
  readonly stolen: number;
}

/** Fields of the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in user's already. */
const FIELDS = 8;

export async function cpuTicks(): Promise<CpuTicks> {
  const [line = ""] = (await readFile("/proc/stat", "utf8")).split("\n");
  const ticks = line
    .split(/\s+/)
    .slice(1, 1 + FIELDS)
    .map(Number);
  return { all: ticks.reduce((sum, one) => sum + one, 0), stolen: ticks.at(-1) ?? 0 };
}

/** Of what was wanted or idle in between: 0 to 1. */
export function stolenShare(before: CpuTicks, after: CpuTicks): number {
  const all = after.all - before.all;
  return all > 0 ? (after.stolen - before.stolen) / all : 0;
}
