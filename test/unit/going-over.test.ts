// A client whose certificate is replaced: what is under way ends as it would have, what comes next goes over a new connection.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Dial, NO_RETRY, UnixHttpClient } from "../../drivers/http-unix.ts";
import { eventually } from "../support/eventually.ts";

const CALL = { timeoutMs: 10_000, retry: NO_RETRY };
let folder: string;
let socketPath: string;
const sockets = new Set<Socket>();
/** Answers that are held back, by path. */
const held = new Map<string, ServerResponse>();
const server = createServer((request, response) => {
  if (request.url === "/now") response.end(`"now"`);
  else {
    response.write("1\n");
    held.set(request.url ?? "", response);
  }
});

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "foreshift-going-"));
  socketPath = join(folder, "s");
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.listen(socketPath);
  await once(server, "listening");
});

after(async () => {
  server.closeAllConnections();
  server.close();
  await rm(folder, { recursive: true });
});

test("calls under way are answered on the connection they are on, which then ends; streams end where they stand", async () => {
  const renewals = new Set<() => void>();
  let dialled = 0;
  const dial: Dial<Socket> = Object.assign(
    async (where: string) => {
      dialled += 1;
      const socket = connect(where);
      await once(socket, "connect");
      return socket;
    },
    {
      onRenewed: (callback: () => void) => {
        renewals.add(callback);
        return () => renewals.delete(callback);
      },
    },
  );
  const client = new UnixHttpClient({ socketPath, name: "a server", dial });
  const lines: unknown[] = [];
  const stream = (async () => {
    const stop = new AbortController();
    const options = { connectTimeoutMs: 10_000, idleTimeoutMs: 10_000, signal: stop.signal };
    for await (const line of client.ndjson("/stream", options)) lines.push(line);
  })();
  const slow = client.exchange("GET", "/slow", CALL);
  assert.equal(await client.get("/now", CALL), "now");
  await eventually("both are under way", () => held.size === 2 && lines.length === 1);
  const before = dialled;
  for (const callback of renewals) callback();
  await stream;
  assert.deepEqual(lines, [1], "it ended without an error");
  assert.equal(await client.get("/now", CALL), "now");
  assert.equal(dialled, before + 1);
  held.get("/slow")?.end("2\n");
  assert.equal((await slow).text, "1\n2\n");
  await eventually("the former connections end", () => sockets.size === 1);
  await client.close();
  await eventually("all end", () => sockets.size === 0 && renewals.size === 0);
});
