/**
 * A machine that runs out of memory: a process in it takes real memory at a steady rate. Once all processes together hold what the
 * machine has, the others are killed, as the kernel's OOM killer would, for as long as the leak holds on to it.
 */
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { processesOf, spawnIn } from "../namespace.ts";
import type { BuildUpOptions, FaultAtWork } from "./course.ts";

const LEAKING = fileURLToPath(new URL("./leaking-process.ts", import.meta.url));
const LOOK_MS = 200;
/** Of every Linux that Node runs on by default. */
const PAGE_BYTES = 4_096;

/** What the leaking process is told: its own size after `buildUpMs`, and the size at which it stops. */
export interface Leak {
  readonly untilBytes: number;
  readonly limitBytes: number;
  readonly buildUpMs: number;
}

export class MemoryLeak implements FaultAtWork {
  readonly begun: Promise<void>;
  readonly #endpoint: string;
  readonly #memoryBytes: number;
  readonly #child: ChildProcess;
  readonly #timer: NodeJS.Timeout;
  #outOfMemory = false;

  constructor({ endpoint, buildUpMs, onFailure }: BuildUpOptions, memoryBytes: number) {
    this.#endpoint = endpoint;
    this.#memoryBytes = memoryBytes;
    const others = processesOf(endpoint).reduce((sum, { pid }) => sum + residentBytes(pid), 0);
    const leak: Leak = { untilBytes: memoryBytes - others, limitBytes: memoryBytes, buildUpMs };
    const child = spawnIn(endpoint, [process.execPath, LEAKING, JSON.stringify(leak)], { stdio: "ignore" });
    this.#child = child;
    this.begun = new Promise((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", reject);
    });
    child.once("exit", (code) => {
      if (code !== null) onFailure(new Error(`the leaking process ended with ${code}`));
    });
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#child.kill("SIGKILL");
  }

  /** What is started again meanwhile finds no memory either. */
  #look(): void {
    const all = processesOf(this.#endpoint);
    this.#outOfMemory ||= all.reduce((sum, { pid }) => sum + residentBytes(pid), 0) >= this.#memoryBytes;
    if (!this.#outOfMemory) return;
    for (const { pid } of all) if (pid !== this.#child.pid) kill(pid);
  }
}

/** Memory that a process holds, shared pages counted in full, as the agents count it; 0 of one that has ended. */
function residentBytes(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]) * PAGE_BYTES;
  } catch {
    return 0;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended while we looked.
  }
}
