// What `foreshift doctor` finds out about a Vault that it reaches by a relay's socket, as in the lab: whether it lets us in, and its clock.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { examineIdentities } from "../../cli/examine-identities.ts";
import { localSockets } from "../../setup/connection.ts";

const AHEAD_MS = 5_400_000;

test("a Vault behind a socket that refuses us, and whose clock is far ahead, is said to be so", async () => {
  const folder = await mkdtemp(join(tmpdir(), "foreshift-doctor-"));
  const socketPath = join(folder, "vault.sock");
  const tokenFile = join(folder, "token");
  await writeFile(tokenFile, "a token", { mode: 0o600 });
  let aheadMs = AHEAD_MS;
  const server = createServer({ keepAlive: false }, (_, response) => {
    const date = new Date(Date.now() + aheadMs).toUTCString();
    response.writeHead(403, { date, connection: "close" }).end('{"errors":["permission denied"]}');
  });
  server.listen(socketPath);
  await once(server, "listening");
  const vault = { socketPath, auth: { method: "token-file", tokenFile } };
  const ask = async () => {
    const checks = await examineIdentities({
      temporalAddress: "127.0.0.1:1",
      temporalNamespace: "default",
      databaseUrl: "postgres://nobody@127.0.0.1:1/none",
      payloads: { mode: "sealed", vault },
      sockets: localSockets(folder),
    });
    return new Map(checks.map(({ name, state, where }) => [name, `${state}: ${where}`]));
  };
  try {
    const wrong = await ask();
    assert.match(wrong.get("login at Vault") ?? "", /^missing: /);
    assert.match(wrong.get("clock") ?? "", /^warning: this machine's clock is 1 h or more behind Vault's$/);
    aheadMs = 0;
    assert.match((await ask()).get("clock") ?? "", /^ok: this machine's clock is within \d+ m?s of Vault's$/);
  } finally {
    server.close();
    await rm(folder, { recursive: true });
  }
});
