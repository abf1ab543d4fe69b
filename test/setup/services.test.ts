/** The embedded services for real: what is written survives a kill, addresses stay, nothing outlives its parent. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Client, Connection } from "@temporalio/client";
import pg from "pg";
import { ForeshiftError } from "../../models/errors.ts";
import { choosePort, DEFAULT_PORTS, isFree, listenerOf, onChosenPorts } from "../../setup/ports.ts";
import { type Service, startOpenBao, startPostgres, startTemporal } from "../../setup/services.ts";

const GONE_TIMEOUT_MS = 20_000;
const VARIABLES = ["TEMPORAL_ADDRESS", "DATABASE_URL", "VAULT_ADDR", "VAULT_TOKEN"] as const;

let home: string;
let run: string;
let running: Service[] = [];

before(async () => {
  for (const name of VARIABLES) delete process.env[name];
  home = await mkdtemp(join(tmpdir(), "foreshift-home-"));
  run = await mkdtemp(join(tmpdir(), "foreshift-run-"));
});

after(async () => {
  await Promise.all(running.map((service) => service.stop()));
  await Promise.all([home, run].map((folder) => rm(folder, { recursive: true, force: true })));
});

async function keep<T extends Service>(starting: Promise<T>): Promise<T> {
  const service = await starting;
  running.push(service);
  return service;
}

async function stop(service: Service): Promise<void> {
  running = running.filter((other) => other !== service);
  await service.stop();
}

async function kill(service: Service): Promise<void> {
  assert.ok(service.pid !== undefined);
  const ended = new Promise((resolve) => service.onExit(resolve));
  process.kill(service.pid, "SIGKILL");
  assert.deepEqual(await ended, { code: null, signal: "SIGKILL", expected: false });
  running = running.filter((other) => other !== service);
}

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

/** What other processes of this user can see of it. */
async function visibleOf(service: Service): Promise<string> {
  const parts = ["cmdline", "environ"].map((file) => readFile(`/proc/${service.pid}/${file}`, "utf8"));
  return (await Promise.all(parts)).join("\n");
}

test("PostgreSQL keeps its data and its address over a kill, and shows its password to nobody", async () => {
  const first = await keep(startPostgres({ home, run }));
  await query(first.url, "create table kept (id int); insert into kept values (7)");
  const password = new URL(first.url).password;
  assert.ok(!(await visibleOf(first)).includes(password));
  assert.equal((await stat(join(home, "postgres.password"))).mode & 0o077, 0);
  const socketUrl = `postgresql://foreshift:${password}@/foreshift?host=${run}&port=${new URL(first.url).port}`;
  assert.deepEqual(await query(socketUrl, "select id from kept"), [{ id: 7 }]);
  await assert.rejects(query(first.url.replace(password, "wrong"), "select 1"), { code: "28P01" });
  await kill(first);
  const second = await keep(startPostgres({ home, run }));
  assert.equal(second.url, first.url);
  assert.deepEqual(await query(second.url, "select id from kept"), [{ id: 7 }]);
  await stop(second);
  await assert.rejects(query(second.url, "select 1"));
});

test("Temporal keeps its workflows and its address over a kill, with our search attributes", async () => {
  const options = { home, run, dynamicConfig: { "limit.historyCount.suggestContinueAsNew": 60 } };
  const first = await keep(startTemporal(options));
  await withTemporal(first.address, async (client) => {
    const typedSearchAttributes = { ForeshiftSwarm: ["kept"] };
    await client.workflow.start("anything", { taskQueue: "none", workflowId: "kept", searchAttributes: typedSearchAttributes });
  });
  const page = await fetch(first.uiUrl ?? "");
  assert.equal(page.status, 200);
  await kill(first);
  const second = await keep(startTemporal(options));
  assert.equal(second.address, first.address);
  assert.equal(second.uiUrl, first.uiUrl);
  await withTemporal(second.address, async (client) => {
    const { status } = await client.workflow.getHandle("kept").describe();
    assert.equal(status.name, "RUNNING");
  });
  await stop(second);
});

test("OpenBao keeps its secrets and its token over a kill, unsealed again by itself", async () => {
  const first = await keep(startOpenBao({ home, run }));
  const token = (await readFile(first.tokenFile, "utf8")).trim();
  assert.equal((await stat(first.tokenFile)).mode & 0o077, 0);
  assert.equal((await stat(first.socket ?? "")).mode & 0o077, 0);
  assert.ok(!(await visibleOf(first)).includes(token));
  await vault(first.address, token, "POST", "foreshift/data/swarm", { data: { key: "precious" } });
  await kill(first);
  const second = await keep(startOpenBao({ home, run }));
  assert.equal(second.address, first.address);
  assert.equal((await readFile(second.tokenFile, "utf8")).trim(), token);
  const answer = await vault(second.address, token, "GET", "foreshift/data/swarm");
  assert.match(answer, /precious/);
  await vault(second.address, token, "POST", "transit/keys/swarm", {});
  await assert.rejects(vault(second.address, token, "GET", "sys/policies/acl/foreshift"), /403/);
  await stop(second);
});

test("a second start on the same data is refused while the first lives", async () => {
  const first = await keep(startPostgres({ home, run }));
  await assert.rejects(startPostgres({ home, run }), { code: "SOCKET_IN_USE" });
  await stop(first);
});

