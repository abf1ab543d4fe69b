/**
 * OpenBao as a child, initialised and unsealed by us; or the Vault `VAULT_ADDR` names. Keeping the unseal key beside the data
 * is a convenience of the lab: in production the seal is somebody else's (a KMS, an HSM, people).
 */
import { mkdir, readFile, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { fetch } from "undici";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { readIfThere, writePrivate } from "./files.ts";
import { findOpenBao } from "./find.ts";
import { SETUP_LIMITS } from "./limits.ts";
import { withLock } from "./lock.ts";
import { makePaths } from "./paths.ts";
import { choosePort, isFree, LOOPBACK } from "./ports.ts";
import { asService, externalService, type Service, type ServiceOptions, startChild } from "./service.ts";

export interface OpenBaoService extends Service {
  /** File of mode 0600 with a token for `foreshift/*` and `transit/*`. */
  readonly tokenFile: string;
  /** Unix socket it listens on as well; undefined for an external one. */
  readonly socket: string | undefined;
}

const TOKEN_PERIOD = "768h";
// The agents' path is named here too: of a token's policies the most specific path decides, so theirs alone would take writing away.
/** Of the lab and its workers. Tokens for the agents are periodic, which only `sudo` may make. */
const OWN_POLICY = `
path "foreshift/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }
path "foreshift/data/swarms/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }
path "transit/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }
path "auth/token/create" { capabilities = ["create", "update", "sudo"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
`;

/** Of an endpoint's agent: it reads the keys of swarms, renews its own token, and nothing else. */
const AGENT_POLICY = `
path "foreshift/data/swarms/*" { capabilities = ["read"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
`;

const keysSchema = z.object({ unsealKey: z.string().min(1), rootToken: z.string().min(1) });
type Keys = z.infer<typeof keysSchema>;
const statusSchema = z.object({ initialized: z.boolean(), sealed: z.boolean() });
const initSchema = z.object({ keys_base64: z.array(z.string()).min(1), root_token: z.string() });
const tokenSchema = z.object({ auth: z.object({ client_token: z.string() }) });
const mountsSchema = z.object({ data: z.record(z.string(), z.unknown()) });

export async function startOpenBao(options: ServiceOptions): Promise<OpenBaoService> {
  await makePaths({ ...options, log: join(options.home, "log") });
  const external = process.env.VAULT_ADDR;
  if (external !== undefined && external !== "") return useExternal(external, options);
  const { source, where } = await findOpenBao();
  if (source === "missing") throw new ForeshiftError("MISSING_TOOL", { value: "bao", detail: where });
  for (let attempt = 1; ; attempt += 1) {
    const port = await choosePort(options.home, "openbao");
    const clusterPort = await choosePort(options.home, "openbao-cluster");
    try {
      return await startServer(options, where, port, clusterPort);
    } catch (thrown) {
      const free = (await isFree(port)) && (await isFree(clusterPort));
      if (free || attempt === SETUP_LIMITS.startAttemptsMax) throw thrown;
    }
  }
}

async function startServer(
  options: ServiceOptions,
  command: string,
  port: number,
  clusterPort: number,
): Promise<OpenBaoService> {
  const folder = baoFolder(options.home);
  const socket = join(options.run, "openbao.sock");
  const address = `http://${LOOPBACK}:${port}`;
  await forgetHalfInitialised(folder);
  await mkdir(join(folder, "data"), { recursive: true, mode: 0o700 });
  await rm(socket, { force: true });
  await writePrivate(join(folder, "config.json"), configuration(folder, port, clusterPort, socket));
  const child = await startChild(options, {
    name: "openbao",
    command,
    args: ["server", `-config=${join(folder, "config.json")}`],
    stopSignal: "SIGTERM",
    orphanSignal: "KILL",
    isReady: () => withLock(`openbao seal ${options.home}`, () => bringUp(address, folder)),
  });
  return Object.assign(asService("openbao", address, child), { tokenFile: join(folder, "token"), socket });
}

function configuration(folder: string, port: number, clusterPort: number, socket: string): string {
  const tcp = { address: `${LOOPBACK}:${port}`, cluster_address: `${LOOPBACK}:${clusterPort}`, tls_disable: true };
  // The mode is obeyed only together with an owner.
  const owner = { socket_user: String(process.getuid?.()), socket_group: String(process.getgid?.()) };
  const unix = { address: socket, socket_mode: "0600", ...owner, tls_disable: true };
  return JSON.stringify({
    // One node only; the multiplier makes it elect itself quickly.
    storage: { raft: { path: join(folder, "data"), node_id: "foreshift", performance_multiplier: 1 } },
    listener: [{ tcp }, { unix }],
    api_addr: `http://${LOOPBACK}:${port}`,
    cluster_addr: `https://${LOOPBACK}:${clusterPort}`,
    disable_mlock: true,
    log_level: "warn",
    ui: false,
  });
}

/** Initialised, unsealed, mounted and with a token of ours that is valid: only then it is ready. */
async function bringUp(address: string, folder: string): Promise<boolean> {
  const status = statusSchema.parse(await call(address, "GET", "sys/seal-status"));
  const keys = status.initialized ? await readKeys(folder) : await initialise(address, folder);
  if (status.sealed) await call(address, "PUT", "sys/unseal", { body: { key: keys.unsealKey } });
  const after = statusSchema.parse(await call(address, "GET", "sys/seal-status"));
  if (after.sealed) return false;
  await mountEngines(address, keys.rootToken);
  for (const [name, policy] of Object.entries({ foreshift: OWN_POLICY, "foreshift-agent": AGENT_POLICY })) {
    await call(address, "PUT", `sys/policies/acl/${name}`, { token: keys.rootToken, body: { policy } });
  }
  await call(address, "PUT", "sys/policies/acl/foreshift-agent", { token: keys.rootToken, body: { policy: AGENT_POLICY } });
  await ensureToken(address, folder, keys.rootToken);
  return true;
}

/** The marker says that data may exist whose key was never written down; such data holds nothing and is given up. */
async function initialise(address: string, folder: string): Promise<Keys> {
  await writePrivate(join(folder, "initialising"), "");
  const body = { secret_shares: 1, secret_threshold: 1 };
  const answer = initSchema.parse(await call(address, "PUT", "sys/init", { body }));
  const keys = { unsealKey: answer.keys_base64[0] ?? "", rootToken: answer.root_token };
  await writePrivate(join(folder, "keys.json"), JSON.stringify(keys));
  await rm(join(folder, "initialising"), { force: true });
  return keys;
}

async function forgetHalfInitialised(folder: string): Promise<void> {
  if ((await readIfThere(join(folder, "initialising"))) === undefined) return;
  if ((await readIfThere(join(folder, "keys.json"))) === undefined) {
    await rm(join(folder, "data"), { recursive: true, force: true });
  }
  await rm(join(folder, "initialising"), { force: true });
}

async function readKeys(folder: string): Promise<Keys> {
  const text = await readIfThere(join(folder, "keys.json"));
  const parsed = keysSchema.safeParse(text === undefined ? undefined : JSON.parse(text));
  if (parsed.success) return parsed.data;
  throw new ForeshiftError("UNAUTHORISED", {
    field: "OpenBao",
    detail: `${folder} is initialised, but its keys.json is gone; bring it back, or move the folder away and start anew`,
  });
}

async function mountEngines(address: string, token: string): Promise<void> {
  const { data } = mountsSchema.parse(await call(address, "GET", "sys/mounts", { token }));
  const wanted = { foreshift: { type: "kv", options: { version: "2" } }, transit: { type: "transit" } };
  for (const [path, body] of Object.entries(wanted)) {
    if (!(`${path}/` in data)) await call(address, "POST", `sys/mounts/${path}`, { token, body });
  }
}

async function ensureToken(address: string, folder: string, rootToken: string): Promise<void> {
  const file = join(folder, "token");
  const known = (await readIfThere(file))?.trim();
  if (known !== undefined && known !== "") {
    const renewed = await call(address, "POST", "auth/token/renew-self", { token: known, body: {} }).catch(() => undefined);
    if (renewed !== undefined) return;
  }
  const body = { policies: ["foreshift", "foreshift-agent"], period: TOKEN_PERIOD, display_name: "foreshift" };
  const answer = tokenSchema.parse(await call(address, "POST", "auth/token/create-orphan", { token: rootToken, body }));
  await writePrivate(file, `${answer.auth.client_token}\n`);
}

async function useExternal(address: string, options: ServiceOptions): Promise<OpenBaoService> {
  if (!URL.canParse(address)) {
    const detail = "give it as https://host:port";
    throw new ForeshiftError("INVALID_FIELD", { field: "VAULT_ADDR", value: address, detail });
  }
  const token = process.env.VAULT_TOKEN ?? (await readFile(join(homedir(), ".vault-token"), "utf8").catch(() => ""));
  if (token.trim() === "") {
    throw new ForeshiftError("UNAUTHORISED", {
      field: `Vault at ${address}`,
      detail: "neither VAULT_TOKEN nor ~/.vault-token",
    });
  }
  await call(address, "GET", "auth/token/lookup-self", { token: token.trim() });
  const tokenFile = join(options.home, "vault-external.token");
  await writePrivate(tokenFile, `${token.trim()}\n`);
  return Object.assign(externalService("openbao", address), { tokenFile, socket: undefined });
}

interface CallOptions {
  readonly token?: string;
  readonly body?: unknown;
}

/** UNREACHABLE or UNAUTHORISED; an error names the path, never what was sent. */
async function call(address: string, method: string, path: string, options: CallOptions = {}): Promise<unknown> {
  const response = await send(address, method, path, options);
  const text = await response.text();
  if (response.ok) return text === "" ? {} : JSON.parse(text);
  const detail = `${method} ${path} was answered with ${response.status}`;
  if (response.status === 401 || response.status === 403) {
    throw new ForeshiftError("UNAUTHORISED", { field: `Vault at ${address}`, detail });
  }
  throw new Error(detail);
}

async function send(address: string, method: string, path: string, { token, body }: CallOptions) {
  try {
    return await fetch(new URL(`/v1/${path}`, address), {
      method,
      signal: AbortSignal.timeout(SETUP_LIMITS.requestTimeoutMs),
      headers: { ...(token === undefined ? {} : { "x-vault-token": token }), "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (thrown) {
    const cause = thrown instanceof Error && thrown.cause !== undefined ? messageOf(thrown.cause) : messageOf(thrown);
    throw new ForeshiftError("UNREACHABLE", { field: "Vault", value: address, detail: cause });
  }
}

function baoFolder(home: string): string {
  return join(home, "openbao");
}
