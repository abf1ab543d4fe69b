/** PostgreSQL as a child, with passwords from its first second on; or the server `DATABASE_URL` names. */
import { randomBytes } from "node:crypto";
import { readlink, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import pg from "pg";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { exec } from "./exec.ts";
import { readIfThere, writePrivate } from "./files.ts";
import { findPostgres } from "./find.ts";
import { SETUP_LIMITS } from "./limits.ts";
import { withLock } from "./lock.ts";
import { makePaths } from "./paths.ts";
import { LOOPBACK, onChosenPorts } from "./ports.ts";
import { asService, childLine, externalService, type Service, type ServiceOptions, startChild } from "./service.ts";

const USER = "foreshift";
const DATABASE = "foreshift";
const PASSWORD_BYTES = 24;
/** PostgreSQL refuses to be root. */
const RUN_AS = { asOrdinaryUser: process.getuid?.() === 0 };
/** `invalid_password` and `invalid_authorization_specification` of PostgreSQL's error codes. */
const CODES_REFUSED = new Set(["28P01", "28000"]);

export interface PostgresService extends Service {
  /** Connection URL with the password in it: for configuration files of mode 0600, never for an argument list or a log. */
  readonly url: string;
}

export async function startPostgres(options: ServiceOptions & { readonly binary?: string }): Promise<PostgresService> {
  const external = process.env.DATABASE_URL;
  if (external !== undefined && external !== "") return useExternal(external);
  const { source, where } = await findPostgres();
  const postgres = options.binary ?? where;
  if (source === "missing") throw new ForeshiftError("MISSING_TOOL", { value: "postgres", detail: where });
  await makePaths({ ...options, log: join(options.home, "log") });
  const password = await withLock(`postgres data ${options.home}`, async () => {
    const known = await ensurePassword(options.home);
    await ensureData(options.home, postgres);
    return known;
  });
  return await onChosenPorts(options.home, ["postgres"], (ports) => startServer(options, postgres, ports.postgres, password));
}

async function startServer(
  options: ServiceOptions,
  postgres: string,
  port: number,
  password: string,
): Promise<PostgresService> {
  const data = dataFolder(options.home);
  await removeStalePid(data);
  const settings = {
    listen_addresses: LOOPBACK,
    port: String(port),
    unix_socket_directories: options.run,
    unix_socket_permissions: "0700",
    password_encryption: "scram-sha-256",
  };
  const child = await startChild(options, {
    name: "postgres",
    command: postgres,
    args: ["-D", data, ...Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`])],
    // Fast shutdown: sessions are ended, the data is written.
    stopSignal: "SIGINT",
    orphanSignal: "INT",
    ...RUN_AS,
    ports: [port],
    isReady: () => ensureDatabase(port, password),
  });
  const url = `postgresql://${USER}:${password}@${LOOPBACK}:${port}/${DATABASE}`;
  return Object.assign(asService("postgres", `${LOOPBACK}:${port}`, child), { url });
}

async function ensurePassword(home: string): Promise<string> {
  const file = passwordFile(home);
  const known = (await readIfThere(file))?.trim();
  if (known !== undefined && known !== "") return known;
  const password = randomBytes(PASSWORD_BYTES).toString("hex");
  await writePrivate(file, `${password}\n`);
  return password;
}

/** Creates the data under another name first: an interrupted creation leaves nothing that looks whole. */
async function ensureData(home: string, postgres: string): Promise<void> {
  const data = dataFolder(home);
  const there = (await readIfThere(join(data, "PG_VERSION")))?.trim();
  if (there !== undefined) return refuseOtherVersion(data, there, postgres);
  const half = `${data}.partial`;
  await rm(half, { recursive: true, force: true });
  const initdb = join(dirname(postgres), "initdb");
  const options = ["-U", USER, "--pwfile", passwordFile(home), "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C"];
  const [command, ...args] = childLine({ ...RUN_AS, orphanSignal: "KILL", command: initdb, args: ["-D", half, ...options] });
  const done = await exec(command, args, { timeoutMs: SETUP_LIMITS.serviceReadyTimeoutMs });
  if (!done.ok) throw initdbError(done.stderr);
  await rename(half, data);
}

function initdbError(stderr: string): ForeshiftError {
  const detail = stderr.trim().split("\n").at(-1) ?? "";
  if (stderr.includes("unshare")) {
    return new ForeshiftError("NOT_PERMITTED", {
      detail: `make the user namespace in which root runs PostgreSQL (${detail}); DATABASE_URL names another server`,
    });
  }
  return new ForeshiftError("COMMAND_FAILED", { field: "Creating the PostgreSQL data", detail });
}

async function refuseOtherVersion(data: string, version: string, postgres: string): Promise<void> {
  const asked = await exec(postgres, ["--version"], { timeoutMs: SETUP_LIMITS.probeTimeoutMs });
  const major = /(\d+)/.exec(asked.stdout)?.[1];
  if (major === undefined || major === version) return;
  throw new ForeshiftError("NOT_READY", {
    value: "postgres",
    detail: `${data} is of PostgreSQL ${version}, ${postgres} is ${major}: put ${version} on PATH or move the folder away`,
  });
}

/**
 * PostgreSQL refuses to start when its old process id belongs to anybody's process. One that is not a postgres is not its
 * predecessor.
 */
async function removeStalePid(data: string): Promise<void> {
  const file = join(data, "postmaster.pid");
  const pid = Number((await readIfThere(file))?.split("\n", 1)[0] ?? 0);
  if (!(pid > 0)) return;
  const executable = await readlink(`/proc/${pid}/exe`).catch(() => "");
  if (!executable.includes("postgres")) await rm(file, { force: true });
}

async function ensureDatabase(port: number, password: string): Promise<boolean> {
  const client = new pg.Client({
    host: LOOPBACK,
    port,
    user: USER,
    password,
    database: "postgres",
    connectionTimeoutMillis: SETUP_LIMITS.requestTimeoutMs,
  });
  client.on("error", () => undefined);
  await client.connect();
  try {
    const { rowCount } = await client.query("select from pg_database where datname = $1", [DATABASE]);
    if (rowCount === 0) await client.query(`create database ${DATABASE}`);
    return true;
  } finally {
    await client.end();
  }
}

async function useExternal(url: string): Promise<PostgresService> {
  if (!URL.canParse(url)) {
    const detail = "give it as postgresql://user@host:port/database";
    throw new ForeshiftError("INVALID_FIELD", { field: "DATABASE_URL", value: "something that is no URL", detail });
  }
  const address = new URL(url).host;
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: SETUP_LIMITS.externalTimeoutMs });
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.query("select 1");
  } catch (thrown) {
    const detail = messageOf(thrown);
    const refused = CODES_REFUSED.has((thrown as { code?: string }).code ?? "");
    if (refused) throw new ForeshiftError("UNAUTHORISED", { field: `PostgreSQL at ${address}`, detail });
    throw new ForeshiftError("UNREACHABLE", { field: "PostgreSQL", value: address, detail });
  } finally {
    await client.end().catch(() => undefined);
  }
  return Object.assign(externalService("postgres", address), { url });
}

function dataFolder(home: string): string {
  return join(home, "postgres");
}

function passwordFile(home: string): string {
  return join(home, "postgres.password");
}
