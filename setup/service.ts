/**
 * One child process that serves an address: started with its output in a log file, awaited by condition, ended with its parent.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { open, readFile, readlink, realpath, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { writePrivate } from "./files.ts";
import { SETUP_LIMITS } from "./limits.ts";
import { withLock } from "./lock.ts";
import { makePaths } from "./paths.ts";
import { listenerOf } from "./ports.ts";

export interface ServiceOptions {
  /** State that survives; its `log/` takes the output. */
  readonly home: string;
  /** Short folder for unix sockets, mode 0700. */
  readonly run: string;
}

export interface ServiceExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Whether `stop()` was what ended it. */
  readonly expected: boolean;
}

export interface Service {
  readonly name: string;
  /** As a client wants it: host:port, or a URL without credentials. */
  readonly address: string;
  /** Undefined for an external service. */
  readonly pid: number | undefined;
  /** Somebody else's: `stop()` leaves it alone and `onExit` never calls. */
  readonly external: boolean;
  stop(): Promise<void>;
  /** Called once, at once if it has ended already. */
  onExit(callback: (exit: ServiceExit) => void): void;
}

export interface ChildSpec {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Ends it in order. */
  readonly stopSignal: "SIGTERM" | "SIGINT";
  /** What it gets when its parent dies without a word. */
  readonly orphanSignal: "KILL" | "INT";
  /** Run in a user namespace of its own, an ordinary user to itself. */
  readonly asOrdinaryUser?: boolean;
  /** Loopback ports that it is told to listen on. */
  readonly ports: readonly number[];
  /** Throws or returns false while it does not serve yet. Asked once the ports are its own. */
  readonly isReady: (child: Child) => Promise<boolean>;
}

export interface Child {
  readonly pid: number;
  readonly exited: Promise<ServiceExit>;
  stop(): Promise<void>;
}

/** Starts it and waits until it serves. NOT_READY with the last log lines when it ends or stays silent. */
export function startChild(options: ServiceOptions, spec: ChildSpec): Promise<Child> {
  return withLock(`service ${spec.name} ${options.home}`, () => startAlone(options, spec));
}

async function startAlone(options: ServiceOptions, spec: ChildSpec): Promise<Child> {
  const logFile = join(options.home, "log", `${spec.name}.log`);
  await makePaths({ ...options, log: join(options.home, "log") });
  await awaitPredecessor(options.home, spec.name);
  const log = await open(logFile, "a", 0o600);
  const logStart = (await log.stat()).size;
  const process = spawnService(spec, log.fd, options.home);
  const child = asChild(process, spec, options.home);
  try {
    await spawned(process, spec);
    await writePrivate(pidFile(options.home, spec.name), `${child.pid}\n`);
    await awaitReady(child, spec);
    return child;
  } catch (thrown) {
    await child.stop();
    if (thrown instanceof ForeshiftError) throw thrown;
    const tail = await logTail(logFile, logStart);
    throw new ForeshiftError("NOT_READY", { value: spec.name, detail: `${messageOf(thrown)}; ${logFile} ends with: ${tail}` });
  } finally {
    await log.close();
  }
}

/** A running child as a service. */
export function asService(name: string, address: string, child: Child): Service {
  return {
    name,
    address,
    pid: child.pid,
    external: false,
    stop: () => child.stop(),
    onExit: (callback) => void child.exited.then((exit) => callback(exit)),
  };
}

export function externalService(name: string, address: string): Service {
  return { name, address, pid: undefined, external: true, stop: async () => undefined, onExit: () => undefined };
}

/** The command line that runs a child which does not outlive its parent. */
export function childLine(
  spec: Pick<ChildSpec, "command" | "args" | "orphanSignal" | "asOrdinaryUser">,
): [command: string, ...args: string[]] {
  // What they hold in memory is written to no disk when they crash.
  const bound = ["--pdeathsig", spec.orphanSignal, "--", "prlimit", "--core=0:0", "--", spec.command, ...spec.args];
  if (spec.asOrdinaryUser !== true) return ["setpriv", ...bound];
  // The kernel forgets the parent-death signal when credentials change, so setpriv comes after unshare.
  return ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--", "setpriv", ...bound];
}

function spawnService(spec: ChildSpec, logFd: number, home: string): ChildProcess {
  const [command, ...args] = childLine(spec);
  // Temporal makes its database for everybody to read; the mask is the child's from its first moment.
  const before = process.umask(0o077);
  try {
    return spawn(command, args, {
      stdio: ["ignore", logFd, logFd],
      cwd: home,
      // A service needs nothing of this environment, least of all other services' credentials.
      env: { PATH: process.env.PATH ?? "", HOME: home, LANG: "C", LC_ALL: "C", TZ: "UTC", ...spec.env },
    });
  } finally {
    process.umask(before);
  }
}

