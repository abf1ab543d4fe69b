// The client and the server of the local APIs against each other: errors, stale sockets, permissions, streams, retries.
import assert from "node:assert/strict";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { pino } from "pino";
import { z } from "zod";
import { NO_RETRY, RETRY_IDEMPOTENT, UnixHttpClient } from "../../drivers/http-unix.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { parseInput } from "../../models/parse.ts";
import { type Served, serve } from "../../workers/http-server.ts";

const log = pino({ level: "silent" });
const CALL = { timeoutMs: 1_000, retry: NO_RETRY };
let folder: string;
let socketPath: string;
let client: UnixHttpClient;
let served: Served | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "fs-http-"));
  socketPath = join(folder, "test.sock");
  client = new UnixHttpClient({ socketPath, name: "tested" });
});

afterEach(async () => {
  await client.close();
  await served?.close();
  served = undefined;
  await rm(folder, { recursive: true, force: true });
});

async function start(): Promise<void> {
  served = await serve({
    socketPath,
    log,
    routes: (app) => {
      app.get("/echo", () => ({ hello: "there" }));
      app.get("/empty", (_request, reply) => reply.code(204).send());
      app.post("/body", (request) => parseInput(z.strictObject({ weight: z.number() }), request.body, "body"));
      app.get("/refuse", () => {
        throw new ForeshiftError("STALE_EPOCH", { value: 7, detail: "holds 9" });
      });
      app.get("/slow", async () => {
        await delay(5_000, undefined, { ref: false });
        return {};
      });
      app.get("/stream", (_request, reply) => reply.send(Readable.from(['{"a":1}\n{"a"', ":2}\n\n", '{"a":3}\n'])));
    },
  });
}

const codeIs = (code: string) => (error: unknown) => error instanceof ForeshiftError && error.code === code;

test("answers, bodies and errors travel; the socket is its owner's alone", async () => {
  await start();
  assert.equal((await stat(socketPath)).mode & 0o777, 0o600);
  assert.deepEqual(await client.get("/echo", CALL), { hello: "there" });
  assert.equal(await client.get("/empty", CALL), undefined);
  assert.deepEqual(await client.post("/body", { ...CALL, body: { weight: 3 } }), { weight: 3 });
  await assert.rejects(client.post("/body", { ...CALL, body: { weight: "x" } }), (error: ForeshiftError) => {
    assert.equal(error.code, "INVALID_FIELD");
    assert.equal(error.field, "weight");
    assert.match(error.message, /"x"/);
    return true;
  });
  await assert.rejects(
    client.get("/refuse", CALL),
    (error: ForeshiftError) => error.code === "STALE_EPOCH" && /holds 9/.test(error.message),
  );
  await assert.rejects(client.get("/nowhere", CALL), codeIs("INVALID_FIELD"));
});

test("an absent, a dead and a silent socket are UNREACHABLE, each with its reason", async () => {
  await assert.rejects(
    client.get("/echo", CALL),
    (error: ForeshiftError) => error.code === "UNREACHABLE" && error.message.includes(socketPath),
  );
  await start();
  await assert.rejects(client.get("/slow", { timeoutMs: 100, retry: NO_RETRY }), /no answer within 100 ms/);
});

test("a call is tried again until the server is there", async () => {
  const answer = client.get("/echo", { timeoutMs: 1_000, retry: { ...RETRY_IDEMPOTENT, attemptsMax: 20 } });
  await delay(60);
  await start();
  assert.deepEqual(await answer, { hello: "there" });
});

test("a restart of the server between two calls is not noticed", async () => {
  await start();
  await client.get("/echo", CALL);
  await served?.close();
  await start();
  assert.deepEqual(await client.get("/echo", { timeoutMs: 1_000, retry: RETRY_IDEMPOTENT }), { hello: "there" });
});

test("a stale socket file is replaced, a live one refused", async () => {
  await leaveStaleSocket(socketPath);
  await start();
  assert.deepEqual(await client.get("/echo", CALL), { hello: "there" });
  const first = served;
  await assert.rejects(start(), codeIs("SOCKET_IN_USE"));
  served = first;
  assert.deepEqual(await client.get("/echo", CALL), { hello: "there" });
});

test("a file that is no socket is left alone", async () => {
  await writeFile(socketPath, "precious");
  await assert.rejects(start());
  assert.equal((await stat(socketPath)).size, 8);
});

test("a stream yields its lines whole and ends when aborted", async () => {
  await start();
  const lines: unknown[] = [];
  const options = { connectTimeoutMs: 1_000, idleTimeoutMs: 1_000, signal: new AbortController().signal };
  for await (const line of client.ndjson("/stream", options)) lines.push(line);
  assert.deepEqual(lines, [{ a: 1 }, { a: 2 }, { a: 3 }]);
  const stop = new AbortController();
  const pending = client.ndjson("/slow", { ...options, connectTimeoutMs: 5_000, signal: stop.signal }).next();
  stop.abort();
  assert.deepEqual(await pending, { done: true, value: undefined });
});

/** A socket file as a killed server leaves it: bound once, and nobody listens. */
async function leaveStaleSocket(path: string): Promise<void> {
  const { spawn } = await import("node:child_process");
  const child = spawn(process.execPath, [
    "-e",
    `require("net").createServer().listen(${JSON.stringify(path)},()=>console.log("up"))`,
  ]);
  await new Promise((resolve) => child.stdout.once("data", resolve));
  child.kill("SIGKILL");
  await new Promise((resolve) => child.once("exit", resolve));
}
