/**
 * One at a time across processes. The lock is an abstract socket: the kernel releases it when its holder dies, so there is
 * never a stale one to clean up.
 */
import { createHash } from "node:crypto";
import { createServer, type Server } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { SETUP_LIMITS } from "./limits.ts";

/** Runs `work` while nobody else holds `name`; `onWait` is called once if it has to wait. */
export async function withLock<T>(name: string, work: () => Promise<T>, onWait: () => void = () => undefined): Promise<T> {
  const lock = await acquire(name, onWait);
  try {
    return await work();
  } finally {
    lock.close();
  }
}

async function acquire(name: string, onWait: () => void): Promise<Server> {
  const address = `\0foreshift-${createHash("sha256").update(name).digest("hex")}`;
  for (let waited = false; ; waited = true) {
    const held = await tryListen(address);
    if (held !== undefined) return held;
    if (!waited) onWait();
    await delay(SETUP_LIMITS.lockPollMs);
  }
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
