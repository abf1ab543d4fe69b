/**
 * How the endpoint is doing, read from the kernel: CPU, pressure, memory, drops. What cannot be read is undefined, never guessed.
 */
import { readdir, readFile, readlink } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";

export interface Vitals {
  readonly cpuShare: number | undefined;
  readonly cpuPressure: number | undefined;
  readonly memoryShare: number | undefined;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxDrops: number;
  readonly txDrops: number;
}

/** USER_HZ of Linux, fixed for user space. */
const TICKS_PER_S = 100;
const PAGE_BYTES = 4_096;

/** Counters that only their growth means something of. */
interface Counters {
  readonly atMs: number;
  readonly cpuS: number | undefined;
  readonly pressureS: number | undefined;
}

export class VitalsReader {
  readonly #device: string;
  readonly #cgroup: string | undefined;
  readonly #ownMachine: boolean;
  #last: Counters | undefined;

  constructor(options: { device: string; cgroup?: string | undefined; ownMachine: boolean }) {
    this.#device = options.device;
    this.#cgroup = options.cgroup;
    this.#ownMachine = options.ownMachine;
  }

  /** Shares are over the time since the call before. */
  async read(): Promise<Vitals> {
    const processes = this.#ownMachine ? undefined : await processesOfNamespace();
    const [cpuS, pressureS, cores, memoryShare, network] = await Promise.all([
      this.#cpuSeconds(processes),
      this.#pressureSeconds(),
      this.#cores(),
      this.#memoryShare(processes),
      this.#network(),
    ]);
    const now: Counters = { atMs: performance.now(), cpuS, pressureS };
    const last = this.#last;
    this.#last = now;
    return {
      cpuShare: growth(last, now, "cpuS", cores),
      cpuPressure: growth(last, now, "pressureS", 1),
      memoryShare,
      ...network,
    };
  }

  async #cpuSeconds(processes: readonly ProcessUse[] | undefined): Promise<number | undefined> {
    if (this.#cgroup !== undefined) {
      const usageUs = /usage_usec (\d+)/.exec((await text(join(this.#cgroup, "cpu.stat"))) ?? "")?.[1];
      if (usageUs !== undefined) return Number(usageUs) / 1e6;
      const usageNs = await text(join(this.#cgroup, "cpuacct.usage"));
      if (usageNs !== undefined) return Number(usageNs) / 1e9;
    }
    if (processes !== undefined) return processes.reduce((sum, { cpuS }) => sum + cpuS, 0);
    const fields = (await text("/proc/stat"))?.split("\n")[0]?.trim().split(/\s+/).slice(1).map(Number);
    if (fields === undefined) return undefined;
    const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = fields;
    return (user + nice + system + irq + softirq) / TICKS_PER_S;
  }

  /** What the endpoint may use: its quota where it has one. */
  async #cores(): Promise<number> {
    const all = availableParallelism();
    if (this.#cgroup === undefined) return all;
    const [quota, period] = ((await text(join(this.#cgroup, "cpu.max"))) ?? "").trim().split(" ").map(Number);
    if (quota !== undefined && period !== undefined && quota > 0) return Math.min(all, quota / period);
    const quotaUs = Number(await text(join(this.#cgroup, "cpu.cfs_quota_us")));
    const periodUs = Number(await text(join(this.#cgroup, "cpu.cfs_period_us")));
    return quotaUs > 0 && periodUs > 0 ? Math.min(all, quotaUs / periodUs) : all;
  }

  async #pressureSeconds(): Promise<number | undefined> {
    const path =
      this.#cgroup === undefined ? (this.#ownMachine ? "/proc/pressure/cpu" : undefined) : join(this.#cgroup, "cpu.pressure");
    if (path === undefined) return undefined;
    const totalUs = /^some .*total=(\d+)/m.exec((await text(path)) ?? "")?.[1];
    return totalUs === undefined ? undefined : Number(totalUs) / 1e6;
  }

  async #memoryShare(processes: readonly ProcessUse[] | undefined): Promise<number | undefined> {
    const meminfo = (await text("/proc/meminfo")) ?? "";
    const kilobytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(meminfo)?.[1]);
    const total = kilobytes("MemTotal") * 1_024;
    if (!(total > 0)) return undefined;
    if (processes === undefined) return 1 - (kilobytes("MemAvailable") * 1_024) / total;
    return processes.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0) / total;
  }

  async #network() {
    let [rxBytes, txBytes, rxDrops, txDrops] = [0, 0, 0, 0];
    for (const line of ((await text("/proc/self/net/dev")) ?? "").split("\n").slice(2)) {
      const [name, counters] = line.split(":");
      if (name === undefined || counters === undefined || name.trim() === "lo") continue;
      const fields = counters.trim().split(/\s+/).map(Number);
      rxDrops += fields[3] ?? 0;
      txDrops += fields[11] ?? 0;
      if (name.trim() === this.#device) [rxBytes, txBytes] = [fields[0] ?? 0, fields[8] ?? 0];
    }
    return { rxBytes, txBytes, rxDrops, txDrops };
  }
}

function growth(last: Counters | undefined, now: Counters, counter: "cpuS" | "pressureS", cores: number): number | undefined {
  const [from, to] = [last?.[counter], now[counter]];
  if (last === undefined || from === undefined || to === undefined || now.atMs <= last.atMs) return undefined;
  // A process that ended takes its time out of the sum, which must not read as a negative load.
  return Math.min(1, Math.max(0, (to - from) / ((now.atMs - last.atMs) / 1_000) / cores));
}

interface ProcessUse {
  readonly cpuS: number;
  readonly memoryBytes: number;
}

/** The processes that share this one's network namespace: for an endpoint in a namespace, those are the endpoint. */
async function processesOfNamespace(): Promise<readonly ProcessUse[]> {
  const own = await readlink("/proc/self/ns/net");
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const uses = await Promise.all(pids.map((pid) => useOf(pid, own)));
  return uses.filter((use) => use !== undefined);
}

async function useOf(pid: string, namespace: string): Promise<ProcessUse | undefined> {
  try {
    if ((await readlink(`/proc/${pid}/ns/net`)) !== namespace) return undefined;
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { cpuS: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S, memoryBytes: Number(fields[21]) * PAGE_BYTES };
  } catch {
    return undefined;
  }
}

async function text(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return undefined;
  }
}
