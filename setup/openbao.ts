/**
 * OpenBao as a child, initialised and unsealed by us; or the Vault `VAULT_ADDR` names. Keeping the unseal key beside the data
 * is a convenience of the lab: in production the seal is somebody else's (a KMS, an HSM, people).
 */
import { mkdir, readFile, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { z } from "zod";
import { ForeshiftError } from "../models/errors.ts";
import { VaultMounts, type VaultProcess } from "../models/vault-layout.ts";
import { readIfThere, writePrivate } from "./files.ts";
import { findOpenBao } from "./find.ts";
import { withLock } from "./lock.ts";
import { makePaths } from "./paths.ts";
import { LOOPBACK, onChosenPorts } from "./ports.ts";
import { asService, externalService, type Service, type ServiceOptions, startChild } from "./service.ts";
import { registerAwsPlugin, statedEnrolments } from "./vault-aws.ts";
import { callVault, type VaultAdmin } from "./vault-call.ts";
import { layOutVault, layoutStamp, type VaultLayout, wrappedCredentials } from "./vault-layout.ts";

export interface OpenBaoService extends Service {
  /** File of mode 0600 with the token of whoever sets Vault up; no process of Foreshift uses it. */
  readonly tokenFile: string;
  readonly mounts: VaultMounts;
  readonly namespace: string | undefined;
  /** Unix socket it listens on as well; undefined for an external one. */
  readonly socket: string | undefined;
  /** Writes a process's credentials file, mode 0600, with a wrapped secret-id: good for one opening within ten minutes. */
  deliver(process: VaultProcess, file: string): Promise<void>;
}

const TOKEN_PERIOD = "768h";
/** Of the lab. */
const SWARMS = ["lab"];
/** Of whoever tries things out by hand and of the tests; no process of Foreshift has it. */
const OWN_POLICY = ["foreshift", "transit", "foreshift-pki", "auth/foreshift", "auth/foreshift-agents"]
  .map((mount) => `path "${mount}/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }`)
  .join("\n");

const keysSchema = z.object({ unsealKey: z.string().min(1), rootToken: z.string().min(1) });
type Keys = z.infer<typeof keysSchema>;
const statusSchema = z.object({ initialized: z.boolean(), sealed: z.boolean() });
const initSchema = z.object({ keys_base64: z.array(z.string()).min(1), root_token: z.string() });
const tokenSchema = z.object({ auth: z.object({ client_token: z.string() }) });

export async function startOpenBao(options: ServiceOptions): Promise<OpenBaoService> {
  await makePaths({ ...options, log: join(options.home, "log") });
  const external = process.env.VAULT_ADDR;
  if (external !== undefined && external !== "") return useExternal(external, options);
  const { source, where } = await findOpenBao();
  if (source === "missing") throw new ForeshiftError("MISSING_TOOL", { value: "bao", detail: where });
  return await onChosenPorts(options.home, ["openbao", "openbao-cluster"], (ports) =>
    startServer(options, where, ports.openbao, ports["openbao-cluster"]),
  );
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
    // The cluster port is opened only once it is unsealed.
    ports: [port],
    isReady: () => withLock(`openbao seal ${options.home}`, () => bringUp(address, folder)),
  });
  const keys = await readKeys(folder);
  const admin = { address, token: keys.rootToken };
  return Object.assign(asService("openbao", address, child), { tokenFile: join(folder, "token"), socket, ...ownAccess(admin) });
}

function configuration(folder: string, port: number, clusterPort: number, socket: string): string {
  const tcp = { address: `${LOOPBACK}:${port}`, cluster_address: `${LOOPBACK}:${clusterPort}`, tls_disable: true };
  // The mode is obeyed only together with an owner.
  const owner = { socket_user: String(process.getuid?.()), socket_group: String(process.getgid?.()) };
  const unix = { address: socket, socket_mode: "0600", ...owner, tls_disable: true };
  const plugins = pluginFolder();
  return JSON.stringify({
    // One node only; the multiplier makes it elect itself quickly.
    storage: { raft: { path: join(folder, "data"), node_id: "foreshift", performance_multiplier: 1 } },
    listener: [{ tcp }, { unix }],
    api_addr: `http://${LOOPBACK}:${port}`,
    cluster_addr: `https://${LOOPBACK}:${clusterPort}`,
    disable_mlock: true,
    ...(plugins === undefined ? {} : { plugin_directory: plugins }),
    log_level: "warn",
    ui: false,
  });
}