function asChild(process: ChildProcess, spec: ChildSpec, home: string): Child {
  let stopping = false;
  const exited = new Promise<ServiceExit>((resolve) => {
    process.once("error", () => resolve({ code: null, signal: null, expected: stopping }));
    process.once("exit", (code, signal) => resolve({ code, signal, expected: stopping }));
  });
  const stop = async (): Promise<void> => {
    stopping = true;
    process.kill(spec.stopSignal);
    const grace = new AbortController();
    const patience = delay(SETUP_LIMITS.stopGraceMs, undefined, { signal: grace.signal });
    await Promise.race([exited, patience.then(() => process.kill("SIGKILL"))]);
    patience.catch(() => undefined);
    grace.abort();
    await exited;
    await rm(pidFile(home, spec.name), { force: true });
  };
  return {
    get pid() {
      return process.pid ?? 0;
    },
    exited,
    stop,
  };
}

function spawned(process: ChildProcess, spec: ChildSpec): Promise<void> {
  return new Promise((resolve, reject) => {
    process.once("spawn", resolve);
    process.once("error", (error) =>
      reject(new ForeshiftError("MISSING_TOOL", { value: process.spawnfile, detail: `${spec.name}: ${error.message}` })),
    );
  });
}

async function awaitReady(child: Child, spec: ChildSpec): Promise<void> {
  let ended: ServiceExit | undefined;
  void child.exited.then((exit) => {
    ended = exit;
  });
  const deadline = Date.now() + SETUP_LIMITS.serviceReadyTimeoutMs;
  let last = "it does not answer";
  while (Date.now() < deadline) {
    if (ended !== undefined) throw new Error(`it ended with ${ended.signal ?? `exit code ${ended.code}`}`);
    const listeners = await Promise.all(spec.ports.map((port) => listenerOf(port, child.pid)));
    const taken = spec.ports.filter((_, at) => listeners[at] === "another");
    if (taken.length > 0) throw new Error(`another process listens on port ${taken.join(" and ")}`);
    try {
      if (listeners.every((listener) => listener === "itself") && (await spec.isReady(child))) return;
    } catch (thrown) {
      last = messageOf(thrown);
    }
    await delay(SETUP_LIMITS.readyPollMs);
  }
  throw new Error(`not ready after ${SETUP_LIMITS.serviceReadyTimeoutMs} ms: ${last}`);
}

/**
 * A parent that was killed may have left a child that is about to end. Two at once on the same data must not be, so it is
 * waited for, and refused if it stays: then it belongs to a parent that lives.
 */
async function awaitPredecessor(home: string, name: string): Promise<void> {
  const pid = Number(await readFile(pidFile(home, name), "utf8").catch(() => "0"));
  if (!(pid > 0)) return;
  const folder = await realpath(home);
  const start = Date.now();
  while (await worksIn(pid, folder)) {
    // A parent that was killed this moment still looks alive.
    const patienceMs = (await isOrphan(pid)) ? SETUP_LIMITS.predecessorTimeoutMs : SETUP_LIMITS.ownedPredecessorTimeoutMs;
    if (Date.now() - start > patienceMs) {
      throw new ForeshiftError("SOCKET_IN_USE", { value: `${name} of ${home} (process ${pid})` });
    }
    await delay(SETUP_LIMITS.readyPollMs);
  }
}

/** A process id may have been given to somebody else since; ours work in their home. */
async function worksIn(pid: number, home: string): Promise<boolean> {
  const folder = await readlink(`/proc/${pid}/cwd`).catch(() => "");
  return folder === home || folder.startsWith(`${home}/`);
}

async function isOrphan(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  const parent = Number(/^PPid:\s+(\d+)/m.exec(status)?.[1] ?? 1);
  const parentName = await readFile(`/proc/${parent}/comm`, "utf8").catch(() => "");
  return parent === 1 || !/node|MainThread/.test(parentName);
}

async function logTail(file: string, from: number): Promise<string> {
  const content = await readFile(file).catch(() => Buffer.alloc(0));
  const start = Math.max(from, content.length - SETUP_LIMITS.logTailBytes);
  const lines = content.subarray(start).toString("utf8").trim().split("\n");
  return lines.slice(-SETUP_LIMITS.logTailLines).join(" | ") || "nothing";
}

function pidFile(home: string, name: string): string {
  return join(home, `${name}.pid`);
}
