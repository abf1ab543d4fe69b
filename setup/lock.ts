/**
 * One at a time across processes. The lock is an abstract socket: the kernel releases it when its holder dies, so there is
 * never a stale one to clean up.
 */
import { createHash } from "node:crypto";
import { createServer, type Server } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { SETUP_LIMITS } from "./limits.ts";

/** Held until `release()`, or until its process ends. */
export interface Lock {
  release(): void;
}

/** Undefined when somebody else holds `name`. */
export async function tryLock(name: string): Promise<Lock | undefined> {
  const held = await tryListen(addressOf(name));
  return held === undefined ? undefined : { release: () => void held.close() };
}

/** Runs `work` while nobody else holds `name`; `onWait` is called once if it has to wait. */
export async function withLock<T>(name: string, work: () => Promise<T>, onWait: () => void = () => undefined): Promise<T> {
  const lock = await acquire(name, onWait);
  try {
    return await work();
  } finally {
    lock.release();
  }
}

async function acquire(name: string, onWait: () => void): Promise<Lock> {
  for (let waited = false; ; waited = true) {
    const held = await tryLock(name);
    if (held !== undefined) return held;
    if (!waited) onWait();
    await delay(SETUP_LIMITS.lockPollMs);
  }
}

function addressOf(name: string): string {
  return `\0foreshift-${createHash("sha256").update(name).digest("hex")}`;
}

function tryListen(address: string): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(undefined);
      else reject(error);
    });
    server.listen(address, () => resolve(server));
  });
}