/** Initialised, unsealed, mounted and with a token of ours that is valid: only then it is ready. */
async function bringUp(address: string, folder: string): Promise<boolean> {
  const status = statusSchema.parse(await callVault({ address }, "GET", "sys/seal-status"));
  const keys = status.initialized ? await readKeys(folder) : await initialise(address, folder);
  if (status.sealed) await callVault({ address }, "PUT", "sys/unseal", { body: { key: keys.unsealKey } });
  const after = statusSchema.parse(await callVault({ address }, "GET", "sys/seal-status"));
  if (after.sealed) return false;
  const plugins = pluginFolder();
  if (plugins !== undefined) await registerAwsPlugin({ address, token: keys.rootToken }, plugins);
  await layOut({ address, token: keys.rootToken }, join(folder, "layout"), layoutWith(chosenMounts({})));
  await callVault({ address, token: keys.rootToken }, "PUT", "sys/policies/acl/foreshift", { body: { policy: OWN_POLICY } });
  await ensureToken(address, folder, keys.rootToken);
  return true;
}

/** The marker says that data may exist whose key was never written down; such data holds nothing and is given up. */
async function initialise(address: string, folder: string): Promise<Keys> {
  await writePrivate(join(folder, "initialising"), "");
  const body = { secret_shares: 1, secret_threshold: 1 };
  const answer = initSchema.parse(await callVault({ address }, "PUT", "sys/init", { body }));
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

/** Skipped when nothing of it has changed since the last time: it costs dozens of writes. */
async function layOut(admin: VaultAdmin, stampFile: string, layout: VaultLayout): Promise<void> {
  const stamp = await layoutStamp(layout);
  if ((await readIfThere(stampFile)) === stamp) return;
  await layOutVault(admin, layout);
  await writePrivate(stampFile, stamp);
}

function layoutWith(mounts: VaultMounts): VaultLayout {
  return { mounts, swarms: SWARMS, aws: statedEnrolments(process.env) };
}

/** Folder with plugins of an OpenBao of our own; none unless it is stated. */
function pluginFolder(): string | undefined {
  const { FORESHIFT_OPENBAO_PLUGINS: folder = "" } = process.env;
  return folder === "" ? undefined : folder;
}

/** `FORESHIFT_VAULT_MOUNTS` holds a JSON object with those that differ from the usual; a Vault of our own has the usual ones. */
function chosenMounts(env: NodeJS.ProcessEnv): VaultMounts {
  const value = env.FORESHIFT_VAULT_MOUNTS;
  try {
    return VaultMounts.parse(value === undefined || value === "" ? {} : JSON.parse(value));
  } catch {
    const detail = `expected a JSON object with some of ${Object.keys(VaultMounts.shape).join(", ")}`;
    throw new ForeshiftError("INVALID_FIELD", { field: "FORESHIFT_VAULT_MOUNTS", value: value ?? "", detail });
  }
}

function ownAccess(admin: VaultAdmin) {
  return access(admin, chosenMounts({}));
}

function access(admin: VaultAdmin, mounts: VaultMounts) {
  const deliver = async (process: VaultProcess, file: string) => {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    await writePrivate(file, `${JSON.stringify(await wrappedCredentials(admin, mounts.approle, process))}\n`);
  };
  return { mounts, namespace: admin.namespace, deliver };
}

async function ensureToken(address: string, folder: string, rootToken: string): Promise<void> {
  const file = join(folder, "token");
  const known = (await readIfThere(file))?.trim();
  if (known !== undefined && known !== "") {
    const renewed = await callVault({ address, token: known }, "POST", "auth/token/renew-self", { body: {} }).catch(
      () => undefined,
    );
    if (renewed !== undefined) return;
  }
  const body = { policies: ["foreshift"], period: TOKEN_PERIOD, display_name: "foreshift" };
  const answer = tokenSchema.parse(
    await callVault({ address, token: rootToken }, "POST", "auth/token/create-orphan", { body }),
  );
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
  const admin = { address, token: token.trim(), namespace: process.env.VAULT_NAMESPACE };
  await callVault(admin, "GET", "auth/token/lookup-self");
  const mounts = chosenMounts(process.env);
  await layOut(admin, join(options.home, "vault-external.layout"), layoutWith(mounts));
  const tokenFile = join(options.home, "vault-external.token");
  await writePrivate(tokenFile, `${token.trim()}\n`);
  return Object.assign(externalService("openbao", address), { tokenFile, socket: undefined, ...access(admin, mounts) });
}

function baoFolder(home: string): string {
  return join(home, "openbao");
}
