/** Worker processes of Foreshift, started as they are in earnest, with what they log at hand. */
import { type ChildProcess, spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { Socket } from "node:net";
import { join } from "node:path";
import { NO_RETRY, type UnixHttpClient } from "../../drivers/http-unix.ts";
import { eventually } from "./eventually.ts";

const PROJECT = join(import.meta.dirname, "..", "..");
/** What a failed test has left behind neither keeps the test's process from ending nor outlives it. */
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export interface WorkerProcess {
  readonly child: ChildProcess;
  /** Everything on its standard error so far. */
  log(): string;
  kill(signal?: NodeJS.Signals): Promise<void>;
}

/** `prefix` comes before the command, e.g. `["ip", "netns", "exec", "ep-1"]`. */
export async function startWorker(options: {
  worker: string;
  config: Readonly<Record<string, unknown>>;
  configPath: string;
  prefix?: readonly string[];
}): Promise<WorkerProcess> {
  await writeFile(options.configPath, JSON.stringify(options.config), { mode: 0o600 });
  const [file, ...args] = [
    ...(options.prefix ?? []),
    process.execPath,
    join(PROJECT, "workers", options.worker),
    options.configPath,
  ];
  const child = spawn(file, args, { stdio: ["ignore", "ignore", "pipe"] });
  running.add(child);
  child.once("exit", () => running.delete(child));
  child.unref();
  if (child.stderr instanceof Socket) child.stderr.unref();
  let log = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (log += text));
  return {
    child,
    log: () => log,
    kill: async (signal = "SIGKILL") => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.ref();
      child.kill(signal);
      await ended;
    },
  };
}

/** Waits until the worker's API answers on `path`. */
export async function awaitApi(client: UnixHttpClient, path: string): Promise<void> {
  await eventually(
    `${client.name} answers`,
    () =>
      client.get(path, { timeoutMs: 500, retry: NO_RETRY }).then(
        () => true,
        () => false,
      ),
    15_000,
  );
}
