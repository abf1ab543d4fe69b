/**
 * Lends a world to workers in other processes, so that these can be killed: one JSON line a call over a unix socket.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { pino } from "pino";
import { PLAIN_PAYLOADS } from "../../drivers/temporal-codec/codec.ts";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { bundleFor } from "../../workers/control/worker-set.ts";
import type { World } from "./world.ts";

export interface RemoteWorker {
  /** SIGKILL, and waits until it is gone. */
  kill(): Promise<void>;
}

export interface WorldServer {
  startWorker(temporalAddress: string): Promise<RemoteWorker>;
  close(): Promise<void>;
}

interface CallLine {
  readonly id: number;
  readonly port: string;
  readonly method: string;
  readonly args: readonly unknown[];
}

export async function serveWorld(world: World): Promise<WorldServer> {
  const folder = await mkdtemp(join(tmpdir(), "foreshift-world-"));
  const socketPath = join(folder, "world.sock");
  // Bundled here once, so that a killed worker is back in the time that its process takes.
  const codePath = join(folder, "workflows.js");
  await writeFile(codePath, (await bundleFor(pino({ level: "silent" }), PLAIN_PAYLOADS)).code);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
    const lines = createInterface({ input: socket });
    lines.on("line", (line) => void answer(world, socket, JSON.parse(line) as CallLine));
    // A worker that was killed with an answer on its way; readline tells it a second time.
    lines.on("error", () => lines.close());
  });
  server.listen(socketPath);
  await once(server, "listening");
  const children = new Set<ChildProcess>();
  return {
    startWorker: async (temporalAddress) => {
      const file = fileURLToPath(new URL("./world-worker.ts", import.meta.url));
      const child = spawn(process.execPath, [file, socketPath, temporalAddress, codePath], {
        stdio: ["ignore", "ignore", "inherit"],
      });
      children.add(child);
      const gone = once(child, "exit");
      await once(child, "spawn");
      return {
        kill: async () => {
          child.kill("SIGKILL");
          await gone;
          children.delete(child);
        },
      };
    },
    close: async () => {
      for (const child of children) child.kill("SIGKILL");
      for (const socket of sockets) socket.destroy();
      server.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function answer(world: World, socket: Socket, { id, port, method, args }: CallLine): Promise<void> {
  const reply = await world.call(port, method, args).then(
    (result) => ({ id, result }),
    (thrown: unknown) => ({
      id,
      error: (thrown instanceof ForeshiftError
        ? thrown
        : new ForeshiftError("INTERNAL", { detail: messageOf(thrown) })
      ).toBody(),
    }),
  );
  if (!socket.destroyed) socket.write(`${JSON.stringify(reply)}\n`);
}
