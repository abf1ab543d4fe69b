/**
 * A process's AppRole on disk: one file, mode 0600. Delivered with a secret-id that is wrapped, so that whoever opens it first is the
 * only one who does; the process unwraps it and keeps the secret-id in its place, a fresh one after each login.
 */
import { readFile, stat } from "node:fs/promises";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { writePrivately } from "../private-file.ts";

const text = z.string().min(1);
/** The AppRole's mount and its name. */
const role = { mount: text, role: text, roleId: text };
const Wrapped = z.strictObject({ ...role, wrappingToken: text });
const Opened = z.strictObject({ ...role, secretId: text });
export const Credentials = z.union([Wrapped, Opened]);
export type Credentials = z.infer<typeof Credentials>;
export type OpenedCredentials = z.infer<typeof Opened>;

/** UNAUTHORISED when it is missing, readable by others or not what it should be; what is in it is never shown. */
export async function readCredentials(file: string): Promise<Credentials> {
  try {
    const { mode } = await stat(file);
    if ((mode & 0o077) !== 0) throw new Error("others may read it; make it mode 0600 and deliver a new secret-id");
    const parsed = Credentials.safeParse(JSON.parse(await readFile(file, "utf8")));
    if (parsed.success) return parsed.data;
    throw new Error("it is not a credentials file");
  } catch (thrown) {
    const detail = thrown instanceof SyntaxError ? "it is not JSON" : messageOf(thrown);
    throw new ForeshiftError("UNAUTHORISED", { field: `vault (${file})`, detail });
  }
}

/** On the disk before it returns: the old secret-id is of no use once the new one is. */
export async function writeCredentials(file: string, credentials: Credentials): Promise<void> {
  await writePrivately(file, `${JSON.stringify(credentials)}\n`);
}
