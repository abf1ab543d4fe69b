/**
 * How the endpoint is doing, read from the kernel: CPU, pressure, memory, interfaces, errors. What cannot be read is left out, never
 * guessed.
 */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { type Counters, interfaceCounters, MachineErrors, networkErrors, readInterfaces } from "./kernel-counters.ts";
import { NamespaceReader, type NamespaceUse } from "./namespace-use.ts";
import { type PressureResource, stalledS } from "./pressure.ts";
import { fileNumber, fileText } from "./proc-files.ts";

export interface Vitals {
  readonly cpuShare: number | undefined;
  readonly cpuPressure: number | undefined;
  readonly memoryShare: number | undefined;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxDrops: number;
  readonly txDrops: number;
}

/** By the names of models/telemetry.ts. */
export interface MeasuredVitals {
  readonly vitals: Vitals;
  readonly gauges: Readonly<Record<string, number>>;
  readonly counters: Readonly<Record<string, number>>;
}

/** USER_HZ of Linux, fixed for user space. */
const TICKS_PER_S = 100;

interface CpuTimes {
  readonly userS: number | undefined;
  readonly systemS: number | undefined;
  readonly usedS: number | undefined;
}

/** What only its growth means something of. */
interface Growing {
  readonly atMs: number;
  readonly usedS: number | undefined;
  readonly pressureS: number | undefined;
}

export class VitalsReader {
  readonly #device: string;
  readonly #cgroup: string | undefined;
  readonly #ownMachine: boolean;
  readonly #memoryBytes: number | undefined;
  readonly #namespace: NamespaceReader | undefined;
  readonly #machine: MachineErrors;
  #last: Growing | undefined;

  constructor(options: {
    device: string;
    cgroup?: string | undefined;
    ownMachine: boolean;
    memoryBytes?: number | undefined;
  }) {
    this.#device = options.device;
    this.#memoryBytes = options.memoryBytes;
    this.#cgroup = options.cgroup;
    this.#ownMachine = options.ownMachine;
    this.#namespace = options.ownMachine ? undefined : new NamespaceReader();
    this.#machine = new MachineErrors(options.cgroup);
  }

