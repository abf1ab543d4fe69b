/**
 * A unix socket that leads to Vault: endpoints in network namespaces have no route to the host's loopback, but share its files.
 */
import { rm } from "node:fs/promises";
import { connect as connectTcp, createServer, type Server, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

/** Relays bytes between `socketPath` (mode 0600) and the Vault at `address` (`http://…` or `https://…`) until closed. */
export async function relayVault(socketPath: string, address: string): Promise<{ close(): Promise<void> }> {
  const target = new URL(address);
  const open = new Set<Socket>();
  const server = createServer((near) => {
    const far = dial(target);
    for (const socket of [near, far]) {
      open.add(socket);
      socket.once("close", () => open.delete(socket));
    }
    near.on("error", () => far.destroy());
    far.on("error", () => near.destroy());
    near.pipe(far).pipe(near);
  });
  await rm(socketPath, { force: true });
  await listenPrivately(server, socketPath);
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of open) socket.destroy();
      }),
  };
}

function dial(target: URL): Socket {
  const secure = target.protocol === "https:";
  const port = Number(target.port === "" ? (secure ? 443 : 80) : target.port);
  return secure
    ? connectTls({ host: target.hostname, port, servername: target.hostname })
    : connectTcp({ host: target.hostname, port });
}

async function listenPrivately(server: Server, socketPath: string): Promise<void> {
  const before = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(socketPath, resolve);
    });
  } finally {
    process.umask(before);
  }
}
