// The balancer's connections to agents: each is begun ahead of time, so that who asks in a hurry pays for no handshake.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Agents } from "../../workers/reflex/agents.ts";
import { eventually } from "../support/eventually.ts";

const ROUND_MS = 3_000;
const STATUS = { endpoint: "ep-1", tunnelUp: true, sessions: 0, clockMs: 0, sessionsVersion: 0, identities: [] };

test("each member's agent is asked again and again over one connection", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "foreshift-agents-"));
  let asked = 0;
  const server = createServer((_, response) => {
    asked += 1;
    response.end(JSON.stringify(STATUS));
  });
  const socketPath = join(folder, "s");
  server.listen(socketPath);
  await once(server, "listening");
  let handshakes = 0;
  const dial = async (where: string) => {
    handshakes += 1;
    const socket = connect(where);
    await once(socket, "connect");
    return socket;
  };
  t.mock.timers.enable({ apis: ["setInterval"] });
  const agents = new Agents(
    () => [{ endpoint: "ep-1", link: { agent: socketPath } }],
    () => dial,
  );
  try {
    agents.keepWarm();
    // One is asked anew only once it has answered, so that the third time says that the first two were answered.
    await eventually(
      "it is asked three times",
      () => {
        t.mock.timers.tick(ROUND_MS);
        return asked >= 3;
      },
      20_000,
    );
    assert.equal(handshakes, 1);
  } finally {
    await agents.close();
    server.close();
    rmSync(folder, { recursive: true });
  }
});

test("without certificates a connection costs nothing, and none is begun ahead of time", (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const agents = new Agents(() => assert.fail("nobody is asked"), undefined);
  agents.keepWarm();
  t.mock.timers.tick(10 * ROUND_MS);
});
