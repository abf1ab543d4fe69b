/**
 * A process's AppRole on disk: one file, mode 0600. Delivered with a secret-id that is wrapped, so that whoever opens it first is the
 * only one who does; the process unwraps it and keeps the secret-id in its place, a fresh one after each login.
 */
import { open, readFile, rm, stat } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { IDENTITY_LIMITS } from "../../models/limits-identity.ts";
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

/** One process at a time uses the file; what a process that was killed left of its turn is over after a while. */
export async function withCredentials<T>(file: string, work: () => Promise<T>): Promise<T> {
  const { fileTurnMsMax, fileTurnPollMs } = IDENTITY_LIMITS;
  const turn = `${file}.turn`;
  for (;;) {
    try {
      await (await open(turn, "wx", 0o600)).close();
      break;
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== "EEXIST")
        throw new ForeshiftError("DISK", { value: turn, detail: messageOf(thrown) });
      const takenAtMs = await stat(turn).then(
        ({ mtimeMs }) => mtimeMs,
        () => Date.now(),
      );
      if (Date.now() - takenAtMs > fileTurnMsMax) await rm(turn, { force: true });
      else await delay(fileTurnPollMs);
    }
  }
  try {
    return await work();
  } finally {
    await rm(turn, { force: true });
  }
}