  /** Shares are over the time since the call before. */
  read(): MeasuredVitals {
    const atMs = performance.now();
    const use = this.#namespace?.read(atMs);
    const cores = this.#cores();
    const machine = machineTimes();
    const times = this.#cgroupTimes() ?? (use === undefined ? machine : timesOf(use));
    const pressureS = this.#pressureS("cpu", "some");
    const now: Growing = { atMs, usedS: times?.usedS, pressureS };
    const [last, memory, interfaces] = [this.#last, this.#memory(use), readInterfaces()];
    this.#last = now;
    const own = interfaces.find(({ name }) => name === this.#device)?.columns;
    const total = (column: number) => interfaces.reduce((sum, { columns }) => sum + (columns[column] ?? 0), 0);
    const perCore = (seconds: number | undefined) => (seconds === undefined ? undefined : seconds / cores);
    return {
      vitals: {
        cpuShare: growth(last, now, "usedS", cores),
        cpuPressure: growth(last, now, "pressureS", 1),
        memoryShare: memory.share,
        rxBytes: own?.[0] ?? 0,
        txBytes: own?.[8] ?? 0,
        rxDrops: total(3),
        txDrops: total(11),
      },
      gauges: known({ memoryBytes: memory.bytes }),
      counters: {
        ...known({
          cpuUserS: perCore(times?.userS),
          cpuSystemS: perCore(times?.systemS),
          cpuStealS: machine === undefined ? undefined : machine.stealS / availableParallelism(),
          cpuWaitS: use?.waitS,
          memoryPressureS: this.#pressureS("memory", "some"),
          memoryFullPressureS: this.#pressureS("memory", "full"),
          ioPressureS: this.#pressureS("io", "some"),
        }),
        ...interfaceCounters(interfaces),
        ...networkErrors(),
        ...this.#machine.read(),
      },
    };
  }

  #cgroupTimes(): CpuTimes | undefined {
    if (this.#cgroup === undefined) return undefined;
    const stat = fileText(join(this.#cgroup, "cpu.stat")) ?? "";
    const us = (name: string) => /\d+/.exec(new RegExp(`^${name} \\d+`, "m").exec(stat)?.[0] ?? "")?.[0];
    const [usedUs, userUs, systemUs] = [us("usage_usec"), us("user_usec"), us("system_usec")];
    if (usedUs !== undefined)
      return { usedS: Number(usedUs) / 1e6, userS: Number(userUs) / 1e6, systemS: Number(systemUs) / 1e6 };
    const ns = (name: string) => fileNumber(join(this.#cgroup ?? "", name));
    const usedNs = ns("cpuacct.usage");
    if (usedNs === undefined) return undefined;
    const [userNs, systemNs] = [ns("cpuacct.usage_user"), ns("cpuacct.usage_sys")];
    const seconds = (value: number | undefined) => (value === undefined ? undefined : value / 1e9);
    return { usedS: usedNs / 1e9, userS: seconds(userNs), systemS: seconds(systemNs) };
  }

  /** What the endpoint may use: its quota where it has one. */
  #cores(): number {
    const all = availableParallelism();
    if (this.#cgroup === undefined) return all;
    const [quota, period] = (fileText(join(this.#cgroup, "cpu.max")) ?? "").trim().split(" ").map(Number);
    if (quota !== undefined && period !== undefined && quota > 0) return Math.min(all, quota / period);
    const quotaUs = fileNumber(join(this.#cgroup, "cpu.cfs_quota_us")) ?? 0;
    const periodUs = fileNumber(join(this.#cgroup, "cpu.cfs_period_us")) ?? 0;
    return quotaUs > 0 && periodUs > 0 ? Math.min(all, quotaUs / periodUs) : all;
  }

  #pressureS(resource: PressureResource, kind: "some" | "full"): number | undefined {
    return stalledS(resource, kind, { cgroup: this.#cgroup, ownMachine: this.#ownMachine });
  }

  #memory(use: NamespaceUse | undefined): { readonly bytes: number | undefined; readonly share: number | undefined } {
    const meminfo = fileText("/proc/meminfo") ?? "";
    const bytesOf = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(meminfo)?.[1]) * 1_024;
    const machine = bytesOf("MemTotal");
    const bytes = use === undefined ? machine - bytesOf("MemAvailable") : use.memoryBytes;
    const total = this.#memoryBytes ?? machine;
    if (!(total > 0) || !Number.isFinite(bytes)) return { bytes: undefined, share: undefined };
    return { bytes, share: Math.min(1, bytes / total) };
  }
}

/** Of the whole machine. */
function machineTimes(): (CpuTimes & { readonly stealS: number }) | undefined {
  const fields = fileText("/proc/stat")?.split("\n")[0]?.trim().split(/\s+/).slice(1).map(Number);
  if (fields === undefined) return undefined;
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = fields;
  const [userS, systemS] = [(user + nice) / TICKS_PER_S, (system + irq + softirq) / TICKS_PER_S];
  return { userS, systemS, usedS: userS + systemS, stealS: steal / TICKS_PER_S };
}

function timesOf({ userS, systemS }: NamespaceUse): CpuTimes {
  return { userS, systemS, usedS: userS + systemS };
}

function growth(last: Growing | undefined, now: Growing, counter: "usedS" | "pressureS", cores: number): number | undefined {
  const [from, to] = [last?.[counter], now[counter]];
  if (last === undefined || from === undefined || to === undefined || now.atMs <= last.atMs) return undefined;
  return Math.min(1, Math.max(0, (to - from) / ((now.atMs - last.atMs) / 1_000) / cores));
}

function known(values: Readonly<Record<string, number | undefined>>): Counters {
  return Object.fromEntries(
    Object.entries(values).flatMap(([name, value]) => (value === undefined || !Number.isFinite(value) ? [] : [[name, value]])),
  );
}
