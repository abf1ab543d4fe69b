/**
 * A lab of the benchmark's own, in a home of its own that is gone afterwards: figures do not depend on what ran before.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, cpus, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { bringUpSwarm, type OpenLab, openLab } from "../lab/open-lab.ts";
import type { SpecOverrides } from "../lab/spec.ts";
import { type RunningLab, startLab } from "../lab/supervisor.ts";
import type { VaultFaults } from "../lab/vault-faults.ts";
import { paths } from "../setup/paths.ts";
import { setUp } from "../setup/set-up.ts";

export interface BenchLabOptions {
  readonly clients: number;
  readonly sessions: number;
  readonly endpoints: number;
  readonly ghosts: number;
  readonly packetsPerSecond: number;
  readonly tcpBytesPerSecond?: number;
  readonly spareSessions?: number;
  readonly packetAllowancePerSecond?: number;
  readonly spec: SpecOverrides;
  readonly vaultFaults?: VaultFaults;
  readonly onProgress: (text: string) => void;
}

export interface BenchLab {
  readonly open: OpenLab;
  readonly running: RunningLab;
}

export async function withLab<T>(options: BenchLabOptions, work: (lab: BenchLab) => Promise<T>): Promise<T> {
  await setUp({ quiet: true });
  const home = await mkdtemp(join(tmpdir(), "foreshift-bench-"));
  const where = { ...paths({ ...process.env, FORESHIFT_HOME: home }), bin: paths().bin };
  let running: RunningLab | undefined;
  let open: OpenLab | undefined;
  try {
    running = await startLab({ ...options, paths: where });
    open = await openLab(running.connection);
    await bringUpSwarm(open, running.spec, options.sessions, options.onProgress);
    return await work({ open, running });
  } finally {
    await open?.close();
    await running?.stop();
    await rm(home, { recursive: true, force: true });
    await rm(where.run, { recursive: true, force: true });
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
