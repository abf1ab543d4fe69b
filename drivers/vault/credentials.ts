/**
 * A process's AppRole on disk: one file, mode 0600. Delivered with a secret-id that is wrapped, so that whoever opens it first is the
 * only one who does; the process unwraps it and keeps the secret-id in its place, a fresh one after each login.
 */
import { randomBytes } from "node:crypto";
import { open, readFile, rename, rm, stat } from "node:fs/promises";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";

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

/** Replaced as a whole and on the disk before it returns: the old secret-id is of no use once the new one is. */
export async function writeCredentials(file: string, credentials: Credentials): Promise<void> {
  const temporary = `${file}.${randomBytes(4).toString("hex")}`;
  try {
    const handle = await open(temporary, "wx", 0o600);
    try {
      await handle.writeFile(`${JSON.stringify(credentials)}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (thrown) {
    await rm(temporary, { force: true });
    throw new ForeshiftError("DISK", { value: file, detail: messageOf(thrown) });
  }
}
