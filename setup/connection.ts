/**
 * Where the command line finds Temporal, PostgreSQL and the local sockets: environment first, then what the running lab wrote down.
 */
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { ForeshiftError } from "../models/errors.ts";
import { parseInput } from "../models/parse.ts";
import { paths } from "./paths.ts";

export const Connection = z.strictObject({
  temporalAddress: z.string().min(1),
  temporalNamespace: z.string().min(1),
  /** Temporal's Web UI with payloads opened: its address, and the file with the token that lets a person in. */
  codec: z.strictObject({ address: z.url(), tokenFile: z.string().min(1) }).optional(),
  databaseUrl: z.string().min(1),
  /** Certificate of the person at the command line, for processes that ask for one; absent where none does. */
  identityDir: z.string().optional(),
  /** Who opens it checks it (drivers/temporal-codec/policy.ts). */
  payloads: z.looseObject({ mode: z.enum(["sealed", "plain"]) }),
  sockets: z.strictObject({
    reflex: z.string(),
    hypervisor: z.string(),
    collector: z.string(),
    control: z.string(),
    trainer: z.string(),
    supervisor: z.string(),
  }),
});
export type Connection = z.infer<typeof Connection>;

/** The file that a running lab keeps for the commands beside it; it holds the database's password, so mode 0600. */
export function connectionFile(home: string = paths().home): string {
  return join(home, "config", "connection.json");
}

/** NOT_CONFIGURED when neither the environment nor a lab says where things are. */
export async function connection(): Promise<Connection> {
  const written = await writtenByLab();
  const { TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE } = process.env;
  return {
    temporalAddress: stated("TEMPORAL_ADDRESS", TEMPORAL_ADDRESS ?? written?.temporalAddress),
    temporalNamespace: TEMPORAL_NAMESPACE ?? written?.temporalNamespace ?? "default",
    ...codecOf(written),
    databaseUrl: databaseOf(written),
    ...processesOf(written),
    payloads: payloadPolicy(written),
  };
}

/** For who reads the database and asks nobody else. */
export async function databaseAddress(): Promise<string> {
  return databaseOf(await writtenByLab());
}

/** For who asks a process of this host. */
export async function localProcesses(): Promise<Pick<Connection, "identityDir" | "sockets">> {
  return processesOf(await writtenByLab());
}

/** For who is let into the Web UI. */
export async function codecAccess(): Promise<NonNullable<Connection["codec"]>> {
  const { codec } = codecOf(await writtenByLab());
  return stated("FORESHIFT_CODEC, with FORESHIFT_CODEC_TOKEN_FILE,", codec);
}

async function writtenByLab(): Promise<Connection | undefined> {
  return await readFile(connectionFile(), "utf8").then(
    (text) => parseInput(Connection, JSON.parse(text), connectionFile()),
    () => undefined,
  );
}

function stated<T>(field: string, value: T | undefined): T {
  if (value === undefined) throw new ForeshiftError("NOT_CONFIGURED", { field });
  return value;
}

function databaseOf(written: Connection | undefined): string {
  return stated("DATABASE_URL", process.env.DATABASE_URL ?? written?.databaseUrl);
}

function processesOf(written: Connection | undefined): Pick<Connection, "identityDir" | "sockets"> {
  const identity = written?.identityDir === undefined ? {} : { identityDir: written.identityDir };
  return { ...identity, sockets: written?.sockets ?? localSockets(paths().run) };
}

/**
 * As the lab that runs states it. Beside a Temporal of one's own, `FORESHIFT_PAYLOADS` is `plain`, or the mount and name of the transit key,
 * `transit/payloads` unless stated; Vault is where `VAULT_ADDR` says, its token in `VAULT_TOKEN_FILE` or where Vault's own tools keep it.
 */
function payloadPolicy(written: Connection | undefined): Connection["payloads"] {
  const { TEMPORAL_ADDRESS, FORESHIFT_PAYLOADS: policy = "transit/payloads", VAULT_ADDR, VAULT_NAMESPACE } = process.env;
  if (TEMPORAL_ADDRESS === undefined && written !== undefined) return written.payloads;
  if (policy === "plain") return { mode: "plain" };
  const [, transit, key] = /^(.+)\/([^/]+)$/.exec(policy) ?? [];
  if (transit === undefined || key === undefined || VAULT_ADDR === undefined) {
    const detail = "set VAULT_ADDR, and the transit key as MOUNT/KEY, or state that payloads are `plain`";
    throw new ForeshiftError("INVALID_FIELD", { field: "FORESHIFT_PAYLOADS", value: policy, detail });
  }
  const tokenFile = process.env.VAULT_TOKEN_FILE ?? join(homedir(), ".vault-token");
  const vault = {
    address: VAULT_ADDR,
    ...(VAULT_NAMESPACE === undefined ? {} : { namespace: VAULT_NAMESPACE }),
    mounts: { transit },
    auth: { method: "token-file", tokenFile },
  };
  return { mode: "sealed", vault, key };
}

function codecOf(written: Connection | undefined): Pick<Connection, "codec"> {
  const { FORESHIFT_CODEC: address, FORESHIFT_CODEC_TOKEN_FILE: tokenFile } = process.env;
  if (address !== undefined && tokenFile !== undefined) return { codec: { address, tokenFile } };
  return written?.codec === undefined ? {} : { codec: written.codec };
}

/** The sockets of one host's processes, in its run directory. */
export function localSockets(run: string): Connection["sockets"] {
  const at = (name: string) => join(run, `${name}.sock`);
  return {
    reflex: at("reflex"),
    hypervisor: at("hypervisor"),
    collector: at("collector"),
    control: at("control"),
    trainer: at("trainer"),
    supervisor: at("supervisor"),
  };
}
