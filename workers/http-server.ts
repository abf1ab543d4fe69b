/**
 * An HTTP server on a unix socket that only its owner can reach: what every local API of Foreshift is served with.
 */
import { chmod, lstat, mkdir, unlink } from "node:fs/promises";
import { connect, type Server } from "node:net";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import fastify, { type FastifyInstance } from "fastify";
import type { Logger } from "pino";
import { addressOf } from "../drivers/identity/dial.ts";
import type { ProcessIdentity } from "../drivers/identity/process-identity.ts";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { certificateRoutes } from "./certificate-routes.ts";
import { type Door, type Gate, isOfFormerCertificate, tlsGate } from "./tls-gate.ts";

const { http } = LIMITS;

export interface ServeOptions {
  /** Path of a unix socket; with a door it may be `host:port`. */
  readonly socketPath: string;
  readonly log: Logger;
  /** Who may come in; absent: whoever can reach the unix socket, which is its owner. */
  readonly door?: Door | undefined;
  /** Of a process without a door that has a certificate to show elsewhere. */
  readonly identity?: ProcessIdentity | undefined;
  /** Registers the routes; bodies are checked there with `parseInput(Schema, request.body, "body")` of models/parse.ts. */
  readonly routes: (app: FastifyInstance) => void | Promise<void>;
}

export interface Served {
  readonly socketPath: string;
  /** Takes no new requests, lets those under way end for a moment, removes the socket. */
  close(): Promise<void>;
}

/**
 * Listens on `socketPath` with mode 0600. A socket file that nobody listens on is removed first; one that somebody listens on
 * is refused with SOCKET_IN_USE. A ForeshiftError thrown by a handler becomes its status and ErrorBody.
 */
export async function serve(options: ServeOptions): Promise<Served> {
  const { socketPath, log, door } = options;
  const address = addressOf(socketPath);
  if ("host" in address && door === undefined) {
    const detail = "without certificates an API is served on a unix socket only; configure `identity`";
    throw new ForeshiftError("INVALID_FIELD", { field: "socketPath", value: socketPath, detail });
  }
  if ("path" in address) await prepareSocket(socketPath);

  const app = makeApp(log);
  const identity = door?.identity ?? options.identity;
  if (identity !== undefined) {
    certificateRoutes(app, identity);
    // Asked to, clients come back over a connection of their own accord, and none is cut when the former certificate ends.
    app.addHook("onSend", async (request, reply) => {
      if (isOfFormerCertificate(request, identity)) reply.header("connection", "close");
    });
  }
  await options.routes(app);
  await app.ready();
  const gate = door === undefined ? undefined : tlsGate(door, app.server);
  await listenPrivately(gate?.server ?? app.server, address);
  return { socketPath, close: () => closeWithin(app, gate, http.closeGraceMs) };
}

async function prepareSocket(socketPath: string): Promise<void> {
  if (Buffer.byteLength(socketPath) > http.socketPathBytesMax) {
    const detail = `a unix socket's path may have ${http.socketPathBytesMax} bytes; choose a shorter folder`;
    throw new ForeshiftError("INVALID_FIELD", { field: "socketPath", value: socketPath, detail });
  }
  await mkdir(dirname(socketPath), { recursive: true, mode: 0o700 });
  await removeIfStale(socketPath);
}

function makeApp(log: Logger): FastifyInstance {
  const app = fastify({
    bodyLimit: http.bodyBytesMax,
    forceCloseConnections: "idle",
    keepAliveTimeout: http.serverKeepAliveMs,
  });
  app.setErrorHandler((thrown, request, reply) => {
    const error = toForeshiftError(thrown);
    if (error.code === "INTERNAL") {
      log.error({
        event: "request-failed",
        method: request.method,
        path: request.url,
        stack: thrown instanceof Error ? thrown.stack : undefined,
      });
    }
    return reply.code(error.httpStatus).send(error.toBody());
  });
  app.setNotFoundHandler((request) => {
    throw new ForeshiftError("INVALID_FIELD", {
      field: "path",
      value: `${request.method} ${request.url}`,
      detail: "there is no such route",
    });
  });
  return app;
}

/** The socket is made with no rights for others, so that there is no moment at which they could connect. */
async function listenPrivately(server: Server, address: ReturnType<typeof addressOf>): Promise<void> {
  const before = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(address, () => {
        server.off("error", reject);
        resolve();
      });
    });
  } finally {
    process.umask(before);
  }
  if ("path" in address) await chmod(address.path, 0o600);
}

async function removeIfStale(socketPath: string): Promise<void> {
  const found = await probe(socketPath);
  if (found === "absent") return;
  if (found === "listening") throw new ForeshiftError("SOCKET_IN_USE", { value: socketPath });
  if (!(await lstat(socketPath)).isSocket())
    throw new ForeshiftError("DISK", { value: socketPath, detail: "a file that is no socket is in the way" });
  await unlink(socketPath);
}

function probe(socketPath: string): Promise<"absent" | "stale" | "listening"> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    const end = (found: "absent" | "stale" | "listening") => {
      socket.destroy();
      resolve(found);
    };
    socket.setTimeout(http.staleProbeTimeoutMs, () => end("listening"));
    socket.once("connect", () => end("listening"));
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") end("absent");
      else if (error.code === "ECONNREFUSED") end("stale");
      else if (error.code === "EAGAIN") end("listening");
      else reject(new ForeshiftError("DISK", { value: socketPath, detail: messageOf(error) }, { cause: error }));
    });
  });
}

async function closeWithin(app: FastifyInstance, gate: Gate | undefined, graceMs: number): Promise<void> {
  const stop = new AbortController();
  const grace = delay(graceMs, undefined, { signal: stop.signal }).then(
    () => {
      app.server.closeAllConnections();
      gate?.dropAll();
    },
    () => undefined,
  );
  const server = gate?.server ?? app.server;
  const closed = new Promise<void>((resolve) => (server.listening ? server.close(() => resolve()) : resolve()));
  // From here on an answer ends its connection.
  await app.close();
  app.server.closeIdleConnections();
  await closed;
  stop.abort();
  await grace;
}

function toForeshiftError(thrown: unknown): ForeshiftError {
  if (thrown instanceof ForeshiftError) return thrown;
  const status = typeof thrown === "object" && thrown !== null && "statusCode" in thrown ? thrown.statusCode : undefined;
  if (typeof status === "number" && status >= 400 && status < 500) {
    return new ForeshiftError("INVALID_FIELD", { field: "body", value: "a request", detail: messageOf(thrown) });
  }
  return new ForeshiftError("INTERNAL", { detail: messageOf(thrown) });
}