test("a port that is taken is left to its owner", async () => {
  const other = createServer();
  const remembered = await choosePort(home, "openbao");
  await new Promise<void>((resolve) => other.listen(remembered, "127.0.0.1", resolve));
  try {
    const service = await keep(startOpenBao({ home, run }));
    assert.notEqual(Number(new URL(service.address).port), remembered);
    await stop(service);
  } finally {
    other.close();
  }
});

test("two homes that start at the same moment have a server each, though both find the same port free", async () => {
  const homes = await Promise.all([1, 2].map((n) => mkdtemp(join(tmpdir(), `foreshift-twin-${n}-`))));
  try {
    const temporals = await Promise.all(homes.map((twin) => keep(startTemporal({ home: twin, run: join(twin, "run") }))));
    assert.equal(new Set(temporals.map(({ address }) => address)).size, 2);
    for (const { address, pid } of temporals) {
      assert.equal(await listenerOf(Number(address.split(":")[1]), pid ?? 0), "itself");
    }
    await Promise.all(temporals.map(stop));
  } finally {
    await Promise.all(homes.map((twin) => rm(twin, { recursive: true, force: true })));
  }
});

test("many that start at the same moment have ports of their own at the first attempt", async () => {
  const homes = await Promise.all(Array.from({ length: 8 }, (_, n) => mkdtemp(join(tmpdir(), `foreshift-many-${n}-`))));
  const servers: Server[] = [];
  let starts = 0;
  try {
    const ports = await Promise.all(
      homes.map((one) =>
        onChosenPorts(one, ["temporal", "temporal-ui"], async (chosen) => {
          starts += 1;
          for (const port of Object.values(chosen)) {
            const server = createServer();
            servers.push(server);
            await once(server.listen(port, "127.0.0.1"), "listening");
          }
          return Object.values(chosen);
        }),
      ),
    );
    assert.equal(starts, homes.length);
    assert.equal(new Set(ports.flat()).size, 2 * homes.length);
  } finally {
    for (const server of servers) server.close();
    await Promise.all(homes.map((one) => rm(one, { recursive: true, force: true })));
  }
});

test("when the parent is killed its services end, and the next parent finds everything", async () => {
  const script = join(import.meta.dirname, "..", "support", "services-parent.ts");
  const parent = spawn(process.execPath, [script, home, run], { stdio: ["ignore", "pipe", "inherit"] });
  const pids: number[] = JSON.parse(await firstLineOf(parent));
  assert.equal(pids.length, 3);
  parent.kill("SIGKILL");
  const deadline = Date.now() + GONE_TIMEOUT_MS;
  // Right away: the start itself has to wait for the predecessor's end.
  const next = await keep(startPostgres({ home, run }));
  assert.deepEqual(await query(next.url, "select id from kept"), [{ id: 7 }]);
  while (pids.some(isAlive) && Date.now() < deadline) await delay(50);
  assert.deepEqual(pids.filter(isAlive), []);
  await stop(next);
});

test("an external service that does not answer, or refuses, is named with its address and without its password", async () => {
  const url = "postgresql://somebody:hidden@127.0.0.1:1/none";
  process.env.DATABASE_URL = url;
  process.env.VAULT_ADDR = "http://127.0.0.1:1";
  process.env.VAULT_TOKEN = "hidden";
  process.env.TEMPORAL_ADDRESS = "127.0.0.1:1";
  try {
    for (const start of [startPostgres, startOpenBao, startTemporal]) {
      await assert.rejects(start({ home, run }), (error) => {
        assert.ok(error instanceof ForeshiftError);
        assert.equal(error.code, "UNREACHABLE", error.message);
        assert.match(error.message, /127\.0\.0\.1:1/);
        assert.doesNotMatch(error.message, /hidden/);
        return true;
      });
    }
  } finally {
    for (const name of VARIABLES) delete process.env[name];
  }
});

test("external services are used as they are and left running", async () => {
  const own = await keep(startPostgres({ home, run }));
  process.env.DATABASE_URL = own.url;
  try {
    const external = await startPostgres({ home: join(home, "elsewhere"), run });
    assert.equal(external.external, true);
    assert.equal(external.url, own.url);
    await external.stop();
    assert.ok(!existsSync(join(home, "elsewhere")));
    process.env.DATABASE_URL = own.url.replace(new URL(own.url).password, "wrong");
    await assert.rejects(startPostgres({ home, run }), { code: "UNAUTHORISED" });
  } finally {
    delete process.env.DATABASE_URL;
  }
  assert.equal(await isFree(Number(new URL(own.url).port)), false);
  await stop(own);
});

test("default port ranges do not overlap", () => {
  const ports = Object.values(DEFAULT_PORTS).sort((a, b) => a - b);
  for (const [i, port] of ports.entries()) assert.ok(port - (ports[i - 1] ?? 0) >= 32, String(port));
});

async function withTemporal(address: string, work: (client: Client) => Promise<void>): Promise<void> {
  const connection = await Connection.connect({ address });
  try {
    await work(new Client({ connection }));
  } finally {
    await connection.close();
  }
}

async function vault(address: string, token: string, method: string, path: string, body?: unknown): Promise<string> {
  const response = await fetch(new URL(`/v1/${path}`, address), {
    method,
    headers: { "x-vault-token": token },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${response.status} for ${path}`);
  return response.text();
}

async function firstLineOf(child: ChildProcess): Promise<string> {
  assert.ok(child.stdout);
  for await (const line of createInterface({ input: child.stdout })) return line;
  return assert.fail("it ended without a word");
}

function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}/exe`);
}
