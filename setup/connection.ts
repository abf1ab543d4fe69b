/**
 * Where the command line finds Temporal, PostgreSQL and the local sockets: environment first, then what the running lab wrote down.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { ForeshiftError } from "../models/errors.ts";
import { parseInput } from "../models/parse.ts";
import { paths } from "./paths.ts";

export const Connection = z.strictObject({
  temporalAddress: z.string().min(1),
  temporalNamespace: z.string().min(1),
  /** Of Temporal's Web UI; absent when it is not known. */
  temporalUi: z.string().optional(),
  databaseUrl: z.string().min(1),
  /** Certificate of the person at the command line, for processes that ask for one; absent where none does. */
  identityDir: z.string().optional(),
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

/** UNREACHABLE with the remedy when neither the environment nor a lab says where things are. */
export async function connection(): Promise<Connection> {
  const written = await readFile(connectionFile(), "utf8").then(
    (text) => parseInput(Connection, JSON.parse(text), connectionFile()),
    () => undefined,
  );
  const { run } = paths();
  const temporalAddress = process.env.TEMPORAL_ADDRESS ?? written?.temporalAddress;
  const databaseUrl = process.env.DATABASE_URL ?? written?.databaseUrl;
  if (temporalAddress === undefined || databaseUrl === undefined) {
    const field = temporalAddress === undefined ? "TEMPORAL_ADDRESS" : "DATABASE_URL";
    throw new ForeshiftError("UNREACHABLE", {
      field,
      value: "no address",
      detail: "it is not set, and no lab runs (`foreshift lab up`)",
    });
  }
  return {
    temporalAddress,
    temporalNamespace: process.env.TEMPORAL_NAMESPACE ?? written?.temporalNamespace ?? "default",
    ...(written?.temporalUi === undefined ? {} : { temporalUi: written.temporalUi }),
    databaseUrl,
    ...(written?.identityDir === undefined ? {} : { identityDir: written.identityDir }),
    sockets: written?.sockets ?? localSockets(run),
  };
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
