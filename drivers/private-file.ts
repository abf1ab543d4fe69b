/**
 * Files for their owner only, replaced as a whole and on the disk before the write returns.
 */
import { randomBytes } from "node:crypto";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { ForeshiftError, messageOf } from "../models/errors.ts";

/** DISK when it cannot; what was there before is intact then. */
export async function writePrivately(file: string, content: string | Uint8Array): Promise<void> {
  const temporary = `${file}.${randomBytes(4).toString("hex")}`;
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    const handle = await open(temporary, "wx", 0o600);
    try {
      await handle.writeFile(content);
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
