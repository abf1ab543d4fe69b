/**
 * A process's AppRole on disk: one file, mode 0600. Delivered with a secret-id that is wrapped, so that whoever opens it first is the
 * only one who does; the process unwraps it and keeps the secret-id in its place, a fresh one after each login.
 */
import { readFile, rm, stat, writeFile } from "node:fs/promises";
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

/** One process at a time uses the file; the turn of one that was killed is over at once, or, where that cannot be seen, after a while. */
export async function withCredentials<T>(file: string, work: () => Promise<T>): Promise<T> {
  const turn = `${file}.turn`;
  while (!(await takeTurn(turn))) {
    if (await isOver(turn)) await rm(turn, { force: true });
    else await delay(IDENTITY_LIMITS.fileTurnPollMs);
  }
  try {
    return await work();
  } finally {
    await rm(turn, { force: true });
  }
}

async function takeTurn(turn: string): Promise<boolean> {
  try {
    await writeFile(turn, String(process.pid), { flag: "wx", mode: 0o600 });
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw new ForeshiftError("DISK", { value: turn, detail: messageOf(thrown) });
  }
}

async function isOver(turn: string): Promise<boolean> {
  try {
    const pid = Number(await readFile(turn, "utf8"));
    const { mtimeMs } = await stat(turn);
    return Date.now() - mtimeMs > IDENTITY_LIMITS.fileTurnMsMax || (pid > 0 && !isAlive(pid));
  } catch {
    // Given back in between.
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code !== "ESRCH";
  }
}
