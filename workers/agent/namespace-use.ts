/**
 * What the processes of this network namespace use: an endpoint that shares its machine is the processes in its namespace.
 */
import { readlinkSync } from "node:fs";
import { LIMITS } from "../../models/limits.ts";
import { fileText, namesIn } from "./proc-files.ts";

/** USER_HZ of Linux, fixed for user space. */
const TICKS_PER_S = 100;
const PAGE_BYTES = 4_096;

export interface NamespaceUse {
  /** Grow only: a process that ends leaves what it used. */
  readonly userS: number;
  readonly systemS: number;
  /** Time that threads were ready and waited for a CPU; undefined where the kernel does not count it. */
  readonly waitS: number | undefined;
  readonly memoryBytes: number;
}

interface ProcessUse {
  /** Tells a process from a later one of the same number. */
  readonly startedTicks: string;
  readonly userS: number;
  readonly systemS: number;
  readonly memoryBytes: number;
}

export class NamespaceReader {
  readonly #own = readlinkSync("/proc/self/ns/net");
  #pids: readonly string[] = [];
  #searchedAtMs = Number.NEGATIVE_INFINITY;
  #last = new Map<string, ProcessUse>();
  /** Wait of each thread, nanoseconds, by `process/thread started`. */
  #waits = new Map<string, number>();
  #userS = 0;
  #systemS = 0;
  #waitS: number | undefined;

  read(nowMs: number): NamespaceUse {
    if (nowMs - this.#searchedAtMs >= LIMITS.agent.processSearchMs) {
      this.#pids = namesIn("/proc").filter((name) => /^\d+$/.test(name) && namespaceOf(name) === this.#own);
      this.#searchedAtMs = nowMs;
    }
    const uses = new Map<string, ProcessUse>();
    const waits = new Map<string, number>();
    for (const pid of this.#pids) {
      const use = useOf(pid);
      if (use === undefined) continue;
      uses.set(pid, use);
      this.#addCpu(pid, use);
      this.#addWaits(`${pid} ${use.startedTicks}`, pid, waits);
    }
    [this.#last, this.#waits] = [uses, waits];
    const memoryBytes = [...uses.values()].reduce((sum, use) => sum + use.memoryBytes, 0);
    return { userS: this.#userS, systemS: this.#systemS, waitS: this.#waitS, memoryBytes };
  }

  #addCpu(pid: string, use: ProcessUse): void {
    const before = this.#last.get(pid);
    const same = before?.startedTicks === use.startedTicks ? before : undefined;
    this.#userS += Math.max(0, use.userS - (same?.userS ?? 0));
    this.#systemS += Math.max(0, use.systemS - (same?.systemS ?? 0));
  }

  #addWaits(process: string, pid: string, waits: Map<string, number>): void {
    for (const thread of namesIn(`/proc/${pid}/task`)) {
      // Time on a CPU, time waiting for one, slices; nanoseconds.
      const waitNs = Number(fileText(`/proc/${pid}/task/${thread}/schedstat`)?.split(" ")[1]);
      if (!Number.isFinite(waitNs)) continue;
      const name = `${process}/${thread}`;
      waits.set(name, waitNs);
      this.#waitS = (this.#waitS ?? 0) + Math.max(0, waitNs - (this.#waits.get(name) ?? 0)) / 1e9;
    }
  }
}

function namespaceOf(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return undefined;
  }
}

function useOf(pid: string): ProcessUse | undefined {
  const stat = fileText(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [userS, systemS] = [Number(fields[11]) / TICKS_PER_S, Number(fields[12]) / TICKS_PER_S];
  return { startedTicks: fields[19] ?? "", userS, systemS, memoryBytes: Number(fields[21]) * PAGE_BYTES };
}
