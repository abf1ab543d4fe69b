/** Small files that must never be seen half-written. */
import { randomBytes } from "node:crypto";
import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { ForeshiftError, messageOf } from "../models/errors.ts";

/** Replaces the file as a whole, for its owner only, and on the disk before it returns. */
export async function writePrivate(file: string, content: string): Promise<void> {
  const temporary = `${file}.${randomBytes(4).toString("hex")}`;
  try {
    await writeSynced(temporary, content);
    await rename(temporary, file);
    await syncFolder(dirname(file));
  } catch (thrown) {
    await rm(temporary, { force: true });
    throw new ForeshiftError("DISK", { value: file, detail: messageOf(thrown) });
  }
}

export async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new ForeshiftError("DISK", { value: file, detail: messageOf(thrown) });
  }
}

async function writeSynced(file: string, content: string): Promise<void> {
  const handle = await open(file, "wx", 0o600);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
