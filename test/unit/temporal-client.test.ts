// The client of Temporal beside a server that answers what a test has it answer: away while somebody waits, or without what is asked for.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { openTemporal } from "../../drivers/temporal-client.ts";
import { openPayloadSealing } from "../../drivers/temporal-codec/codec.ts";

const OK = "0";
const INVALID_ARGUMENT = "3";
const NOT_FOUND = "5";
const UNAVAILABLE = "14";
/** A message of no bytes, uncompressed. */
const EMPTY_MESSAGE = Buffer.alloc(5);
const LIMIT = { timeout: 20_000 };

/** Answers every question with nothing, and those for a history with this status. */
async function begin(t: TestContext, status: string) {
  const server = createServer();
  const asked = { histories: 0 };
  server.on("stream", (stream, headers) => {
    const isHistory = headers[":path"]?.endsWith("/GetWorkflowExecutionHistory") === true;
    if (isHistory) asked.histories += 1;
    answer(stream, isHistory ? status : OK);
  });
  const address = await listen(t, server);
  const sealing = openPayloadSealing({ mode: "plain" }, { databaseUrl: "" });
  const temporal = await openTemporal({ temporalAddress: address, temporalNamespace: "default", sealing });
  return { asked, server, temporal };
}

function answer(stream: ServerHttp2Stream, status: string): void {
  stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": status }));
  stream.end(status === OK ? EMPTY_MESSAGE : undefined);
}

async function listen(t: TestContext, server: Http2Server): Promise<string> {
  const connections = new Set<ServerHttp2Session>();
  server.on("session", (session) => connections.add(session));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const connection of connections) connection.destroy();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test(
  "a call that is about to be made again when the client is closed is not made, and says why it failed",
  LIMIT,
  async (t) => {
    const { asked, server, temporal } = await begin(t, UNAVAILABLE);
    const result = assert.rejects(temporal.result("a-run", "1"), { code: "UNREACHABLE" });
    while (asked.histories < 2) await once(server, "stream");
    await temporal.close();
    const atEnd = asked.histories;
    await result;
    assert.equal(asked.histories, atEnd);
  },
);

for (const [status, runId] of [
  [NOT_FOUND, undefined],
  [INVALID_ARGUMENT, "no run's id"],
] as const) {
  test(
    `the history of a run that is not there (status ${status}) says so, and not that the server is away`,
    LIMIT,
    async (t) => {
      const { temporal } = await begin(t, status);
      await assert.rejects(temporal.history("drain/lab/ep-9", runId), { code: "UNKNOWN_RUN", message: /drain\/lab\/ep-9/ });
      await temporal.close();
    },
  );
}
