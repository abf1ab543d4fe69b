/**
 * Loopback ports for the embedded services: near the usual ones, never one that is taken, the same again after a restart.
 */
import { once } from "node:events";
import { mkdir, readdir, readFile, readlink } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { ForeshiftError } from "../models/errors.ts";
import { readIfThere, writePrivate } from "./files.ts";
import { SETUP_LIMITS } from "./limits.ts";
import { type Lock, tryLock } from "./lock.ts";

export const LOOPBACK = "127.0.0.1";
/** State of a listening socket in `/proc/net/tcp`. */
const TCP_LISTEN = "0A";

/** The usual ports, one range of `portsTriedMax` for each. */
export const DEFAULT_PORTS = {
  temporal: 7233,
  "temporal-ui": 8233,
  codec: 8433,
  postgres: 5433,
  openbao: 8200,
  "openbao-cluster": 8301,
} as const;
export type PortName = keyof typeof DEFAULT_PORTS;

/** The port used last time if it is free, else the first free one from the usual one on; remembered in `home`. */
export async function choosePort(home: string, name: PortName): Promise<number> {
  const { port, lock } = await claimPort(home, name);
  lock.release();
  return port;
}

/**
 * Starts a server on ports that are chosen like that, and claimed until it listens: who starts at the same moment takes others. Where
 * a stranger took one in between, it is started again on others.
 */
export async function onChosenPorts<N extends PortName, T>(
  home: string,
  names: readonly N[],
  start: (ports: Readonly<Record<N, number>>) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    const claims = new Map<N, Claim>();
    try {
      for (const name of names) claims.set(name, await claimPort(home, name));
      const ports = Object.fromEntries([...claims].map(([name, { port }]) => [name, port])) as Record<N, number>;
      return await start(ports);
    } catch (thrown) {
      const free = await Promise.all([...claims.values()].map(({ port }) => isFree(port)));
      if (attempt === SETUP_LIMITS.startAttemptsMax || free.every(Boolean)) throw thrown;
    } finally {
      for (const { lock } of claims.values()) lock.release();
    }
  }
}

interface Claim {
  readonly port: number;
  readonly lock: Lock;
}

async function claimPort(home: string, name: PortName): Promise<Claim> {
  const file = join(home, "ports", name);
  const remembered = Number(await readIfThere(file));
  const known = remembered > 0 ? await tryClaim(remembered) : undefined;
  if (known !== undefined) return known;
  const first = DEFAULT_PORTS[name];
  for (let port = first; port < first + SETUP_LIMITS.portsTriedMax; port += 1) {
    const claim = await tryClaim(port);
    if (claim === undefined) continue;
    await mkdir(join(home, "ports"), { recursive: true, mode: 0o700 });
    await writePrivate(file, `${port}\n`);
    return claim;
  }
  throw new ForeshiftError("NOT_READY", {
    value: name,
    detail: `no free port between ${first} and ${first + SETUP_LIMITS.portsTriedMax - 1}`,
  });
}

/** Undefined for a port that is taken, or about to be. */
async function tryClaim(port: number): Promise<Claim | undefined> {
  const lock = await tryLock(`port ${port}`);
  if (lock === undefined) return undefined;
  if (await isFree(port)) return { port, lock };
  lock.release();
  return undefined;
}

export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: LOOPBACK, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/**
 * Who listens on a loopback port of this network namespace: the process asked about, another, or nobody. Two starts at the same moment may
 * find the same port free; whoever comes second must not take the other's server for its own.
 */
export async function listenerOf(port: number, pid: number): Promise<"itself" | "another" | "nobody"> {
  const inodes = await listeningInodes(port);
  if (inodes.size === 0) return "nobody";
  const folder = `/proc/${pid}/fd`;
  const descriptors = await readdir(folder).catch(() => []);
  const links = await Promise.all(descriptors.map((name) => readlink(join(folder, name)).catch(() => "")));
  return links.some((link) => inodes.has(link)) ? "itself" : "another";
}

/** As `/proc/PID/fd` names sockets. Columns of `/proc/net/tcp`: local address as hex `IP:PORT` second, state fourth, inode tenth. */
async function listeningInodes(port: number): Promise<ReadonlySet<string>> {
  const lines = (await readFile("/proc/net/tcp", "utf8")).trim().split("\n").slice(1);
  const rows = lines.map((line) => line.trim().split(/\s+/));
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const found = rows.filter(([, local = "", , state]) => local.endsWith(wanted) && state === TCP_LISTEN);
  return new Set(found.map((row) => `socket:[${row[9]}]`));
}

/** Starts a server on a port that nobody has, and on another one where somebody else took it in between. */
export async function onFreePort<T>(start: (port: number) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    try {
      return await start(port);
    } catch (thrown) {
      if (attempt === SETUP_LIMITS.startAttemptsMax || (await isFree(port))) throw thrown;
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, LOOPBACK);
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}
