/**
 * Labs of the benchmark's own, each in a home of its own that is gone afterwards: figures do not depend on what ran before, and nothing
 * is left behind when a person interrupts it.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, cpus, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import type { LabOptions } from "../lab/lab-options.ts";
import { bringUpSwarm, type OpenLab, openLab } from "../lab/open-lab.ts";
import type { SpecOverrides } from "../lab/spec.ts";
import { type RunningLab, startLab } from "../lab/supervisor.ts";
import { type Paths, paths } from "../setup/paths.ts";
import { setUp } from "../setup/set-up.ts";
import { forever, interruptible } from "./interruptible.ts";

export interface BenchLabOptions extends Omit<LabOptions, "paths"> {
  readonly spec: SpecOverrides;
}

export interface BenchLab {
  readonly open: OpenLab;
  readonly running: RunningLab;
  /** Unix milliseconds. */
  readonly servesSinceMs: number;
}

/** At most one lab at a time. Once all is over the process is about to exit: who asks for anything then gets no answer. */
export class BenchLabs {
  #begun: { readonly options: BenchLabOptions; readonly lab: Promise<KeptLab> } | undefined;
  #count = 0;
  #isOver = false;

  /** Labs begun so far. */
  get count(): number {
    return this.#count;
  }

  /** The lab that was begun with these very options, or else a fresh one, after the end of any other. */
  async present(options: BenchLabOptions): Promise<BenchLab> {
    if (this.#isOver || this.#begun?.options !== options) await this.end();
    if (this.#begun === undefined) {
      this.#count += 1;
      this.#begun = { options, lab: KeptLab.begin(options) };
    }
    return await this.#begun.lab;
  }

  /** Ends the present lab, if there is one; the next that is asked for is a fresh one. */
  async end(): Promise<void> {
    if (this.#isOver) await forever();
    await this.#endPresent();
  }

  /** Ends everything for good. */
  async close(): Promise<void> {
    this.#isOver = true;
    await this.#endPresent();
  }

  async #endPresent(): Promise<void> {
    const begun = this.#begun;
    const lab = await begun?.lab.catch(() => undefined);
    await lab?.end();
    if (this.#begun === begun) this.#begun = undefined;
  }
}

export async function withLabs<T>(work: (labs: BenchLabs) => Promise<T>): Promise<T> {
  await setUp({ quiet: true });
  const labs = new BenchLabs();
  return await interruptible(
    () => work(labs),
    () => labs.close(),
  );
}

/** For a benchmark that needs but one. */
export function withLab<T>(options: BenchLabOptions, work: (lab: BenchLab) => Promise<T>): Promise<T> {
  return withLabs(async (labs) => await work(await labs.present(options)));
}

/** A lab that serves, and the folders that go with it. */
class KeptLab implements BenchLab {
  readonly open: OpenLab;
  readonly running: RunningLab;
  readonly servesSinceMs = Date.now();
  readonly #where: Paths;
  #ended: Promise<void> | undefined;

  private constructor(parts: Pick<BenchLab, "open" | "running">, where: Paths) {
    this.open = parts.open;
    this.running = parts.running;
    this.#where = where;
  }

  /** Leaves nothing when it fails. */
  static async begin(options: BenchLabOptions): Promise<KeptLab> {
    const home = await mkdtemp(join(tmpdir(), "foreshift-bench-"));
    const where = { ...paths({ ...process.env, FORESHIFT_HOME: home }), bin: paths().bin };
    let running: RunningLab | undefined;
    let open: OpenLab | undefined;
    try {
      running = await startLab({ ...options, paths: where });
      open = await openLab(running.connection, running.processors);
      await bringUpSwarm(open, running.spec, options.sessions, options.onProgress);
      return new KeptLab({ open, running }, where);
    } catch (thrown) {
      await endLab({ open, running }, where);
      throw thrown;
    }
  }

  end(): Promise<void> {
    this.#ended ??= endLab(this, this.#where);
    return this.#ended;
  }
}

interface Parts {
  readonly open: OpenLab | undefined;
  readonly running: RunningLab | undefined;
}

async function endLab({ open, running }: Parts, { home, run }: Paths): Promise<void> {
  try {
    await open?.close();
    await running?.stop();
  } finally {
    await rm(home, { recursive: true, force: true });
    await rm(run, { recursive: true, force: true });
  }
}

/** What a figure was measured on. */
export function machine(): {
  readonly cores: number;
  readonly model: string;
  readonly memoryBytes: number;
  readonly node: string;
} {
  return {
    cores: availableParallelism(),
    model: cpus()[0]?.model ?? "unknown",
    memoryBytes: totalmem(),
    node: process.version,
  };
}
